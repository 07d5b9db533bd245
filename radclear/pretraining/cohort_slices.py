"""CT series with a table of studies and a table of boxes, as `radclear phantom` writes them too."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from radclear.ct import CTInputError, find_studies
from radclear.errors import without_patients
from radclear.phantom.labels import DISEASE_CLASSES
from radclear.pretraining.decoded_series import DecodedSeries
from radclear.pretraining.errors import PretrainingDataError
from radclear.pretraining.slice_rows import SliceRow, table_of_splits
from radclear.pretraining.tables import box_of_row, number, one_class, read_table

logger = logging.getLogger(__name__)


def read_cohort(
    folder: str | Path,
    *,
    series: DecodedSeries,
    labels: str | Path | None = None,
    boxes: str | Path | None = None,
    studies: str | Path | None = None,
    class_columns: Sequence[str] = ("site", "kind"),
    splits: Sequence[str] | None = None,
) -> list[SliceRow]:
    """Every slice of every series.

    Args:
        folder: of the cohort.
        series: where series are decoded once.
        labels: table with `study` (path below the studies folder), `patient` and `split`, optionally
            `label`; `labels.csv` of the folder when omitted.
        boxes: table with `study`, `slice` (from 0 at the foot end), `x1`, `y1`, `x2`, `y2` in pixels;
            `boxes.csv` of the folder when omitted, and no boxes where there is no such file.
        studies: folder of the series; `studies` of the folder when omitted.
        class_columns: of the box table, which together are the class of a lesion, where they are there.
        splits: decode and read series of these splits only; all when omitted. Patients are checked in all.

    Returns:
        One row per slice.

    Raises:
        PretrainingDataError: a table or study is missing, or a box lies outside its series.
    """
    folder = Path(folder)
    labels_path = Path(labels) if labels else folder / "labels.csv"
    table = read_table(labels_path)
    if absent := [name for name in ("study", "patient", "split") if name not in table]:
        raise PretrainingDataError(
            f"{labels_path} lacks the columns {', '.join(absent)}{without_patients(absent)}"
        )
    table = table_of_splits(table, splits)
    studies_path = Path(studies) if studies else folder / "studies"
    try:
        sources = {source.name: source for source in find_studies(studies_path)}
    except CTInputError as error:
        raise PretrainingDataError(f"{studies_path}: {error}") from error
    wanted = list(table["study"])
    if absent := [name for name in wanted if name not in sources]:
        raise PretrainingDataError(
            f"{len(absent)} of {len(wanted)} studies of {labels_path} are not in {studies_path}, such as "
            f"{absent[0]!r}; expected paths below that folder"
        )
    by_slice = _boxes(Path(boxes) if boxes else folder / "boxes.csv", class_columns, required=bool(boxes))
    depths = series.prepare([sources[name] for name in wanted])
    rows = []
    for entry in table.to_dict("records"):
        name = entry["study"]
        depth = depths.get(sources[name].path)
        if depth is None:
            continue  # could not be read; `prepare` has said so
        found = by_slice.pop(name, {})
        if outside := [z for z in found if not 0 <= z < depth]:
            raise PretrainingDataError(
                f"the box table names slice {outside[0]} of {name}, which has slices 0 to {depth - 1}"
            )
        for z in range(depth):
            lesions = found.get(z, [])
            kind = one_class([lesion[1] for lesion in lesions]) if lesions else ""
            rows.append(
                SliceRow(
                    sources[name].path,
                    study=name,
                    patient=entry["patient"],
                    split=entry["split"],
                    slice_index=z,
                    boxes=tuple(lesion[0] for lesion in lesions),
                    lesion_class=kind,
                    label=entry.get("label", "") or kind,
                    tumor=not lesions or any(lesion[2] for lesion in lesions),
                )
            )
    unused = len(set(by_slice) - set(read_table(labels_path)["study"]))
    if unused:
        raise PretrainingDataError(f"the box table names {unused} studies that {labels_path} does not have")
    return rows


def _boxes(path: Path, class_columns: Sequence[str], *, required: bool) -> dict[str, dict[int, list[tuple]]]:
    """Study → slice → boxes with their class and whether it is a lesion, not a sign of lung disease."""
    if not path.is_file() and not required:
        logger.warning("%s does not exist, so no slice has a lesion", path)
        return {}
    table = read_table(path)
    if absent := [name for name in ("study", "slice", "x1", "y1", "x2", "y2") if name not in table]:
        raise PretrainingDataError(f"{path} lacks the columns {', '.join(absent)}")
    columns = [name for name in class_columns if name in table]
    found: dict[str, dict[int, list[tuple]]] = {}
    for line, row in enumerate(table.to_dict("records"), start=2):
        where = f"{path.name}, line {line}"
        z = number(row["slice"], column="slice", where=where)
        box = box_of_row(row, where=where)
        if box is None or z != int(z):
            raise PretrainingDataError(f"{where}: slice {row['slice']!r} needs a whole number and a box")
        kind = " ".join(row[name] for name in columns if row[name])
        found.setdefault(row["study"], {}).setdefault(int(z), []).append(
            (box, kind, row.get("kind", "") not in DISEASE_CLASSES)
        )
    return found
