"""One table of slices to pre-train on: phantoms, and the real slices whose licence lets weights be passed on.

Of the real data, slices of DeepLesion (NIH, attribution), a series of Lung-PET-CT-Dx (CC BY 4.0) and one of
Lung-Fused-CT-Pathology (CC BY 3.0) are taken. Sets with other terms, and those that the comparison on real
slices tests on, are not.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from radclear.errors import RadclearError
from radclear.phantom import LESION_KINDS

COLUMNS = (
    "series",
    "image",
    "slice",
    "patient",
    "split",
    "x1",
    "y1",
    "x2",
    "y2",
    "lesion_class",
    "hu_offset",
)
DEEPLESION_OFFSET = -32768
#: Folder below the data → folder of its series, and who it is.
SERIES = {
    "lung_pet_ct_dx": ("dicom/Lung_Dx-A0001/series_2", "Lung_Dx-A0001"),
    "lung_fused_ct_pathology": ("dicom/LungFCP-01-0001", "LungFCP-01-0001"),
}


def phantom_rows(cohort: Path) -> Iterator[dict]:
    """A row per phantom for all of its slices, and one per box of a tumor lesion."""
    labels = pd.read_csv(cohort / "labels.csv", dtype=str, keep_default_na=False).set_index("study")
    boxes = pd.read_csv(cohort / "boxes.csv", dtype=str, keep_default_na=False)
    for study, label in labels.iterrows():
        yield _phantom(cohort, study, label)
    for box in boxes[boxes["kind"].isin(LESION_KINDS)].to_dict("records"):
        place = {name: box[name] for name in ("slice", "x1", "y1", "x2", "y2")}
        row = _phantom(cohort, box["study"], labels.loc[box["study"]])
        yield {**row, **place, "lesion_class": box["site"]}


def _phantom(cohort: Path, study: str, label: pd.Series) -> dict:
    split = "val" if label["split"] == "val" else "train"
    return {
        "series": (cohort / "studies" / study).resolve(),
        "patient": label["patient"],
        "split": split,
    }


def real_rows(data: Path) -> Iterator[dict]:
    """A row per box of a 16-bit DeepLesion slice, and one per series.

    Raises:
        RadclearError: a file of the data is missing.
    """
    folder = data / "deeplesion"
    if not (folder / "lesions.csv").is_file():
        raise RadclearError(f"{folder / 'lesions.csv'} does not exist; name the folder with the data: --data")
    for box in pd.read_csv(folder / "lesions.csv", dtype=str, keep_default_na=False).to_dict("records"):
        if not box["path"].startswith("key_slices_16bit/"):
            continue  # 8-bit pictures have lost their Hounsfield units
        yield {
            "image": (folder / box["path"]).resolve(),
            "patient": f"DeepLesion-{box['deeplesion_file_name'].split('_')[0]}",
            "split": "train",
            **{name: box[name] for name in ("x1", "y1", "x2", "y2")},
            "lesion_class": box["coarse_lesion_type_name"].replace(" ", "_"),
            "hu_offset": DEEPLESION_OFFSET,
        }
    for name, (place, patient) in SERIES.items():
        if not (data / name / place).is_dir():
            raise RadclearError(
                f"{data / name / place} does not exist; leave out --data to take no real slices"
            )
        yield {"series": (data / name / place).resolve(), "patient": patient, "split": "train"}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m radclear.experiments.pretraining_table", description=__doc__
    )
    made.add_argument("--cohort", required=True, help="phantoms; those of split `val` are for the probe")
    made.add_argument("--data", help="folder of the real data (default: phantoms alone)")
    made.add_argument("--output", required=True, help="CSV to write")
    return made


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    rows = list(phantom_rows(Path(args.cohort)))
    if args.data:
        rows += real_rows(Path(args.data))
    output = Path(args.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    patients = {(row["patient"], row["split"]) for row in rows}
    n_train = sum(split == "train" for _, split in patients)
    print(f"{len(rows)} rows of {len(patients)} patients, {n_train} of them to train on: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
