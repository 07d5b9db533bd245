"""All metrics of a prediction table, for many weightings of its studies at once.

Legend: B weightings, N studies, C classes, G groups of equal scores, K bins.

A weight says how often a study counts. All ones give the plain metric, the counts of a bootstrap resample
give the metric of the resample, so that estimates, intervals and paired differences come from the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radclear.evaluation.errors import EvaluationError

KINDS = ("multilabel", "multiclass", "ordinal")


@dataclass(frozen=True)
class MetricSettings:
    """What the metrics depend on besides the table.

    Attributes:
        specificities: at which sensitivity is reported.
        n_bins: equal-width bins of the calibration error.
        thresholds: (class, probability) from which a class counts as called in multilabel tables.
        default_threshold: for the other classes.
    """

    specificities: tuple[float, ...] = (0.90, 0.95)
    n_bins: int = 10
    thresholds: tuple[tuple[str, float], ...] = ()
    default_threshold: float = 0.5

    def __post_init__(self) -> None:
        if not all(0 < s < 1 for s in self.specificities) or self.n_bins < 2:
            raise EvaluationError(
                f"specificities {self.specificities}, {self.n_bins} bins; expected specificities between 0 "
                "and 1 and at least 2 bins"
            )
        if not all(0 <= t <= 1 for t in (*dict(self.thresholds).values(), self.default_threshold)):
            raise EvaluationError(f"thresholds are {dict(self.thresholds)}; expected numbers from 0 to 1")

    def threshold(self, name: str) -> float:
        """From which probability a class is called in multilabel tables."""
        return dict(self.thresholds).get(name, self.default_threshold)

    def names(self, kind: str) -> tuple[str, ...]:
        """Metrics of a table of this kind, in the order of reports."""
        sensitivities = (sensitivity_name(s) for s in self.specificities)
        calls = ("sensitivity", "specificity", "balanced_accuracy")
        names = ("auroc", "auprc", *sensitivities, "brier", "ece", *calls)
        return (*names, "quadratic_kappa") if kind == "ordinal" else names


def sensitivity_name(specificity: float) -> str:
    """Key of a metric, for example `sensitivity_at_specificity_0.95`."""
    return f"sensitivity_at_specificity_{specificity:.4g}"


def decide(
    probabilities: np.ndarray, classes: Sequence[str], *, kind: str, settings: MetricSettings
) -> np.ndarray:
    """(N, C) booleans: which classes are called.

    Multilabel: at or above the class's threshold. Multiclass and ordinal: the most probable class, of equals
    the first.
    """
    if kind == "multilabel":
        if unknown := [name for name, _ in settings.thresholds if name not in classes]:
            raise EvaluationError(
                f"threshold for unknown class {', '.join(unknown)}; classes are {', '.join(classes)}"
            )
        return probabilities >= np.array([settings.threshold(name) for name in classes])
    if settings.thresholds:
        raise EvaluationError(f"thresholds are for multilabel tables; a {kind} table calls the most probable")
    return np.eye(len(classes), dtype=bool)[probabilities.argmax(axis=1)]


def metric_panel(
    probabilities: np.ndarray,
    truth: np.ndarray,
    decided: np.ndarray,
    weights: np.ndarray,
    *,
    kind: str,
    settings: MetricSettings,
) -> dict[str, np.ndarray]:
    """Every metric for every class, and its mean over classes.

    Args:
        probabilities: (N, C).
        truth: (N, C) booleans.
        decided: (N, C) booleans, see :func:`decide`.
        weights: (B, N) non-negative.
        kind: one of `KINDS`.
        settings: what the metrics depend on.

    Returns:
        Metric → (B, C + 1); the last column is the mean over those classes that have positives and negatives
        among the N studies. For multiclass and ordinal tables the last column of `balanced_accuracy` is the
        mean recall over the classes with positives, and `quadratic_kappa` has only the last column. NaN where
        a weighting leaves a metric undefined; never elsewhere.
    """
    n_classes = truth.shape[1]
    panel = {name: np.full((len(weights), n_classes + 1), np.nan) for name in settings.names(kind)}
    defined = truth.any(axis=0) & ~truth.all(axis=0)
    for c in np.flatnonzero(defined):
        score, positive = probabilities[:, c], truth[:, c]
        column = _ranking(score, positive, weights, settings.specificities)
        column["brier"] = _ratio(weights @ (score - positive) ** 2, weights.sum(axis=1))
        column["ece"] = _calibration_error(score, positive, weights, settings.n_bins)
        column["sensitivity"] = _recall(decided[:, c], positive, weights)
        column["specificity"] = _recall(~decided[:, c], ~positive, weights)
        column["balanced_accuracy"] = (column["sensitivity"] + column["specificity"]) / 2
        for name, values in column.items():
            panel[name][:, c] = values
    for values in panel.values():
        if defined.any():
            values[:, -1] = values[:, :-1][:, defined].mean(axis=1)
    if kind != "multilabel" and defined.any():
        present = np.flatnonzero(truth.any(axis=0))
        recalls = [_recall(decided[:, c], truth[:, c], weights) for c in present]
        panel["balanced_accuracy"][:, -1] = np.mean(recalls, axis=0)
    if kind == "ordinal":
        panel["quadratic_kappa"][:, -1] = _quadratic_kappa(truth, decided, weights)
    return panel


def bin_of(scores: np.ndarray, n_bins: int) -> np.ndarray:
    """Equal-width bins [0, 1/K), [1/K, 2/K) … [(K-1)/K, 1]: the bin of each score."""
    return np.minimum((scores * n_bins).astype(np.int64), n_bins - 1)


def _ranking(
    score: np.ndarray, positive: np.ndarray, weights: np.ndarray, specificities: Sequence[float]
) -> dict[str, np.ndarray]:
    """AUROC, average precision and sensitivities, all from one sort."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    gained = weights[:, order]
    is_positive = positive[order].astype(np.float64)
    hits = np.add.reduceat(gained * is_positive, starts, axis=1)  # (B, G) positives in each group
    alarms = np.add.reduceat(gained * (1 - is_positive), starts, axis=1)
    true, false = np.cumsum(hits, axis=1), np.cumsum(alarms, axis=1)
    n_positive, n_negative = true[:, -1], false[:, -1]
    below = n_negative[:, None] - false + alarms / 2
    both = (n_positive > 0) & (n_negative > 0)
    blank = np.where(both, 0.0, np.nan)
    precision = _ratio(true, true + false, empty=0.0)
    result = {
        "auroc": _ratio((hits * below).sum(axis=1), n_positive * n_negative),
        "auprc": _ratio((hits * precision).sum(axis=1), n_positive) + blank,
    }
    for specificity in specificities:
        allowed = (1 - specificity) * n_negative * (1 + 1e-12) + 1e-12
        best = np.where(false <= allowed[:, None], true, 0.0).max(axis=1)
        result[sensitivity_name(specificity)] = _ratio(best, n_positive) + blank
    return result


