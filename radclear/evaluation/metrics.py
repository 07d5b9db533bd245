"""How good scores are: AUROC per class and macro, and whether key slices show the lesion."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from radclear.evaluation.errors import EvaluationError


@dataclass(frozen=True)
class ClassAuroc:
    """AUROC of one class against the rest.

    Attributes:
        name: of the class.
        auroc: area under the ROC curve; NaN where it is undefined.
        n_positive: studies with the class.
        n_negative: studies without it.
    """

    name: str
    auroc: float
    n_positive: int
    n_negative: int

    @property
    def defined(self) -> bool:
        """AUROC compares positives with negatives; without one of the two there is none."""
        return self.n_positive > 0 and self.n_negative > 0


@dataclass(frozen=True)
class AurocReport:
    """AUROC of a task.

    Attributes:
        macro: mean over the classes for which it is defined; NaN if there are none.
        classes: all classes, defined or not.
        undefined: names of the classes that `macro` leaves out.
        thresholded: True if every score is 0 or 1, which looks like decisions rather than scores.
    """

    macro: float
    classes: tuple[ClassAuroc, ...]
    undefined: tuple[str, ...]
    thresholded: bool


@dataclass(frozen=True)
class HitRate:
    """How often a key slice is an annotated slice.

    Attributes:
        rate: n_hit / n_studies; NaN without studies.
        n_hit: studies in which a key slice hits.
        n_studies: studies with annotated slices.
        missed: studies in which none does.
    """

    rate: float
    n_hit: int
    n_studies: int
    missed: tuple[str, ...]


def auroc(scores: np.ndarray, labels: np.ndarray, *, kind: str, classes: Sequence[str]) -> AurocReport:
    """Area under the ROC curve of every class, one against the rest.

    Args:
        scores: (N, C) probabilities or logits, never decisions: thresholding throws the ranking away.
        labels: (N, C) of 0 and 1; for multiclass and ordinal also (N,) class indices.
        kind: `"multilabel"`, `"multiclass"` or `"ordinal"`.
        classes: C names.

    Returns:
        Macro AUROC over the classes for which it is defined, and each class with its numbers.
    """
    from sklearn.metrics import roc_auc_score

    from radclear.aggregation import check_kind

    check_kind(kind)
    scores = np.asarray(scores, dtype=np.float64)
    labels = np.asarray(labels)
    n_classes = len(classes)
    if kind != "multilabel" and labels.ndim == 1:
        if labels.size and not np.isin(labels, np.arange(n_classes)).all():
            raise EvaluationError(
                f"class indices go from {labels.min()} to {labels.max()}; expected 0 to {n_classes - 1}"
            )
        labels = np.eye(n_classes)[labels.astype(np.int64)]
    if scores.ndim != 2 or scores.shape[1] != n_classes or labels.shape != scores.shape or not len(scores):
        raise EvaluationError(
            f"scores have shape {list(scores.shape)} and labels {list(labels.shape)}; expected (studies, "
            f"{n_classes}) for the classes {', '.join(classes)}"
        )
    if not np.isfinite(scores).all():
        raise EvaluationError(
            f"{int((~np.isfinite(scores)).any(axis=1).sum())} studies have scores that are not finite"
        )
    if not np.isin(labels, (0, 1)).all():
        raise EvaluationError("labels hold other values than 0 and 1; leave out studies without a label")
    results = []
    for name, score, label in zip(classes, scores.T, labels.T, strict=True):
        n_positive = int(label.sum())
        both = 0 < n_positive < len(label)
        value = float(roc_auc_score(label, score)) if both else math.nan
        results.append(ClassAuroc(name, value, n_positive, len(label) - n_positive))
    defined = [c.auroc for c in results if c.defined]
    return AurocReport(
        macro=float(np.mean(defined)) if defined else math.nan,
        classes=tuple(results),
        undefined=tuple(c.name for c in results if not c.defined),
        thresholded=bool(np.isin(scores, (0.0, 1.0)).all()),
    )


def key_slice_hit_rate(
    key_slices: Mapping[str, Sequence[int]],
    annotated_slices: Mapping[str, Collection[int]],
    *,
    tolerance_slices: int = 0,
) -> HitRate:
    """The share of studies with lesions in which at least one key slice shows an annotated lesion.

    Args:
        key_slices: study → its key slices.
        annotated_slices: study → slices with an annotated lesion; studies with none do not count.
        tolerance_slices: a key slice this far from an annotated one still hits.
    """
    counted = [study for study, slices in annotated_slices.items() if len(slices)]
    if unanswered := [study for study in counted if study not in key_slices]:
        raise EvaluationError(
            f"{len(unanswered)} annotated studies have no key slices, the first is {unanswered[0]}; leave "
            "them out of the annotations on purpose or answer them"
        )
    missed = tuple(
        study
        for study in counted
        if not any(
            abs(key - annotated) <= tolerance_slices
            for key in key_slices[study]
            for annotated in annotated_slices[study]
        )
    )
    n_hit = len(counted) - len(missed)
    return HitRate(n_hit / len(counted) if counted else math.nan, n_hit, len(counted), missed)
