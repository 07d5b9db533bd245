"""The label table of a cohort: who belongs to which split, and what is true of each study."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from radclear.aggregation import check_kind
from radclear.ct import study_key
from radclear.errors import RadclearError

if TYPE_CHECKING:
    from radclear.cohort.store import EmbeddingStore

logger = logging.getLogger(__name__)

KEY_COLUMNS = ("study", "patient", "split")
MISSING = {"", "na", "nan", "n/a", "none", "null"}
YES_NO = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}


class LabelTableError(RadclearError):
    """A label table that would train or evaluate something else than it says."""


@dataclass(frozen=True)
class LabelledStudy:
    """One row of the table.

    Attributes:
        study: name, as in the table.
        key: `radclear.ct.study_key(study)`, under which its embeddings are stored.
        patient: whom it is of.
        split: `"train"`, `"validation"`, `"test"`, or whatever the table calls it.
        label: (C,) tuple of 0.0 and 1.0 for multilabel, class index for multiclass.
    """

    study: str
    key: str
    patient: str
    split: str
    label: tuple[float, ...] | int


@dataclass(frozen=True)
class LabelTable:
    """Labels of a cohort, checked.

    Attributes:
        kind: `"multilabel"` or `"multiclass"`.
        classes: names of the C classes, in the order of the logits.
        studies: the rows that can be used.
        excluded: (study, reason) of the rows that cannot.
        warnings: sentences about what will limit training.
        path: where it was read from.
    """

    kind: str
    classes: tuple[str, ...]
    studies: tuple[LabelledStudy, ...]
    excluded: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    path: Path | None = None

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        classes: Mapping[str, str | Sequence[str]] | Sequence[str],
        kind: str = "multilabel",
        column: str | None = None,
        store: EmbeddingStore | None = None,
        training_split: str = "train",
    ) -> LabelTable:
        """Read a CSV file with columns `study, patient, split` and labels.

        Args:
            path: comma-separated, UTF-8, with a header.
            classes: names in the order of the logits. Multilabel: or class → its column (0/1), where the
                column is not called like the class. Multiclass: or class → the value or values of `column`
                that mean it.
            kind: `"multilabel"` or `"multiclass"`.
            column: the label column of a multiclass table.
            store: studies without embeddings in it are excluded.
            training_split: the split in which every class needs positives.

        Raises:
            LabelTableError: missing columns, a study twice, a patient in two splits, a label that is no
                class.
        """
        path = Path(path)
        check_kind(kind)
        wanted = _wanted(classes, kind, column)
        names = tuple(wanted)
        rows = _read_rows(
            path, required=(*KEY_COLUMNS, *(wanted.values() if kind == "multilabel" else [column]))
        )
        _check_rows(path, rows)
        meaning = {value: i for i, values in enumerate(wanted.values()) for value in values}
        studies, excluded = [], []
        for number, row in rows:
            if row["split"].lower() in MISSING:
                excluded.append((row["study"], "no split"))
                continue
            if kind == "multilabel":
                label, absent = _multilabel(path, number, row, wanted)
            else:
                label, absent = _multiclass(path, number, row[column], column, meaning)
            if absent:
                excluded.append((row["study"], f"no label in {absent}"))
                continue
            key = study_key(row["study"])
            studies.append(LabelledStudy(row["study"], key, row["patient"], row["split"], label))
        if not studies:
            raise LabelTableError(
                f"{path}: none of {len(rows)} rows has a split and labels; nothing can be used"
            )
        table = cls(kind, names, tuple(studies), tuple(excluded), path=path)
        if store is not None:
            table = table.in_store(store)
        return table._with_warnings(training_split)

    def in_store(self, store: EmbeddingStore) -> LabelTable:
        """The table without studies that have no embeddings in `store`; those are listed in `excluded`."""
        absent = {s.key for s in self.studies if not store.has(s.key)}
        reason = f"no embeddings in {store.folder}; make them with: radclear embed"
        if len(absent) == len(self.studies):
            raise LabelTableError(
                f"{self.path or 'table'}: none of {len(absent)} labelled studies has embeddings in "
                f"{store.folder}; the study column must hold the names that radclear embed gave (paths "
                "relative to the folder it was given)"
            )
        return replace(
            self,
            studies=tuple(s for s in self.studies if s.key not in absent),
            excluded=(*self.excluded, *((s.study, reason) for s in self.studies if s.key in absent)),
        )

    def split(self, name: str) -> tuple[LabelledStudy, ...]:
        """The studies of one split.

        Raises:
            LabelTableError: there are none.
        """
        studies = tuple(s for s in self.studies if s.split == name)
        if not studies:
            found = ", ".join(sorted({s.split for s in self.studies}))
            raise LabelTableError(
                f"{self.path or 'table'}: no usable study in split {name!r}; splits found: {found}"
            )
        return studies

    def labels(self, split: str) -> np.ndarray:
        """(N, C) float32 of 0 and 1; multiclass as one-hot."""
        values = [s.label for s in self.split(split)]
        if self.kind == "multilabel":
            return np.asarray(values, dtype=np.float32)
        return np.eye(len(self.classes), dtype=np.float32)[np.asarray(values)]

    def pos_weight(self, split: str = "train") -> list[float]:
        """Per class n_negative / n_positive; 1 for a class without positives, where it has no effect."""
        labels = self.labels(split)
        positives = labels.sum(axis=0)
        return [float((len(labels) - n) / n) if n else 1.0 for n in positives]

    def class_weight(self, split: str = "train") -> list[float]:
        """Per class N / (classes present · n), so that every class present weighs the same and the mean over
        studies is 1; 1 for an absent class, where it has no effect."""
        counts = self.labels(split).sum(axis=0)
        return [float(counts.sum() / ((counts > 0).sum() * n)) if n else 1.0 for n in counts]

    def _with_warnings(self, training_split: str) -> LabelTable:
        """Warn of classes that training cannot learn; said once, here."""
        warnings = []
        if any(s.split == training_split for s in self.studies):
            positives = self.labels(training_split).sum(axis=0)
            total = len(self.split(training_split))
            for name, n in zip(self.classes, positives, strict=True):
                if n == 0:
                    warnings.append(
                        f"class {name!r} has no positive study in split {training_split!r}: not learnable"
                    )
                elif n == total and self.kind == "multilabel":
                    warnings.append(
                        f"class {name!r} has no negative study in split {training_split!r}: not learnable"
                    )
        if self.excluded:
            warnings.append(
                f"{len(self.excluded)} of {len(self.excluded) + len(self.studies)} studies are excluded"
            )
        for warning in warnings:
            logger.warning("%s: %s", self.path, warning)
        return replace(self, warnings=tuple(warnings))


def pos_weight(table: LabelTable, split: str = "train") -> list[float]:
    """`table.pos_weight(split)`, for configurations."""
    return table.pos_weight(split)


def class_weight(table: LabelTable, split: str = "train") -> list[float]:
    """`table.class_weight(split)`, for configurations."""
    return table.class_weight(split)


def _wanted(
    classes: Mapping[str, str | Sequence[str]] | Sequence[str], kind: str, column: str | None
) -> dict[str, str | tuple[str, ...]]:
    """Class → its column (multilabel), or → the values that mean it (multiclass)."""
    if isinstance(classes, str) or not classes:
        raise LabelTableError(f"classes are {classes!r}; expected a list of names or a mapping")
    if not isinstance(classes, Mapping):
        if len(set(classes)) != len(classes):
            raise LabelTableError(f"classes {list(classes)} name one twice")
        classes = {name: name for name in classes}
    if kind == "multilabel":
        if column is not None or not all(isinstance(v, str) for v in classes.values()):
            raise LabelTableError("a multilabel table has one column per class and no `column`")
        return dict(classes)
    if column is None or len(classes) < 2:
        raise LabelTableError(
            "a multiclass table needs `column`, the name of its label column, and two or more classes"
        )
    wanted = {name: (v,) if isinstance(v, str) else tuple(map(str, v)) for name, v in classes.items()}
    values = [value for group in wanted.values() for value in group]
    if len(set(values)) != len(values):
        raise LabelTableError(f"one value of column {column!r} stands for two classes: {wanted}")
    return wanted


def _read_rows(path: Path, *, required: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """(line number, column → stripped text) of each row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            found = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = found
            rows = [
                (
                    reader.line_num,
                    {name: (text or "").strip() for name, text in row.items() if name is not None},
                )
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelTableError(f"label table {path} cannot be read: {error}") from error
    if missing := [name for name in required if name not in found]:
        raise LabelTableError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(found)}. Expected a "
            "comma-separated table with study, patient, split and the labels"
        )
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise LabelTableError(f"{path} has the columns {', '.join(twice)} twice")
    return rows


