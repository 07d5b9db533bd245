"""The points of the four curves: ROC, precision and recall, reliability, decision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radclear.evaluation.errors import EvaluationError
from radclear.evaluation.panel import bin_of

THRESHOLDS = np.round(np.arange(1, 100) / 100, 2)


@dataclass(frozen=True)
class Curve:
    """Points of a line.

    Attributes:
        x, y: (P,) coordinates.
    """

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Reliability:
    """Bins that hold studies, of a calibration plot.

    Attributes:
        predicted: (K,) mean probability in each bin.
        observed: (K,) share of positives.
        low, high: (K,) 95 % Wilson interval of the share, as if studies were independent.
        n_studies: (K,) in each bin.
        n_bins: equal-width bins there are, empty ones included.
    """

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n_studies: np.ndarray
    n_bins: int


@dataclass(frozen=True)
class Decision:
    """Net benefit over threshold probability (Vickers and Elkin, Medical Decision Making 2006; 26:565).

    Attributes:
        threshold: (T,) from 0.01 to 0.99.
        model: (T,) net benefit of calling studies at or above the threshold.
        call_all: (T,) of calling every study; calling none has net benefit 0.
    """

    threshold: np.ndarray
    model: np.ndarray
    call_all: np.ndarray


def roc_curve(scores: np.ndarray, positive: np.ndarray) -> Curve:
    """False positive rate (x) and sensitivity (y), from (0, 0) to (1, 1), a point per distinct score."""
    true, false = _counts(scores, positive)
    return Curve(np.r_[0.0, false / false[-1]], np.r_[0.0, true / true[-1]])


def precision_recall_curve(scores: np.ndarray, positive: np.ndarray) -> Curve:
    """Recall (x) and precision (y), a point per distinct score, from the highest down.

    The average precision is the area of the steps to the left of the points, not of straight lines between.
    """
    true, false = _counts(scores, positive)
    recall, precision = true / true[-1], true / (true + false)
    return Curve(np.r_[0.0, recall], np.r_[precision[0], precision])


def reliability_curve(scores: np.ndarray, positive: np.ndarray, *, n_bins: int = 10) -> Reliability:
    """Share of positives over mean probability, in equal-width bins; empty bins are left out."""
    scores, positive = _checked(scores, positive)
    index = bin_of(scores, n_bins)
    n = np.bincount(index, minlength=n_bins)
    held = n > 0
    n = n[held]
    predicted = np.bincount(index, scores, minlength=n_bins)[held] / n
    observed = np.bincount(index, positive, minlength=n_bins)[held] / n
    z2 = 1.959963984540054**2
    centre = (observed + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (observed * (1 - observed) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return Reliability(
        predicted, observed, np.maximum(centre - half, 0), np.minimum(centre + half, 1), n, n_bins
    )


def decision_curve(
    scores: np.ndarray, positive: np.ndarray, *, thresholds: np.ndarray = THRESHOLDS
) -> Decision:
    """Net benefit: true positives per study, less false positives per study times t / (1 − t)."""
    scores, positive = _checked(scores, positive)
    thresholds = np.asarray(thresholds, dtype=np.float64)
    called = scores[None, :] >= thresholds[:, None]
    odds = thresholds / (1 - thresholds)
    model = (called & positive).mean(axis=1) - odds * (called & ~positive).mean(axis=1)
    return Decision(thresholds, model, positive.mean() - odds * (~positive).mean())


def _counts(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives at each distinct score, from the highest down."""
    scores, positive = _checked(scores, positive)
    order = np.argsort(-scores, kind="stable")
    ordered, hit = scores[order], positive[order]
    last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
    true = np.cumsum(hit)[last].astype(np.float64)
    return true, last + 1 - true


def _checked(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive)
    if scores.ndim != 1 or scores.shape != positive.shape or not np.isin(positive, (0, 1)).all():
        raise EvaluationError(
            f"scores have shape {list(scores.shape)} and labels {list(positive.shape)}; expected "
            "(studies,) of probabilities and (studies,) of 0 and 1"
        )
    positive = positive.astype(bool)
    if positive.all() or not positive.any() or not ((scores >= 0) & (scores <= 1)).all():
        raise EvaluationError(
            f"{int(positive.sum())} positive of {len(positive)} studies; a curve needs both positives and "
            "negatives, and probabilities from 0 to 1"
        )
    return scores, positive
