"""What chance alone makes of a metric that has no fixed value of chance."""

from __future__ import annotations

import numpy as np

from radclear.evaluation.panel import bin_of

_DRAWS = 1000


def ece_by_chance(scores: np.ndarray, *, n_bins: int, seed: int) -> float:
    """The mean calibration error of a model whose probabilities are right.

    Labels are drawn from the probabilities themselves, so that nothing but the number of studies makes the
    error.

    Args:
        scores: (N,) probabilities of a class.
        n_bins: of the calibration error.
        seed: of the draws.
    """
    generator, bins = np.random.default_rng(seed), bin_of(scores, n_bins)
    errors = []
    for _ in range(_DRAWS):
        gap = scores - (generator.random(len(scores)) < scores)
        errors.append(np.abs(np.bincount(bins, gap)).sum() / len(scores))
    return float(np.mean(errors))
