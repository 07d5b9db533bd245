"""DeepLesion as the NIH publishes it: `Images_png/<series>/<slice>.png` (16-bit) and `DL_info.csv`.

HU = value − 32768. Yan, Wang, Lu, Summers, J. Med. Imaging 5(3):036501, 2018.
"""

from __future__ import annotations

import logging
from pathlib import Path

from radclear.pretraining.errors import PretrainingDataError
from radclear.pretraining.slice_rows import SliceRow
from radclear.pretraining.tables import box, one_class, read_table

logger = logging.getLogger(__name__)

INFO = "DL_info.csv"
IMAGES = "Images_png"
HU_OFFSET = -32768
SPLITS = {"1": "train", "2": "val", "3": "test"}
TYPES = {
    "1": "bone",
    "2": "abdomen",
    "3": "mediastinum",
    "4": "liver",
    "5": "lung",
    "6": "kidney",
    "7": "soft tissue",
    "8": "pelvis",
}
_NEEDED = ("File_name", "Patient_index", "Bounding_boxes", "Train_Val_Test", "Possibly_noisy")
MISSING = ("error", "skip")


def read_deeplesion(
    folder: str | Path, *, other_slices_every: int = 4, missing: str = "error"
) -> list[SliceRow]:
    """The key slices with their boxes, and slices beside them without.

    Rows marked `Possibly_noisy` are dropped, and with them their slice where it has no other box: it has a
    lesion that nobody vouches for. The boxes of DeepLesion are incomplete by design, so the other slices may
    hold lesions too.

    Args:
        folder: holds `DL_info.csv` and `Images_png`.
        other_slices_every: of the slices without boxes take every n-th; 0 for none. Neighbouring slices are
            nearly equal.
        missing: `"error"` where a key slice has no file, `"skip"` to go on without it (for a part of the
            download).

    Returns:
        One row per slice, in the official splits train, val and test.

    Raises:
        PretrainingDataError: a file or column is missing, or a cell is not what it should be.
    """
    folder = Path(folder)
    if missing not in MISSING or other_slices_every < 0:
        raise PretrainingDataError(
            f"missing is {missing!r}, expected one of {', '.join(MISSING)}; other_slices_every is "
            f"{other_slices_every}, expected 0 or more"
        )
    table = read_table(folder / INFO)
    if absent := [name for name in _NEEDED if name not in table]:
        raise PretrainingDataError(f"{folder / INFO} lacks the columns {', '.join(absent)}")
    images = folder / IMAGES
    if not images.is_dir():
        raise PretrainingDataError(
            f"{folder} has {INFO} but no folder {IMAGES}; unpack the PNG archives there"
        )

    lesions: dict[str, list[dict[str, str]]] = {}
    noisy: set[str] = set()
    series: dict[str, tuple[str, str]] = {}
    for line, row in enumerate(table.to_dict("records"), start=2):
        name = row["File_name"]
        row["where"] = f"{INFO}, line {line}"
        if row["Train_Val_Test"] not in SPLITS:
            raise PretrainingDataError(
                f"{row['where']}: Train_Val_Test is {row['Train_Val_Test']!r}; expected 1, 2 or 3"
            )
        key, owner = name.rpartition("_")[0], (row["Patient_index"], SPLITS[row["Train_Val_Test"]])
        if series.setdefault(key, owner) != owner:
            raise PretrainingDataError(
                f"{row['where']}: series {key} is of patient {owner[0]}, split {owner[1]}; before, it was of "
                f"patient {series[key][0]}, split {series[key][1]}. A series has one patient and one split"
            )
        if row["Possibly_noisy"] in ("0", "0.0", ""):
            lesions.setdefault(name, []).append(row)
        else:
            noisy.add(name)

    rows, absent_files = [], 0
    for name, found in lesions.items():
        folder_name, _, file_name = name.rpartition("_")
        path = images / folder_name / file_name
        if not path.is_file():
            absent_files += 1
            continue
        classes = [TYPES.get(row.get("Coarse_lesion_type", ""), "") for row in found]
        patient, split = series[folder_name]
        rows.append(
            SliceRow(
                path,
                study=folder_name,
                patient=patient,
                split=split,
                boxes=tuple(box(row["Bounding_boxes"].split(","), where=row["where"]) for row in found),
                lesion_class=one_class(classes),
                label=one_class(classes),
                hu_offset=HU_OFFSET,
            )
        )
    if absent_files:
        text = f"{absent_files} of {len(lesions)} key slices of {INFO} have no file below {images}"
        if missing == "error" or not rows:
            raise PretrainingDataError(
                f"{text}; unpack all archives, or go on without them with: --data_options \"{{'missing': "
                "'skip'}\""
            )
        logger.warning("%s; they are left out", text)
    logger.info("%d slices are left out as possibly noisy", len(noisy - set(lesions)))
    if other_slices_every:
        rows += _other_slices(images, series, set(lesions) | noisy, other_slices_every)
    return rows


def _other_slices(
    images: Path, series: dict[str, tuple[str, str]], annotated: set[str], every: int
) -> list[SliceRow]:
    rows = []
    for name, (patient, split) in series.items():
        if not (images / name).is_dir():
            continue
        files = sorted((images / name).glob("*.png"))
        others = [path for path in files if f"{name}_{path.name}" not in annotated]
        rows += [
            SliceRow(path, study=name, patient=patient, split=split, hu_offset=HU_OFFSET)
            for path in others[::every]
        ]
    return rows
