"""Rows of the label table that a head is trained from: verdicts, and a base table where there is one.

Columns and what they hold are those of the head's own `train.json`. Patients are hashes, so that those of the
verdicts and those of the base table can be told to be the same.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.patients import hashed
from radclear.cohort import EmbeddingStore, LabelTable
from radclear.ct import study_key
from radclear.errors import RadclearError

#: Which split a patient's hash falls into, modulo ten: three held out, two to validate, five to train.
SPLITS = ("test", "test", "test", "val", "val", "train", "train", "train", "train", "train")


class TrainingError(RadclearError):
    """A head cannot be trained from what there is."""


@dataclass(frozen=True)
class LabelColumns:
    """How a head's training table writes labels.

    Attributes:
        classes: class → its column (multilabel), or → its value.
        column: the column that holds the class; None for multilabel.
    """

    classes: Mapping[str, str]
    column: str | None

    @classmethod
    def of_bundle(cls, bundle: Path) -> LabelColumns:
        """As `configs/train.json` of the bundle says."""
        table = json.loads((bundle / "configs" / "train.json").read_text(encoding="utf-8"))["table"]
        given = table["classes"]
        classes = given if isinstance(given, dict) else {name: name for name in given}
        first = {k: v if isinstance(v, str) else v[0] for k, v in classes.items()}
        return cls(first, table.get("column"))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return (self.column,) if self.column else tuple(self.classes.values())

    def cells(self, label: Sequence[str]) -> dict[str, str]:
        """A label as cells of its columns."""
        if self.column:
            return {self.column: self.classes[label[0]]}
        return {column: str(int(name in label)) for name, column in self.classes.items()}


def patient_of(path: Path, key: str) -> str:
    """Hash of the PatientID in the first DICOM file below a path; of the study's key where there is none.

    Args:
        path: of the study.
        key: of the study.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files[:20]:
        try:
            found = str(
                dcmread(file, stop_before_pixels=True, specific_tags=["PatientID"]).get("PatientID", "")
            )
        except (InvalidDicomError, OSError, ValueError):
            continue
        if found.strip():
            return hashed(found.strip())
    return hashed(key)


def split_of(patient: str) -> str:
    """The split that a patient is in, always the same: who was held out once stays held out."""
    return SPLITS[int(hashlib.sha256(patient.encode()).hexdigest(), 16) % len(SPLITS)]


def base_rows(
    path: Path, store: EmbeddingStore, columns: LabelColumns, *, not_series: set[str]
) -> tuple[list[dict[str, str]], int]:
    """Rows of the base table that take part, and how many are left out since readers judged their series.

    Args:
        path: CSV with `study`, `patient`, `split` and the label columns.
        store: with its embeddings.
        columns: of the labels.
        not_series: hashes of series that have verdicts.

    Raises:
        TrainingError: a column is missing.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    needed = ("study", "patient", "split", *columns.names)
    missing = [name for name in needed if not rows or name not in rows[0]]
    if missing:
        raise TrainingError(
            f"the base table has no column {', '.join(missing)}; expected {', '.join(needed)}"
        )
    kept, judged = [], 0
    for row in rows:
        key = study_key(row["study"])
        if store.has(key) and store.attributes(key)["series_hash"] in not_series:
            judged += 1
            continue
        kept.append({**{name: row[name] for name in needed}, "patient": hashed(row["patient"])})
    return kept, judged


def reader_rows(
    studies: Sequence[Mapping[str, Any]], columns: LabelColumns, base: Mapping[str, str]
) -> list[dict]:
    """Rows of the studies that readers judged.

    Args:
        studies: with `key`, `patient` and `label`.
        columns: of the labels.
        base: patient → split of the base table; the same patient stays in the same split.
    """
    return [
        {
            "study": study["key"],
            "patient": study["patient"],
            "split": base.get(study["patient"]) or split_of(study["patient"]),
            **columns.cells(study["label"]),
        }
        for study in studies
    ]


def absent_classes(table: LabelTable) -> list[str]:
    """Sentences that name the classes which no study shows that a head was trained on or validated with.

    Args:
        table: what was trained from; the studies held out have warnings of their own.
    """
    found = []
    for split, use, consequence in (
        ("train", "trained on", "the new head cannot have learnt this"),
        ("val", "validated with", "what is chosen there, such as calibration, rests on other studies"),
    ):
        n_positive = table.labels(split).sum(axis=0)
        absent = [name for name, n in zip(table.classes, n_positive, strict=True) if not n]
        if absent:
            found.append(f"No study that was {use} shows {', '.join(absent)}: {consequence}.")
    return found


def write_rows(path: Path, rows: Sequence[Mapping[str, str]], columns: LabelColumns) -> None:
    """The label table as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("study", "patient", "split", *columns.names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
