"""Crops with a lesion, and their partners: the same place of another patient, without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from radclear.experiments.lesion_crops import SHARE, Place, crop_pairs, cut, partners


@pytest.mark.parametrize("x, y", [(0.5, 0.5), (0.31, 0.72), (0.02, 0.98)])
def test_the_crop_is_centred_on_the_lesion_or_as_near_as_the_slice_allows(x, y):
    side = 60
    stack = torch.zeros(5, 1, side, side, dtype=torch.uint8)
    row, column = int(y * side), int(x * side)
    stack[3, 0, row, column] = 255
    picture = cut(stack, Place(0, 0.75, x, y), round(SHARE * side))  # not resized
    (found,) = picture[0].nonzero().tolist()
    half, start = (
        SHARE * side / 2,
        [min(max(v * side - SHARE * side / 2, 0), side * (1 - SHARE)) for v in (y, x)],
    )
    assert found == pytest.approx([row - start[0], column - start[1]], abs=1)
    if 0.3 < x < 0.7:
        assert found == pytest.approx([half, half], abs=1)


def test_partners_show_no_lesion_and_are_other_patients():
    rng = np.random.default_rng(0)
    lesion = [rng.random(11) < 0.5 for _ in range(7)]
    places = [Place(n, z / 10, 0.5, 0.5) for n in range(7) for z in np.flatnonzero(lesion[n])]
    found = partners(places, lesion)
    for place, partner in zip(places, found, strict=True):
        assert partner != place.study and not lesion[partner][round(place.height * 10)]
    assert len(set(found)) > 3
    assert partners([Place(0, 0.0, 0.5, 0.5)], [np.array([True])] * 3) == [None]


def test_pairs_are_cut_from_the_studies_they_name():
    stacks = [torch.full((3, 2, 20, 20), level, dtype=torch.uint8) for level in (10, 20, 30)]
    lesion = [np.array([True, False, False]), np.array([True, False, True]), np.array([False, False, True])]
    places = [Place(0, 0.0, 0.5, 0.5), Place(1, 0.0, 0.5, 0.5), Place(1, 1.0, 0.5, 0.5)]
    crops, shown, studies = crop_pairs(stacks, lesion, places, size=8)
    assert crops.shape == (6, 2, 8, 8) and shown.tolist() == [True, False] * 3
    assert studies.tolist() == [0, 2, 1, 2, 1, 0]
    assert [int(c.unique()) for c in crops] == [10, 30, 20, 30, 20, 10]
