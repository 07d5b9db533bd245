"""Where the two views of a slice are cut: around a lesion, or at random; whole pixels, inside the slice.

A box is (x1, y1, x2, y2) in pixels: column and row where it starts and where it ends. A crop is whole pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

MIN_AREA = 0.08
RATIO = (3 / 4, 4 / 3)
_TRIES = 10

Box = tuple[float, float, float, float]


class Crop(NamedTuple):
    """Columns left to left + width and rows top to top + height of a slice."""

    left: int
    top: int
    width: int
    height: int


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """One number of [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def whole(generator: torch.Generator, low: int, high: int) -> int:
    """One whole number of [low, high]; low where there is nothing between."""
    return low if high <= low else int(torch.randint(low, high + 1, (), generator=generator))


def lesion_crop(
    size: tuple[int, int], box: Box, generator: torch.Generator, *, min_area: float = MIN_AREA
) -> Crop:
    """A crop around a lesion: centred on the box's centre, shifted as little as needed to stay in the slice.

    Width and height are drawn independently and uniformly from [√min_area · S, S) for a side S of the slice,
    and never below the box's own, so that the whole lesion is inside (after CLEAR, which draws one area per
    side but centres on a corner of the box).

    Args:
        size: (rows, columns) of the slice.
        box: the lesion; what lies outside the slice does not count.
        generator: of the draws.
        min_area: smallest crop as a share of the slice.

    Returns:
        The crop.

    Raises:
        ValueError: the box does not overlap the slice.
    """
    rows, columns = size
    left, width = _span(box[0], box[2], columns, generator, min_area)
    top, height = _span(box[1], box[3], rows, generator, min_area)
    return Crop(left, top, width, height)


def _span(low: float, high: float, side: int, generator: torch.Generator, min_area: float) -> tuple[int, int]:
    """Start and length of the crop along one axis."""
    first, last = max(0, math.floor(low)), min(side, math.ceil(high))
    if not first < last:
        raise ValueError(f"a box from {low} to {high} does not overlap a slice of {side} pixels")
    shortest = max(math.ceil(math.sqrt(min_area) * side), last - first)
    length = whole(generator, shortest, side - 1)
    start = round((low + high) / 2 - length / 2)
    start = min(max(start, last - length), first)  # rounding must not cut a pixel of the lesion
    return min(max(start, 0), side - length), length


def random_crop(
    size: tuple[int, int],
    generator: torch.Generator,
    *,
    area: tuple[float, float] = (MIN_AREA, 1.0),
    ratio: tuple[float, float] = RATIO,
) -> Crop:
    """A crop of random area, shape and place, as "random resized crop" has it.

    The area is uniform over its range and the shape log-uniform; where ten draws do not fit, the largest
    central crop of an allowed shape.

    Args:
        size: (rows, columns) of the slice.
        generator: of the draws.
        area: smallest and largest share of the slice.
        ratio: smallest and largest width over height.
    """
    rows, columns = size
    for _ in range(_TRIES):
        pixels = rows * columns * uniform(generator, *area)
        shape = math.exp(uniform(generator, math.log(ratio[0]), math.log(ratio[1])))
        width, height = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
        if 0 < width <= columns and 0 < height <= rows:
            left = whole(generator, 0, columns - width)
            return Crop(left, whole(generator, 0, rows - height), width, height)
    width, height = min(columns, round(rows * ratio[1])), min(rows, round(columns / ratio[0]))
    return Crop((columns - width) // 2, (rows - height) // 2, width, height)