def _check_rows(path: Path, rows: Sequence[tuple[int, Mapping[str, str]]]) -> None:
    """No study twice, no patient in two splits."""
    seen: dict[str, int] = {}
    splits: dict[str, tuple[str, int]] = {}
    for number, row in rows:
        study, patient, split = (row[name] for name in KEY_COLUMNS)
        if not study or not patient:
            raise LabelTableError(
                f"{path}, line {number}: study {study!r} of patient {patient!r}; both are needed, the "
                "patient to keep studies of one patient in one split"
            )
        if study in seen:
            raise LabelTableError(
                f"{path}: study {study!r} is in lines {seen[study]} and {number}; expected once"
            )
        seen[study] = number
        if split.lower() in MISSING:
            continue
        before, line = splits.setdefault(patient, (split, number))
        if before != split:
            raise LabelTableError(
                f"{path}: patient {patient!r} is in split {before!r} (line {line}) and in split {split!r} "
                f"(line {number}); all studies of a patient belong in one split, or the evaluation is not "
                "independent"
            )


def _multilabel(
    path: Path, number: int, row: Mapping[str, str], wanted: Mapping[str, str]
) -> tuple[tuple[float, ...], str]:
    label = []
    for column in wanted.values():
        text = row[column].lower()
        if text in MISSING:
            return (), column
        if text not in YES_NO:
            raise LabelTableError(
                f"{path}, line {number}: {column} is {row[column]!r}; expected 0, 1 or nothing"
            )
        label.append(YES_NO[text])
    return tuple(label), ""


def _multiclass(
    path: Path, number: int, text: str, column: str, meaning: Mapping[str, int]
) -> tuple[int, str]:
    if text in meaning:
        return meaning[text], ""
    if text.lower() in MISSING:
        return -1, column
    raise LabelTableError(
        f"{path}, line {number}: {column} is {text!r}; expected one of {', '.join(meaning)}, or nothing"
    )
