"""A plain table: one row per image or series, or per lesion box, from whatever source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from radclear.errors import without_patients
from radclear.pretraining.decoded_series import DecodedSeries
from radclear.pretraining.errors import PretrainingDataError
from radclear.pretraining.slice_rows import SliceRow, table_of_splits
from radclear.pretraining.tables import box_of_row, number, one_class, read_table

COLUMNS = (
    "image", "series", "slice", "study", "patient", "split", "x1", "y1", "x2", "y2", "lesion_class", "label",
    "hu_offset",
)  # fmt: skip


def read_slice_table(
    path: str | Path,
    *,
    series: DecodedSeries,
    columns: Mapping[str, str] | None = None,
    root: str | Path | None = None,
    splits: Sequence[str] | None = None,
) -> list[SliceRow]:
    """The slices of a table.

    Needed are `image` or `series` (paths relative to `root`), `patient` and `split`. An image with several
    boxes has a row for each. `hu_offset` (HU = value + offset) is needed for 16-bit images; 8-bit images have
    no HU and get no window. A series without `slice` stands for all its slices; with boxes it needs `slice`,
    from 0 at the foot end.

    Args:
        path: CSV or Parquet.
        series: where series are decoded once.
        columns: name used here → name in the table, for those that differ.
        root: that paths are relative to; the table's folder when omitted.
        splits: decode and read rows of these splits only; all when omitted. Patients are checked in all.

    Returns:
        One row per slice.

    Raises:
        PretrainingDataError: a column, file or number is missing or wrong; names the line.
    """
    path = Path(path)
    root = Path(root) if root else path.parent
    table = read_table(path)
    table = _renamed(table, columns or {}, path)
    places = [name for name in ("image", "series") if name in table]
    absent = [name for name in ("patient", "split") if name not in table]
    if not places or absent:
        raise PretrainingDataError(
            f"{path} has the columns {', '.join(table.columns)}; needed are image or series, patient and "
            "split. Name columns that are called otherwise: --columns \"{'image': 'file', …}\""
            + without_patients(absent, each=places[0] if places else "study")
        )
    table.index = range(2, len(table) + 2)  # lines of the file
    table = table_of_splits(table, splits)
    named = sorted({name for name in table.get("series", ()) if name})
    depths = series.prepare_paths({name: root / name for name in named})
    slices: dict[tuple[str, int], list[dict]] = {}
    for line, row in zip(table.index, table.to_dict("records"), strict=True):
        row["where"] = where = f"{path.name}, line {line}"
        row["box"] = box_of_row(row, where=where)
        image, one_series = row.get("image", ""), row.get("series", "")
        if bool(image) == bool(one_series):
            raise PretrainingDataError(f"{where} names {'both' if image else 'neither'} image and series")
        if image:
            slices.setdefault((image, -1), []).append(row)
            continue
        if one_series not in depths:
            continue  # could not be read; the log says so
        depth = depths[one_series][1]
        chosen = range(depth)
        if row.get("slice", ""):
            z = number(row["slice"], column="slice", where=where)
            if z != int(z) or not 0 <= z < depth:
                raise PretrainingDataError(
                    f"{where}: slice {row['slice']} of a series with slices 0 to {depth - 1}"
                )
            chosen = range(int(z), int(z) + 1)
        elif row["box"] is not None:
            raise PretrainingDataError(f"{where} has a box but no slice; expected the slice it is on")
        for z in chosen:
            slices.setdefault((one_series, z), []).append(row)
    return [
        _row(root / place if z < 0 else depths[place][0], place, z, rows)
        for (place, z), rows in slices.items()
    ]


def _renamed(table, columns: Mapping[str, str], path: Path):
    if unknown := sorted(set(columns) - set(COLUMNS)):
        raise PretrainingDataError(
            f"columns names {', '.join(unknown)}; expected some of {', '.join(COLUMNS)}"
        )
    if absent := sorted(set(columns.values()) - set(table.columns)):
        raise PretrainingDataError(
            f"{path} has no column {', '.join(absent)}; it has {', '.join(table.columns)}"
        )
    table = table.drop(columns=[name for name in columns if name in table and columns[name] != name])
    return table.assign(**{name: table[old] for name, old in columns.items() if old in table})


def _row(path: Path, place: str, z: int, rows: list[dict]) -> SliceRow:
    first = rows[0]
    for name in ("patient", "split", "label", "hu_offset"):
        if any(row.get(name) != first.get(name) for row in rows):
            raise PretrainingDataError(
                f"{rows[-1]['where']}: {name} is not the same as in the other rows of this slice"
            )
    if z < 0 and not path.is_file():
        raise PretrainingDataError(f"{first['where']}: {path} does not exist")
    offset = first.get("hu_offset", "")
    boxed = [row for row in rows if row["box"] is not None]
    kind = one_class([row.get("lesion_class", "") for row in boxed]) if boxed else ""
    return SliceRow(
        path,
        study=first.get("study", "") or place,
        patient=first["patient"],
        split=first["split"],
        slice_index=z,
        boxes=tuple(row["box"] for row in boxed),
        lesion_class=kind,
        label=first.get("label", "") or kind,
        hu_offset=int(number(offset, column="hu_offset", where=first["where"])) if offset and z < 0 else None,
    )
