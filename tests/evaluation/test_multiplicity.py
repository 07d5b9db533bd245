"""Holm's correction by hand and by its definition."""

import numpy as np
import pytest

from radclear.evaluation import EvaluationError, holm


def test_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04; running maximum of these."""
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    assert holm([]).shape == (0,) and holm([0.3]) == [0.3]


@pytest.mark.parametrize("seed", range(5))
def test_rejects_exactly_what_the_step_down_procedure_rejects(seed):
    p = np.random.default_rng(seed).random(7) ** 4
    for alpha in (0.01, 0.05, 0.2):
        rejected, left = set(), list(np.argsort(p))
        while left and p[left[0]] <= alpha / len(left):
            rejected.add(left.pop(0))
        assert {i for i, q in enumerate(holm(p)) if q <= alpha} == rejected


@pytest.mark.parametrize("p", [[-0.1], [1.1], [np.nan], [[0.1]]])
def test_only_probabilities(p):
    with pytest.raises(EvaluationError, match="from 0 to 1"):
        holm(p)
