"""Attention per slice and the choice of key slices."""

import numpy as np
import pytest
import torch

from radclear.aggregation import AggregationError, key_slices, slice_attention


def test_slice_attention_sums_neighbouring_windows():
    attention = torch.tensor([[0.1, 0.2, 0.3, 0.05, 0.25, 0.1]])
    torch.testing.assert_close(slice_attention(attention, 2), torch.tensor([[0.3, 0.35, 0.35]]))
    torch.testing.assert_close(slice_attention(attention[0], 3), torch.tensor([0.6, 0.4]))
    assert slice_attention(attention, 1).equal(attention)


def test_slice_attention_refuses_an_odd_number_of_windows():
    with pytest.raises(AggregationError, match="6 instances cannot be slices of 4 windows"):
        slice_attention(torch.zeros(1, 6), 4)


def test_key_slices_come_highest_first_and_lower_index_of_equals_first():
    weights = [0.1, 0.3, 0.0, 0.3, 0.2, 0.1]
    assert key_slices(weights, 4) == [1, 3, 4, 0]
    assert key_slices(torch.tensor(weights)) == key_slices(np.array(weights)) == [1, 3, 4]


def test_padding_is_never_a_key_slice():
    assert key_slices([0.0, 1.0, 0.0], 3) == [1]


def test_neighbours_are_suppressed_by_option():
    peak = np.exp(-0.5 * ((np.arange(50) - 20) / 3.0) ** 2) + 0.5 * np.exp(-0.5 * (np.arange(50) - 40.0) ** 2)
    assert key_slices(peak) == [20, 19, 21]
    assert key_slices(peak, min_distance=2) == [20, 18, 22]
    assert key_slices(peak, 2, min_distance=15) == [20, 40]


@pytest.mark.parametrize("min_distance", [1, 2, 5])
def test_chosen_slices_keep_their_distance(min_distance):
    weights = np.random.default_rng(0).random(60)
    chosen = key_slices(weights, 8, min_distance=min_distance)
    assert chosen[0] == weights.argmax()
    assert np.diff(sorted(chosen)).min() >= min_distance
    assert list(weights[chosen]) == sorted(weights[chosen], reverse=True)


@pytest.mark.parametrize(
    ("weights", "k", "message"),
    [
        ([[0.5, 0.5]], 1, r"\[1, 2\]"),
        ([0.5, float("nan")], 1, "non-finite"),
        ([0.5, -0.1], 1, "negative"),
        ([1.0], 0, "k is 0"),
    ],
)
def test_wrong_attention_is_named(weights, k, message):
    with pytest.raises(AggregationError, match=message):
        key_slices(weights, k)
