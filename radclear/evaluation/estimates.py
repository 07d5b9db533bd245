"""A number with its interval, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A metric as it is reported.

    Attributes:
        value: None where it is not defined.
        interval: percentile interval of the bootstrap; None where there is none.
        n_resamples: resamples that the interval is made from: those in which the metric is defined.
        reason: why the value or the interval is absent, else empty.
    """

    value: float | None
    interval: tuple[float, float] | None
    n_resamples: int
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "n_resamples": self.n_resamples,
            "reason": self.reason or None,
        }


def estimate(value: float, samples: np.ndarray, *, reason: str = "", level: float = 0.95) -> Estimate:
    """Make an estimate of a value and its bootstrap resamples.

    Args:
        value: of the studies themselves; NaN where it is not defined.
        samples: (B,) values of the resamples, NaN where they are not defined.
        reason: why there is no value, or no interval although the resamples differ; empty if there is none.
        level: coverage of the percentile interval.

    Returns:
        The interval is left out where fewer than half of the resamples have a value, and where all have the
        same: a width of zero would pretend certainty.
    """
    if math.isnan(value):
        return Estimate(None, None, 0, reason or "not defined for these studies")
    if reason:
        return Estimate(float(value), None, 0, reason)
    samples = np.asarray(samples, dtype=np.float64)
    usable = samples[~np.isnan(samples)]
    if 2 * len(usable) < len(samples) or not len(usable):
        why = f"defined in only {len(usable)} of {len(samples)} resamples"
        return Estimate(float(value), None, len(usable), why)
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    if high - low <= 1e-12:
        return Estimate(float(value), None, len(usable), "all resamples give the same value")
    return Estimate(float(value), (float(low), float(high)), len(usable))
