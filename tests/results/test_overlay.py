"""The label map over a study: frames on key slices, a bar per slice as long as its attention, no more."""

from __future__ import annotations

import numpy as np
import pytest

from radclear.results import attention_overlay, overlay_labels, overlay_names


@pytest.fixture
def overlay(result) -> np.ndarray:
    return attention_overlay(result, "tumor_location")


def test_a_frame_marks_each_key_slice_with_its_rank(overlay):
    for rank, index in enumerate((16, 17, 4), start=1):
        plane = overlay[index]
        for side in (plane[0], plane[-1], plane[:, 0], plane[:, -1]):
            assert (side == rank).all()
        assert {rank} == set(np.unique(plane)) - {0, 4}
    others = np.delete(overlay, (16, 17, 4), axis=0)
    assert set(np.unique(others)) <= {0, 4}


def test_bars_are_as_long_as_the_attention_of_their_slice(overlay, result):
    attention = np.array(result["tasks"][0]["attention"])
    lengths = (overlay == 4).any(axis=1).sum(axis=1)
    longest = overlay.shape[2] - 2
    assert lengths.max() == longest and lengths.argmax() == attention.argmax()
    np.testing.assert_allclose(lengths, np.maximum(attention / attention.max() * longest, 1), atol=0.51)
    first = [(plane == 4).any(axis=0).argmax() for plane in overlay]
    assert set(first) == {1}  # all start at the patient's right, inside the frame


def test_the_body_stays_free(overlay):
    inside = overlay[:, 8:-8, 8:-8]
    assert not inside.any()


def test_the_smallest_slice_has_both(make):
    study = make.study(shape=(24, 32, 32))
    overlay = attention_overlay(make.result(study), "tumor_location")
    assert overlay.shape == (24, 32, 32) and set(np.unique(overlay)) == {0, 1, 2, 3, 4}


def test_names_carry_the_answer_and_match_the_values(overlay, result):
    names = overlay_names(result, "tumor_location")
    assert sorted(names.values()) == sorted(set(np.unique(overlay)) - {0})
    (first,) = (name for name, value in names.items() if value == 1)
    assert "Lung 0.93" in first and "slice 17 of 24" in first and "demonstration" in first


def test_an_answer_with_fewer_key_slices_keeps_the_value_of_the_bar(result):
    overlay = attention_overlay(result, "staging", n_key_slices=3)
    assert set(np.unique(overlay)) == {0, 1, 4}
    assert sorted(overlay_names(result, "staging", n_key_slices=3).values()) == [1, 4]
    assert overlay_labels(3) == {"key slice 1": 1, "key slice 2": 2, "key slice 3": 3, "attention": 4}
