"""A prediction table: what was predicted for each study, and what is true."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from radclear.evaluation.errors import EvaluationError


@dataclass(frozen=True)
class PredictionTable:
    """N labelled studies with predictions, checked.

    Attributes:
        kind: `"multilabel"`, `"multiclass"` or `"ordinal"` (classes in their order).
        classes: C names.
        studies: N names.
        patients: N.
        splits: N, None where the table has no splits.
        folds: N, None where the table has no folds.
        probabilities: (N, C) float64.
        truth: (N, C) booleans; None where the table has no labels.
        key_slices: N, slice indices from 0, most attention first; None where the table has none.
        n_slices: N, how many slices each study has; None where the table does not say.
        excluded: (line of the file, study, reason) of rows that are not among the N.
        warnings: sentences that a reader of the figures must know.
        name: of the file, without folder.
        sha256: of the file.
        split: the split that was chosen, empty without choice.
    """

    kind: str
    classes: tuple[str, ...]
    studies: tuple[str, ...]
    patients: tuple[str, ...]
    splits: tuple[str, ...] | None
    folds: tuple[str, ...] | None
    probabilities: np.ndarray
    truth: np.ndarray | None
    key_slices: tuple[tuple[int, ...], ...] | None = None
    n_slices: tuple[int, ...] | None = None
    excluded: tuple[tuple[int, str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    name: str = ""
    sha256: str = ""
    split: str = ""

    @property
    def n_studies(self) -> int:
        return len(self.studies)

    @property
    def n_patients(self) -> int:
        return len(set(self.patients))

    def labels(self) -> np.ndarray:
        """(N, C) truth.

        Raises:
            EvaluationError: the table has none.
        """
        if self.truth is None:
            raise EvaluationError(
                f"{self.name} has no label columns; add label_<class> columns, one column label or stage, or "
                "give a label table with --labels"
            )
        return self.truth

    def take(self, rows: np.ndarray | list[int]) -> PredictionTable:
        """The table with only these rows, in this order."""

        def some(column):
            return None if column is None else tuple(column[i] for i in rows)

        return replace(
            self,
            studies=some(self.studies),
            patients=some(self.patients),
            splits=some(self.splits),
            folds=some(self.folds),
            key_slices=some(self.key_slices),
            n_slices=some(self.n_slices),
            probabilities=self.probabilities[rows],
            truth=None if self.truth is None else self.truth[rows],
        )

    def aligned_with(self, other: PredictionTable) -> PredictionTable:
        """This table in the rows of another one, to compare the two study by study.

        Args:
            other: it decides which studies and which truth count.

        Raises:
            EvaluationError: other classes, other studies, or other patients, labels or kind.
        """
        if self.kind != other.kind or set(self.classes) != set(other.classes):
            raise EvaluationError(
                f"{self.name} is {self.kind} with the classes {', '.join(self.classes)}, {other.name} is "
                f"{other.kind} with {', '.join(other.classes)}; only predictions of the same can be compared"
            )
        row = {study: i for i, study in enumerate(self.studies)}
        absent = [study for study in other.studies if study not in row]
        left_out = {study for _, study, _ in other.excluded}
        surplus = set(self.studies) - set(other.studies) - left_out
        if absent or surplus:
            raise EvaluationError(
                f"{self.name} lacks {len(absent)} studies of {other.name} and has {len(surplus)} that it "
                "lacks; a paired comparison needs the same studies: take the others out of both tables"
            )
        columns = [self.classes.index(name) for name in other.classes]
        aligned = self.take([row[study] for study in other.studies])
        truth = None if aligned.truth is None else aligned.truth[:, columns]
        aligned = replace(
            aligned, classes=other.classes, probabilities=aligned.probabilities[:, columns], truth=truth
        )
        if aligned.patients != other.patients:
            n = sum(a != b for a, b in zip(aligned.patients, other.patients, strict=True))
            raise EvaluationError(f"{self.name} and {other.name} name another patient for {n} studies")
        if truth is None:
            return replace(aligned, truth=other.labels())
        if n := int((truth != other.labels()).any(axis=1).sum()):
            raise EvaluationError(f"{self.name} and {other.name} have other labels for {n} studies")
        return aligned
