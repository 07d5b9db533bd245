"""The one row type of pre-training data, whatever it was read from, and what must hold of all rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from radclear.cohort.patients import TRAINING_SPLITS, patient_key
from radclear.pretraining.crops import Box
from radclear.pretraining.errors import PretrainingDataError
from radclear.pretraining.tables import read_table

logger = logging.getLogger(__name__)

MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class SliceRow:
    """One axial slice.

    Attributes:
        path: an image file, or a CT series that `radclear.ct.read_study` reads.
        study: what belongs together as one examination, for counting and for the log.
        patient: who; two rows of one patient are never in two splits.
        split: name of the part it belongs to.
        slice_index: in the series, from 0 at the foot end; −1 for an image.
        boxes: annotated lesions in pixels of the slice; none for other slices.
        lesion_class: kind of the lesions, empty where unknown or mixed.
        label: for the probe, empty where there is none.
        tumor: whether a lesion is among the boxes, and not only signs of lung disease, which phantoms mark
            with boxes too.
        hu_offset: of an image whose HU are value + offset; None where the image has no HU.
    """

    path: Path
    study: str
    patient: str
    split: str
    slice_index: int = -1
    boxes: tuple[Box, ...] = ()
    lesion_class: str = ""
    label: str = ""
    hu_offset: int | None = None
    tumor: bool = True

    @property
    def is_lesion(self) -> bool:
        """Whether the slice has an annotated lesion."""
        return bool(self.boxes)

    @property
    def lesion_or_not(self) -> str:
        """`lesion` with a tumor lesion, `none` without any box, empty where boxes mark other things alone."""
        if not self.boxes:
            return "none"
        return "lesion" if self.tumor else ""

    @property
    def is_series(self) -> bool:
        """Whether `path` is a series."""
        return self.slice_index >= 0

    @property
    def has_hu(self) -> bool:
        """Whether windows apply."""
        return self.is_series or self.hu_offset is not None


def in_split(rows: Iterable[SliceRow], split: str) -> list[SliceRow]:
    """The rows of one split.

    Raises:
        PretrainingDataError: there is none.
    """
    rows = list(rows)
    chosen = [row for row in rows if row.split == split]
    if not chosen:
        found = ", ".join(sorted({row.split for row in rows})) or "no rows at all"
        raise PretrainingDataError(f"no slice is in split {split!r}; the data have: {found}")
    return chosen


def check_patients(
    rows: Sequence[SliceRow], *, train_split: str, evaluation_tables: Sequence[str | Path] = ()
) -> None:
    """Refuse data in which a patient is in two splits, or is trained on and evaluated somewhere.

    Args:
        rows: of all splits.
        train_split: that is trained on.
        evaluation_tables: CSV or Parquet with a column `patient`. Where they have a column `split`, rows of
            a training split hold no evaluation patient; without it, every row does.

    Raises:
        PretrainingDataError: names the patients, at most five, and how many there are.
    """
    for row in rows:
        if not row.patient:
            raise PretrainingDataError(
                f"a slice of study {row.study!r} has no patient; every slice needs one"
            )
    splits = splits_of_patients((row.patient, row.split) for row in rows)
    trained = {patient for patient, found in splits.items() if train_split in found}
    for table in evaluation_tables:
        shared = sorted(trained & evaluation_patients(table, train_split=train_split))
        if shared:
            more = f" and {len(shared) - MAX_NAMED} more" if len(shared) > MAX_NAMED else ""
            raise PretrainingDataError(
                f"{len(shared)} of the patients of split {train_split!r} are to be evaluated, by {table}: "
                f"{', '.join(shared[:MAX_NAMED])}{more}. An encoder that has seen them would make every "
                "result look too good; take them out of the training data, or name another evaluation table"
            )


def splits_of_patients(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Patient, as `patient_key` writes them, → split, of which there may be one only.

    Args:
        pairs: patient and split of every row, also of those in splits that are not read.

    Raises:
        PretrainingDataError: a patient is in two splits; names them, at most five.
    """
    splits: dict[str, set[str]] = {}
    for patient, split in pairs:
        if patient:
            splits.setdefault(patient_key(patient), set()).add(split)
    both = {patient: sorted(found) for patient, found in splits.items() if len(found) > 1}
    if both:
        named = "; ".join(f"{p} in {' and '.join(s)}" for p, s in sorted(both.items())[:MAX_NAMED])
        raise PretrainingDataError(
            f"{len(both)} patients are in more than one split ({named}); all slices of a patient "
            "belong in one"
        )
    return splits


def table_of_splits(table: pd.DataFrame, splits: Sequence[str] | None) -> pd.DataFrame:
    """The rows of a table in these splits, all where None; patients are checked in the whole table.

    Raises:
        PretrainingDataError: a patient is in two splits, or none of these splits is in the table.
    """
    splits_of_patients(zip(table["patient"], table["split"], strict=True))
    if splits is None:
        return table
    chosen = table[table["split"].isin(list(splits))]
    if chosen.empty and len(table):
        raise PretrainingDataError(
            f"no row is in split {' or '.join(map(repr, splits))}; the data have: "
            f"{', '.join(sorted(set(table['split'])))}"
        )
    return chosen


def evaluation_patients(table: str | Path, *, train_split: str = "train") -> set[str]:
    """The patients that an evaluation table holds, as `patient_key` writes them."""
    frame = read_table(table)
    if "patient" not in frame:
        raise PretrainingDataError(
            f"{table} has no column patient (it has {', '.join(frame.columns)}); it is needed to keep "
            "evaluation patients out of pre-training"
        )
    if "split" in frame:
        frame = frame[~frame["split"].str.lower().isin([*TRAINING_SPLITS, train_split.lower()])]
    return {patient_key(patient) for patient in frame["patient"]} - {""}


def describe(rows: Sequence[SliceRow]) -> str:
    """Counts of rows, for the log and the weights' statement."""
    images = [row for row in rows if not row.is_series]
    no_hu = sum(not row.has_hu for row in images)
    text = (
        f"{len(rows)} slices ({sum(row.is_lesion for row in rows)} with a lesion box) of "
        f"{len({row.study for row in rows})} studies of {len({patient_key(row.patient) for row in rows})} "
        "patients"
    )
    if no_hu:
        text += f"; {no_hu} of them are 8-bit images without HU, to which no window is applied"
    return text
