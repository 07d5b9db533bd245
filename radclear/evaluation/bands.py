"""Bootstrap bands of curves: how far a curve moves when other patients are drawn.

Legend: B resamples, N studies, G groups of equal scores, P points of a curve, K bins, T thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radclear.evaluation.assessment import Evaluation
from radclear.evaluation.curves import THRESHOLDS
from radclear.evaluation.panel import bin_of
from radclear.evaluation.table import PredictionTable

GRID = np.round(np.arange(101) / 100, 2)  # where ROC and precision are looked at
_SLACK = 1e-9  # of a study, for shares that are not exact in binary


@dataclass(frozen=True)
class Band:
    """Pointwise percentile intervals of a curve.

    Attributes:
        x: (P,) false positive rate, recall, mean probability of a bin, or threshold.
        low, high: (P,) ends of the interval of y, NaN where there is none.
    """

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class CurveBands:
    """The bands of one class; None where a curve has none.

    Attributes:
        roc: of the sensitivity, at the false positive rates of `GRID`.
        precision_recall: of the precision, at the recalls of `GRID`.
        reliability: of the share of positives in each bin that holds studies.
        decision: of the model's net benefit, at `THRESHOLDS`.
        reason: why there is no band of any, empty otherwise.
    """

    roc: Band | None = None
    precision_recall: Band | None = None
    reliability: Band | None = None
    decision: Band | None = None
    reason: str = ""


def curve_bands(evaluation: Evaluation, table: PredictionTable | None = None) -> dict[str, CurveBands]:
    """Bands of every class over the resamples that the evaluation's intervals are made from.

    Args:
        evaluation: its resamples, bins, level and truth are used.
        table: whose curves, in the rows of the evaluation's table; that one where omitted.

    Returns:
        Class → bands. There is none where the evaluation has no interval either, where fewer than half of
        the resamples have the curve, and where all have the same: no width would pretend certainty.
    """
    table = table or evaluation.table
    truth = evaluation.table.labels()
    reasons = {name: c.missing or c.no_interval for name, c in evaluation.counts.items()}
    counted = [c for c, name in enumerate(table.classes) if not reasons[name]]
    samples: dict[int, list[tuple[np.ndarray, ...]]] = {c: [] for c in counted}
    for weights in evaluation.resamples.weights() if counted else ():
        for c in counted:
            score, positive = table.probabilities[:, c], truth[:, c]
            distinct, true, false = _ranked_counts(score, positive, weights)
            shares = _bin_shares(score, positive, weights, evaluation.settings.n_bins)
            samples[c].append((*_ranked_curves(true, false), shares, _net_benefits(distinct, true, false)))
    bands = {name: CurveBands(reason=reason) for name, reason in reasons.items()}
    for c, blocks in samples.items():
        roc, precision, shares, benefit = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        index = bin_of(table.probabilities[:, c], evaluation.settings.n_bins)
        n = np.bincount(index, minlength=shares.shape[1])
        held = n > 0
        total = np.bincount(index, table.probabilities[:, c], minlength=len(n))
        bands[table.classes[c]] = CurveBands(
            roc=_band(GRID, roc, evaluation.level),
            precision_recall=_band(GRID, precision, evaluation.level),
            reliability=_band(total[held] / n[held], shares[:, held], evaluation.level, by_point=True),
            decision=_band(THRESHOLDS, benefit, evaluation.level),
        )
    return bands


def _ranked_counts(
    score: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(G,) distinct scores from the highest down; (B, G) true and false positives at or above each."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    gained = weights[:, order]
    hit = positive[order].astype(np.float64)
    true = np.cumsum(np.add.reduceat(gained * hit, starts, axis=1), axis=1)
    false = np.cumsum(np.add.reduceat(gained * (1 - hit), starts, axis=1), axis=1)
    return ordered[starts], true, false


def _ranked_curves(true: np.ndarray, false: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, P) sensitivity and (B, P) precision at the points of `GRID`, NaN where a resample has no curve.

    The ROC curve is straight between its points, and where it rises vertically the upper end counts.
    Precision holds from the recall before up to its own, as in the average precision.
    """
    sensitivity = np.full((len(true), len(GRID)), np.nan)
    precision = np.full((len(true), len(GRID)), np.nan)
    for b in np.flatnonzero((true[:, -1] > 0) & (false[:, -1] > 0)):
        n_positive, n_negative = true[b, -1], false[b, -1]
        y, x = np.r_[0.0, true[b]], np.r_[0.0, false[b]]
        at = GRID * n_negative
        left = np.searchsorted(x, at + _SLACK, side="right") - 1
        right = np.minimum(left + 1, len(x) - 1)
        width = x[right] - x[left]
        share = np.divide(at - x[left], width, out=np.zeros_like(at), where=width > 0).clip(0, 1)
        sensitivity[b] = (y[left] + share * (y[right] - y[left])) / n_positive
        reached = np.searchsorted(true[b], np.maximum(GRID * n_positive - _SLACK, _SLACK), side="left")
        precision[b] = true[b, reached] / (true[b, reached] + false[b, reached])
    return sensitivity, precision


def _net_benefits(distinct: np.ndarray, true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """(B, T) net benefit per study of calling those at or above each of `THRESHOLDS`."""
    called = np.searchsorted(-distinct, -THRESHOLDS, side="right")  # (T,) distinct scores called
    odds = THRESHOLDS / (1 - THRESHOLDS)
    n = true[:, -1:] + false[:, -1:]
    none = np.zeros((len(true), 1))
    return (np.hstack([none, true])[:, called] - odds * np.hstack([none, false])[:, called]) / n


def _bin_shares(score: np.ndarray, positive: np.ndarray, weights: np.ndarray, n_bins: int) -> np.ndarray:
    """(B, K) share of positives in each bin, NaN where a resample has no study there."""
    member = np.eye(n_bins)[bin_of(score, n_bins)]
    n = weights @ member
    return np.divide(weights @ (member * positive[:, None]), n, out=np.full(n.shape, np.nan), where=n > 0)


def _band(x: np.ndarray, samples: np.ndarray, level: float, *, by_point: bool = False) -> Band | None:
    """Percentile intervals of (B, P) samples.

    Args:
        by_point: whether points stand for themselves, as bins do: those of no width then have no interval. On
            a curve, which has its ends in common with every other, only one without any width has none.
    """
    low, high = np.full(len(x), np.nan), np.full(len(x), np.nan)
    enough = 2 * (~np.isnan(samples)).sum(axis=0) >= len(samples)
    if enough.any():
        low[enough], high[enough] = np.nanquantile(
            samples[:, enough], [(1 - level) / 2, (1 + level) / 2], axis=0
        )
    wide = high - low > 1e-12  # False for NaN
    if not wide.any():
        return None
    if by_point:
        low[~wide] = high[~wide] = np.nan
    return Band(x, low, high)
