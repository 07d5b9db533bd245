"""The label and box tables of a cohort of phantoms."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from radclear.phantom.disease import stream
from radclear.phantom.labels import DISEASE_CLASSES, LOCATION_CLASSES

SPLITS = ("train", "val", "test")
LABEL_COLUMNS = (
    "study",
    "patient",
    "split",
    *(f"location_{name}" for name in LOCATION_CLASSES),
    *(f"disease_{name}" for name in DISEASE_CLASSES),
    "stage",
    "t",
    "n",
    "m",
)
BOX_COLUMNS = ("study", "slice", "x1", "y1", "x2", "y2", "site", "kind")


def patient_name(seed: int) -> str:
    """What a cohort calls the patient of the phantom with this seed."""
    return f"PHANTOM-{seed:04d}"


def assign_splits(seed: int, n_patients: int, splits: tuple[float, float, float]) -> list[str]:
    """The split of each patient, drawn at random: exact up to rounding."""
    n_train = round(splits[0] * n_patients)
    n_val = min(round(splits[1] * n_patients), n_patients - n_train)
    ordered = ["train"] * n_train + ["val"] * n_val + ["test"] * (n_patients - n_train - n_val)
    return [ordered[place] for place in stream(seed, "splits").permutation(n_patients)]


def write_tables(folder: Path, names: list[str], records: dict[str, dict], splits: list[str]) -> None:
    """Write both tables, each as a whole.

    Args:
        folder: of the cohort.
        names: of its studies.
        records: of each study, its settings, labels and boxes.
        splits: of each study.
    """
    labels = []
    boxes = []
    for name, split in zip(names, splits, strict=True):
        record = records[name]
        patient = patient_name(record["settings"]["seed"])
        nifti = record["settings"]["format"] == "nifti"
        study = f"{name}/{name}.nii.gz" if nifti else name  # as `radclear.ct.find_studies` calls it
        labels.append({"study": study, "patient": patient, "split": split, **record["labels"]})
        boxes += [dict(zip(BOX_COLUMNS, (study, *box), strict=True)) for box in record["boxes"]]
    for file_name, columns, rows in (
        ("labels.csv", LABEL_COLUMNS, labels),
        ("boxes.csv", BOX_COLUMNS, boxes),
    ):
        temporary = folder / f".{file_name}.{os.getpid()}.tmp"
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, folder / file_name)