def _calibration_error(
    score: np.ndarray, positive: np.ndarray, weights: np.ndarray, n_bins: int
) -> np.ndarray:
    """Mean over studies of |mean probability − share of positives| of their bin (Naeini, AAAI 2015)."""
    gap = np.zeros((len(score), n_bins))
    gap[np.arange(len(score)), bin_of(score, n_bins)] = score - positive
    return _ratio(np.abs(weights @ gap).sum(axis=1), weights.sum(axis=1))


def _recall(decided: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _ratio(weights @ (decided & positive).astype(np.float64), weights @ positive.astype(np.float64))


def _quadratic_kappa(truth: np.ndarray, decided: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Cohen's kappa with squared distances of the classes as weights (Psychol Bull 1968; 70:213)."""
    n_classes = truth.shape[1]
    cell = truth.argmax(axis=1) * n_classes + decided.argmax(axis=1)
    table = (weights @ np.eye(n_classes**2)[cell]).reshape(-1, n_classes, n_classes)
    rank = np.arange(n_classes)
    distance = (rank[:, None] - rank[None, :]) ** 2.0
    expected = table.sum(axis=2)[:, :, None] * table.sum(axis=1)[:, None, :]
    chance = _ratio((distance * expected).sum(axis=(1, 2)), weights.sum(axis=1))
    return 1 - _ratio((distance * table).sum(axis=(1, 2)), chance)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, *, empty: float = np.nan) -> np.ndarray:
    """Quotient, `empty` where the denominator is zero."""
    denominator = np.asarray(denominator, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.full(denominator.shape, empty), where=denominator > 0)
