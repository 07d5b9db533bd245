"""Variance of AUROC and paired comparison of AUROCs after DeLong, with patients as clusters.

Legend: K scores of the same studies, m positive and n negative studies, M their sum, I patients.

With one study per patient this is DeLong et al. (Biometrics 1988; 44:837); where patients have several, their
structural components are summed first, after Obuchowski (Biometrics 1997; 53:567). Components come from
midranks (Sun and Xu, IEEE Signal Processing Letters 2014; 21:1389), in O(M log M).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radclear.evaluation.errors import EvaluationError


@dataclass(frozen=True)
class DeLong:
    """AUROCs of K scores for the same studies and how they vary together.

    Attributes:
        auroc: (K,).
        covariance: (K, K) of the AUROCs.
        n_positive, n_negative: studies.
        n_patients: clusters.
    """

    auroc: np.ndarray
    covariance: np.ndarray
    n_positive: int
    n_negative: int
    n_patients: int

    def interval(self, k: int = 0, *, level: float = 0.95) -> tuple[float, float] | None:
        """Interval of one AUROC, symmetric on the logit scale so that it stays inside (0, 1).

        Args:
            k: which score.
            level: coverage.

        Returns:
            Lower and upper limit; None where the variance is zero, as for perfect separation, because an
            interval without width would pretend certainty.
        """
        area, variance = float(self.auroc[k]), float(self.covariance[k, k])
        if not 0 < area < 1 or variance <= 0:
            return None
        centre = math.log(area / (1 - area))
        half = _quantile(level) * math.sqrt(variance) / (area * (1 - area))
        low, high = (1 / (1 + math.exp(-min(max(x, -700), 700))) for x in (centre - half, centre + half))
        return low, high


@dataclass(frozen=True)
class PairedTest:
    """Two AUROCs on the same studies.

    Attributes:
        difference: first minus second.
        standard_error: of the difference.
        interval: Wald interval of the difference; None where the standard error is zero.
        z: difference over standard error; None where that is zero.
        p_value: two-sided; None where the standard error is zero.
        reason: why something is absent, else empty.
    """

    difference: float
    standard_error: float
    interval: tuple[float, float] | None
    z: float | None
    p_value: float | None
    reason: str = ""


def delong(
    scores: np.ndarray, positive: np.ndarray, *, patients: Sequence[str] | np.ndarray | None = None
) -> DeLong:
    """AUROCs and their covariance.

    Args:
        scores: (K, M), or (M,) for one score; higher for positives. Never decisions.
        positive: (M,) of 0 and 1 or booleans.
        patients: (M,) whom each study is of; each study its own patient when omitted.

    Raises:
        EvaluationError: shapes that do not fit, scores that are not finite, or fewer than two patients with
            positive or with negative studies, where there is no variance.
    """
    scores = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    positive = np.asarray(positive)
    if scores.ndim != 2 or positive.shape != scores.shape[1:]:
        raise EvaluationError(
            f"scores have shape {list(scores.shape)} and labels {list(positive.shape)}; expected (K, "
            "studies) and (studies,)"
        )
    if not np.isfinite(scores).all() or not np.isin(positive, (0, 1)).all():
        raise EvaluationError("expected finite scores and labels of 0 and 1; leave out studies without")
    positive = positive.astype(bool)
    patients = np.arange(len(positive)) if patients is None else np.asarray(patients)
    if patients.shape != positive.shape:
        raise EvaluationError(f"{len(patients)} patients for {len(positive)} studies; expected one per study")
    names, cluster = np.unique(patients, return_inverse=True)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    with_positive, with_negative = len(set(cluster[positive])), len(set(cluster[~positive]))
    if min(with_positive, with_negative) < 2:
        raise EvaluationError(
            f"{with_positive} patients with positive and {with_negative} with negative studies; the variance "
            "of an AUROC needs two of each"
        )
    areas = np.empty(len(scores))
    sums_10 = np.empty((len(scores), len(names)))
    sums_01 = np.empty_like(sums_10)
    for k, score in enumerate(scores):
        v10, v01 = structural_components(score, positive)
        areas[k] = v10.mean()
        sums_10[k] = np.bincount(cluster[positive], v10 - areas[k], minlength=len(names))
        sums_01[k] = np.bincount(cluster[~positive], v01 - areas[k], minlength=len(names))
    s10 = with_positive / ((with_positive - 1) * n_positive) * sums_10 @ sums_10.T
    s01 = with_negative / ((with_negative - 1) * n_negative) * sums_01 @ sums_01.T
    s11 = len(names) / (len(names) - 1) * sums_10 @ sums_01.T
    covariance = s10 / n_positive + s01 / n_negative + (s11 + s11.T) / (n_positive * n_negative)
    return DeLong(areas, covariance, n_positive, n_negative, len(names))


def structural_components(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each study contributes to the AUROC.

    Args:
        score: (M,).
        positive: (M,) booleans.

    Returns:
        (m,) for each positive the share of negatives below it, and (n,) for each negative the share of
        positives above it; ties count half. Both have the AUROC as mean.
    """
    from scipy.stats import rankdata

    ranks = rankdata(score)
    m, n = int(positive.sum()), int((~positive).sum())
    v10 = (ranks[positive] - rankdata(score[positive])) / n
    v01 = 1 - (ranks[~positive] - rankdata(score[~positive])) / m
    return v10, v01


def delong_test(
    first: np.ndarray,
    second: np.ndarray,
    positive: np.ndarray,
    *,
    patients: Sequence[str] | np.ndarray | None = None,
    level: float = 0.95,
) -> PairedTest:
    """Compare two scores of the same studies by their AUROC.

    Args:
        first, second: (M,).
        positive: (M,).
        patients: as for :func:`delong`.
        level: coverage of the interval.

    Returns:
        The difference, first minus second, with a two-sided p-value.
    """
    result = delong(np.stack([np.asarray(first), np.asarray(second)]), positive, patients=patients)
    difference = float(result.auroc[0] - result.auroc[1])
    contrast = np.array([1.0, -1.0])
    variance = float(contrast @ result.covariance @ contrast)
    if variance <= 1e-15:  # rounding of the covariance of identical rankings
        why = "the standard error of the difference is zero: both order the pairs alike, or both perfectly"
        return PairedTest(difference, 0.0, None, None, None, why)
    error = math.sqrt(variance)
    z, half = difference / error, _quantile(level) * error
    p_value = math.erfc(abs(z) / math.sqrt(2))
    return PairedTest(difference, error, (difference - half, difference + half), z, p_value)


def _quantile(level: float) -> float:
    from scipy.special import ndtri

    if not 0 < level < 1:
        raise EvaluationError(f"level is {level}; expected a coverage between 0 and 1, such as 0.95")
    return float(ndtri(0.5 + level / 2))
