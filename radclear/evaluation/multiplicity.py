"""Several tests at once: Holm's step-down correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radclear.evaluation.errors import EvaluationError


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusted p-values that keep the family-wise error (Holm, Scand J Statist 1979; 6:65).

    Args:
        p_values: (K,) in [0, 1]; tests that could not be made are left out by the caller.

    Returns:
        (K,) in the order given: below alpha exactly where Holm's procedure rejects at alpha.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise EvaluationError(f"p-values are {p_values}; expected a list of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0) if len(p) else []
    return adjusted
