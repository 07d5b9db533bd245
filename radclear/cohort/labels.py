"""The label table of a cohort: who belongs to which split, and what is true of each study."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from radclear.aggregation import check_kind
from radclear.cohort.label_rows import (
    KEY_COLUMNS,
    MISSING,
    LabelTableError,
    check_rows,
    columns_or_values,
    group_key,
    multiclass_label,
    multilabel_label,
    read_rows,
)
from radclear.ct import study_key

if TYPE_CHECKING:
    from radclear.cohort.store import EmbeddingStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledStudy:
    """One row of the table.

    Attributes:
        study: name, as in the table.
        key: `radclear.ct.study_key(study)`, under which its embeddings are stored.
        patient: whom it is of.
        split: `"train"`, `"validation"`, `"test"`, or whatever the table calls it; empty where the table is
            read without splits.
        label: (C,) tuple of 0.0 and 1.0 for multilabel, class index for multiclass and ordinal.
        group: studies of one group stay in one fold; the patient where the table has no other group.
    """

    study: str
    key: str
    patient: str
    split: str
    label: tuple[float, ...] | int
    group: str = ""


@dataclass(frozen=True)
class LabelTable:
    """Labels of a cohort, checked.

    Attributes:
        kind: `"multilabel"`, `"multiclass"` or `"ordinal"` (classes from low to high).
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
        warn: bool = True,
        needs_split: bool = True,
        group: str = "patient",
        held_out: Sequence[str] = (),
        folds: str | Path | None = None,
        fold: int | None = None,
    ) -> LabelTable:
        """Read a table with columns `study, patient, split` and labels.

        Args:
            path: CSV (comma-separated, UTF-8, with a header) or Parquet (`.parquet`, `.pq`).
            classes: names in the order of the logits. Multilabel: or class → its column (0/1), where the
                column is not called like the class. Multiclass: or class → the value or values of `column`
                that mean it.
            kind: `"multilabel"`, `"multiclass"` or `"ordinal"`.
            column: the label column of a multiclass or ordinal table.
            store: studies without embeddings in it are excluded.
            training_split: the split in which every class needs positives.
            warn: log the table's warnings; without, they are only kept in it.
            needs_split: rows without a split are excluded; otherwise the column may be absent.
            group: column whose studies stay together in one fold; a patient is in one group.
            held_out: studies of these splits are excluded, for example those that will test the head.
            folds, fold: a file of `radclear.cohort.FoldPlan` and the number of a fold, whose splits (`train`,
                `val`, `test`) take the place of the table's.

        Raises:
            LabelTableError: missing columns, a study twice, a patient in two splits, a label that is no
                class.
        """
        path = Path(path)
        check_kind(kind)
        if (folds is None) != (fold is None):
            raise LabelTableError(f"folds is {folds} and fold is {fold}; expected both or neither")
        needs_split = needs_split and folds is None
        wanted = columns_or_values(classes, kind, column)
        names = tuple(wanted)
        keys = dict.fromkeys((*KEY_COLUMNS[:2], *(["split"] if needs_split else []), group))
        rows = read_rows(path, required=(*keys, *(wanted.values() if kind == "multilabel" else [column])))
        check_rows(path, rows, group=group)
        meaning = {value: i for i, values in enumerate(wanted.values()) for value in values}
        studies, excluded = [], []
        for place, row in rows:
            split = "" if row.get("split", "").lower() in MISSING else row["split"]
            if needs_split and not split:
                excluded.append((row["study"], "no split"))
                continue
            if split and split in held_out:
                excluded.append((row["study"], f"held out: split {split}"))
                continue
            if kind == "multilabel":
                label, absent = multilabel_label(path, place, row, wanted)
            else:
                label, absent = multiclass_label(path, place, row[column], column, meaning)
            if absent:
                excluded.append((row["study"], f"no label in {absent}"))
                continue
            key = study_key(row["study"])
            studies.append(
                LabelledStudy(row["study"], key, row["patient"], split, label, group_key(row, group))
            )
        if not studies:
            raise LabelTableError(
                f"{path}: none of {len(rows)} rows has {'a split and ' if needs_split else ''}labels; "
                "nothing can be used"
            )
        table = cls(kind, names, tuple(studies), tuple(excluded), path=path)
        if store is not None:
            table = table.in_store(store)
        if folds is not None:
            from radclear.cohort.folds import FoldPlan

            table = FoldPlan.read(folds).apply(table, fold)
        return table._with_warnings(training_split, log=warn)

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
                f"{self.path or 'table'}: no usable study in split {name!r}; splits found: {found}. Write "
                f"{name!r} into the column split, or name another (in training --train_split and "
                "--validation_split, in evaluation --split)"
            )
        return studies

    def labels(self, split: str) -> np.ndarray:
        """(N, C) float32 of 0 and 1; multiclass as one-hot."""
        return self.one_hot(self.split(split))

    def one_hot(self, studies: Sequence[LabelledStudy]) -> np.ndarray:
        """(N, C) float32 of 0 and 1 for some of the table's studies."""
        values = [s.label for s in studies]
        if self.kind == "multilabel":
            return np.asarray(values, dtype=np.float32).reshape(-1, len(self.classes))
        return np.eye(len(self.classes), dtype=np.float32)[np.asarray(values, dtype=np.int64)]

    def pos_weight(self, split: str = "train") -> list[float]:
        """Per class n_negative / n_positive; 1 for a class without positives or negatives, where there
        is nothing to balance."""
        labels = self.labels(split)
        positives = labels.sum(axis=0)
        return [float((len(labels) - n) / n) if 0 < n < len(labels) else 1.0 for n in positives]

    def class_weight(self, split: str = "train") -> list[float]:
        """Per class N / (classes present · n), so that every class present weighs the same and the mean over
        studies is 1; 1 for an absent class, where it has no effect."""
        counts = self.labels(split).sum(axis=0)
        return [float(counts.sum() / ((counts > 0).sum() * n)) if n else 1.0 for n in counts]

    def loss_weights(self, split: str = "train") -> list[float] | None:
        """The weights that `radclear.aggregation.build_loss` wants for this kind of table.

        None for ordinal tables: the cut points of such a head are the shares of its classes.
        """
        if self.kind == "ordinal":
            return None
        return self.pos_weight(split) if self.kind == "multilabel" else self.class_weight(split)

    def n_positive(self, split: str) -> dict[str, int]:
        """Class → studies of a split that have it."""
        return dict(zip(self.classes, self.labels(split).sum(axis=0).astype(int).tolist(), strict=True))

    def not_learnable(self, split: str) -> dict[str, str]:
        """Class → `positive` or `negative`, where no study of a split is."""
        positives, total = self.n_positive(split), len(self.split(split))
        lacking = {name: "positive" for name, n in positives.items() if n == 0}
        if self.kind == "multilabel":
            lacking |= {name: "negative" for name, n in positives.items() if n == total and n > 0}
        return {name: lacking[name] for name in self.classes if name in lacking}

    def _with_warnings(self, training_split: str, *, log: bool) -> LabelTable:
        """Warn of classes that training cannot learn; said once, here."""
        warnings = []
        if any(s.split == training_split for s in self.studies):
            for name, lacking in self.not_learnable(training_split).items():
                warnings.append(
                    f"class {name!r} has no {lacking} study in split {training_split!r}: not learnable"
                )
        if self.excluded:
            reasons = Counter(reason for _, reason in self.excluded)
            warnings.append(
                f"{len(self.excluded)} of {len(self.excluded) + len(self.studies)} studies are excluded: "
                + ", ".join(f"{n} × {reason}" for reason, n in reasons.items())
            )
        for warning in warnings if log else ():
            logger.warning("%s: %s", self.path, warning)
        return replace(self, warnings=tuple(warnings))
