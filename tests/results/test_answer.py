from __future__ import annotations

import numpy as np
import pytest

from radclear.errors import RadclearError
from radclear.results import ResultError


def test_a_good_answer_becomes_plain_numbers(make):
    answer = make.location(probabilities=np.full(8, 0.5, np.float32), key_slices=np.array([16, 2]))
    assert answer.probabilities == (0.5,) * 8 and answer.key_slices == (16, 2)
    assert answer.operating_points == (None, None, 0.5, None, 0.4, None, None, None)
    assert not answer.attention.flags.writeable


def test_torch_tensors_are_taken(make):
    torch = pytest.importorskip("torch")
    attention = torch.softmax(torch.arange(24.0), 0)
    answer = make.location(attention=attention, probabilities=torch.full((8,), 0.25))
    assert answer.attention.shape == (24,) and answer.probabilities[0] == 0.25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": (0.1,) * 7}, "7 probabilities for 8 classes"),
        ({"probabilities": (0.1,) * 7 + (1.2,)}, "'pelvis' is 1.2; expected a number in .0, 1."),
        ({"probabilities": (-0.1,) + (0.1,) * 7}, "'bone' is -0.1"),
        ({"probabilities": (float("nan"),) + (0.1,) * 7}, r"probabilities\[0\] is nan"),
        ({"attention": np.full(24, 1 / 23)}, "attention sums to 1.043478; expected 1"),
        ({"attention": np.r_[-0.5, 1.5]}, r"attention\[0\] is -0.5"),
        ({"attention": np.r_[np.full(23, 1 / 23), np.inf]}, r"attention\[23\] is inf"),
        ({"attention": np.ones((2, 12)) / 24}, r"shape \(2, 12\)"),
        ({"key_slices": (24,)}, r"key slices \[24\] are outside the study; expected 0 to 23"),
        ({"key_slices": (-1,)}, "outside the study"),
        ({"key_slices": (3, 3)}, "each once"),
        ({"key_slices": (1.5,)}, "whole number"),
        ({"key_slices": ()}, "at least one"),
        ({"kind": "binary"}, "kind is 'binary'"),
        ({"kind": "multiclass"}, "multiclass probabilities sum to 1.603"),
        ({"kind": "ordinal"}, "ordinal probabilities sum to 1.603"),
        ({"classes": ("lung",) * 8}, "each once"),
        ({"classes": "lung"}, "each once"),
        ({"operating_points": {"brain": 0.5}}, r"unknown classes \['brain'\]"),
        ({"operating_points": [0.5]}, "1 operating points for 8 classes"),
        ({"operating_points": {"lung": 1.5}}, "operating point of 'lung' is 1.5"),
        ({"operating_points": {"lung": float("nan")}}, "operating point of 'lung' is nan"),
        ({"task": "../location"}, "expected a plain name"),
        ({"model": {"bundle": "x"}}, "expected a ModelProvenance"),
    ],
)
def test_a_bad_answer_is_refused_with_what_was_found(make, changes, message):
    with pytest.raises(ResultError, match=message) as error:
        make.location(**changes)
    assert isinstance(error.value, RadclearError)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bundle": "/home/doe/bundle"}, "Pass the bundle's name, not its path"),
        ({"weights_sha256": "abc"}, "64 lower-case hexadecimal"),
        ({"config_sha256": None}, "config_sha256 is None"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"demonstration": 1}, "expected True or False"),
    ],
)
def test_provenance_is_checked(make, changes, message):
    with pytest.raises(ResultError, match=message):
        make.provenance(**changes)


def test_precision_may_be_a_torch_dtype(make):
    torch = pytest.importorskip("torch")
    assert make.provenance(precision=torch.bfloat16).precision == "bfloat16"


def test_attention_that_rounding_lifted_above_one_is_one(make):
    attention = np.array([1 + 6e-8])  # what a float32 softmax over two windows of one slice may sum to
    answer = make.location(attention=attention, key_slices=(0,))
    assert answer.attention.tolist() == [1.0]
    attention[0] = 0.0
    assert answer.attention.tolist() == [1.0], "the answer keeps numbers of its own"
