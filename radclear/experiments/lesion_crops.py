"""Lesions at the scale of pre-training's views: crops with one, beside crops of the same place without.

The whole slice shows most lesions a few pixels wide. A crop shows the lesion large, and its partner shows the
same place of another patient, so that the place alone tells nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

SHARE = 0.3  # side of a crop over the side of the slice; pre-training starts at √0.08


@dataclass(frozen=True)
class Place:
    """Where a lesion is annotated.

    Attributes:
        study: number of the study.
        height: of its slice, from 0 for the first to 1 for the last.
        x, y: centre of the box as a share of the slice's side.
    """

    study: int
    height: float
    x: float
    y: float


def cut(stack: Tensor, place: Place, size: int) -> Tensor:
    """The crop of a study at a place: (slices, windows, S, S) uint8 → (windows, size, size) uint8."""
    side = stack.shape[-1]
    wide = round(SHARE * side)
    left, top = (min(max(round(v * side - wide / 2), 0), side - wide) for v in (place.x, place.y))
    picture = stack[slice_at(place, len(stack)), :, top : top + wide, left : left + wide]
    resized = interpolate(picture[None].float(), (size, size), mode="bilinear", antialias=True)
    return resized[0].round().to(torch.uint8)


def slice_at(place: Place, n_slices: int) -> int:
    """Number of the slice at the place's height."""
    return round(place.height * (n_slices - 1))


def partners(places: Sequence[Place], lesion: Sequence[np.ndarray]) -> list[int | None]:
    """For each place, the next study whose slice at its height shows no lesion; None where there is none.

    Args:
        places: of lesions.
        lesion: for each study, (slices,) bool.
    """
    found: list[int | None] = []
    for place in places:
        others = [(place.study + step) % len(lesion) for step in range(1, len(lesion))]
        free = (n for n in others if not lesion[n][slice_at(place, len(lesion[n]))])
        found.append(next(free, None))
    return found


def crop_pairs(
    stacks: Sequence[Tensor], lesion: Sequence[np.ndarray], places: Sequence[Place], *, size: int
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Crops with a lesion and their partners without.

    Args:
        stacks: (slices, windows, S, S) uint8 of each study of one split.
        lesion: for each study, (slices,) bool.
        places: of lesions.
        size: side of the crops after resizing.

    Returns:
        (n, windows, size, size) uint8, (n,) bool whether a lesion is shown, (n,) number of the study.
    """
    crops, shown, studies = [], [], []
    for place, partner in zip(places, partners(places, lesion), strict=True):
        if partner is not None:
            crops += [cut(stacks[place.study], place, size), cut(stacks[partner], place, size)]
            shown += [True, False]
            studies += [place.study, partner]
    return torch.stack(crops), np.array(shown), np.array(studies)
