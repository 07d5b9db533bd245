"""Hounsfield windows and the slice stack that the backbones see.

A window maps HU to grey levels 0 to 255: with floor = level - width / 2,

    grey = floor(255 * clip((HU - floor) / width, 0, 1) + 1/2)

that is, linear between floor and floor + width, rounded to the nearest level with halves up. The result is
exact for every HU value: it is tabulated once per window in rational arithmetic, not computed per pixel in
floating point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np

from radclear.ct.study import Study

if TYPE_CHECKING:
    import torch

_CHUNK = 8
_CHANNELS = 4
_FIRST_HU = -32768
#: Just above one half, so that exact halves round up in spite of the rounding of float32.
_ROUND_UP = 0.5 + 2**-14


@dataclass(frozen=True)
class Window:
    """A range of Hounsfield units to spread over the grey levels.

    Attributes:
        name: short identifier, for example ``"lung"``.
        level_hu: centre.
        width_hu: extent, above zero.
    """

    name: str
    level_hu: float
    width_hu: float

    def __post_init__(self) -> None:
        if not self.width_hu > 0:
            raise ValueError(
                f"window {self.name!r} has width {self.width_hu} HU, expected a number above zero"
            )

    @property
    def floor_hu(self) -> float:
        """Lower end: what is at or below it is black."""
        return self.level_hu - self.width_hu / 2


ABDOMEN = Window("abdomen", 40, 400)
LUNG = Window("lung", -600, 1500)
DEFAULT_WINDOWS = (ABDOMEN, LUNG)


@lru_cache(maxsize=32)
def _table(window: Window) -> np.ndarray:
    """(65536,) uint8: the grey level of every int16 value, indexed by the value's bits as uint16."""
    width = Fraction(window.width_hu)
    low = Fraction(window.level_hu) - width / 2
    first, last = max(_FIRST_HU, floor(low)), min(32767, floor(low + width) + 1)
    grey = np.zeros(65536, np.uint8)
    grey[max(0, last - _FIRST_HU) :] = 255
    for value in range(first, last + 1):
        share = min(max((value - low) / width, Fraction(0)), Fraction(1))
        grey[value - _FIRST_HU] = floor(255 * share + Fraction(1, 2))
    grey = np.roll(grey, _FIRST_HU)
    grey.setflags(write=False)
    return grey


def apply_window(hu: np.ndarray, window: Window) -> np.ndarray:
    """Grey levels of Hounsfield units.

    Args:
        hu: int16, any shape.
        window: the range to show.

    Returns:
        uint8 of the same shape; see the top of this module for the formula.
    """
    return np.take(_table(window), np.asarray(hu, np.int16).view(np.uint16))


class _Scratch:
    """Room for one slice in between."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.clipped, self.scaled = np.empty(shape, np.int16), np.empty(shape, np.float32)


def _linear(hu: np.ndarray, window: Window, scratch: _Scratch, out: np.ndarray) -> None:
    """The window as one multiplication and addition in float32; ``_linear_is_exact`` says where that is
    right.

    What is outside the window is clipped first, while the numbers are half as long, to the outermost whole
    HU in it; these may miss black or white by less than half a grey level, or the window is not exact.
    """
    slope = 255 / window.width_hu
    low, high = ceil(window.floor_hu), floor(window.floor_hu + window.width_hu)
    np.clip(hu, np.int16(max(low, _FIRST_HU)), np.int16(min(high, 32767)), out=scratch.clipped)
    np.copyto(scratch.scaled, scratch.clipped)
    np.multiply(scratch.scaled, np.float32(slope), out=scratch.scaled)
    np.add(scratch.scaled, np.float32(_ROUND_UP - window.floor_hu * slope), out=scratch.scaled)
    np.copyto(out, scratch.scaled, casting="unsafe")


@lru_cache(maxsize=32)
def _linear_is_exact(window: Window) -> bool:
    """Whether float32 gives the tabulated grey level of every int16 value, as it does for all usual
    windows."""
    if window.floor_hu > 32767 or window.floor_hu + window.width_hu < _FIRST_HU:
        return False  # beyond int16, where `_linear` cannot clip
    values = np.arange(_FIRST_HU, -_FIRST_HU).astype(np.int16)
    grey = np.empty(values.shape, np.uint8)
    _linear(values, window, _Scratch(values.shape), grey)
    return bool(np.array_equal(grey, apply_window(values, window)))


def _window_chunk(hu: np.ndarray, window: Window, scratch: _Scratch, out: np.ndarray) -> None:
    """``apply_window`` slice by slice into ``out``: twice as fast where float32 is exact, the table
    elsewhere."""
    for k in range(len(hu)):
        if _linear_is_exact(window):
            _linear(hu[k], window, scratch, out[k])
        else:
            out[k] = apply_window(hu[k], window)


def slice_stack(
    study: Study, *, windows: Sequence[Window] = DEFAULT_WINDOWS, size: int = 224
) -> torch.Tensor:
    """All axial slices through each window, resized to squares.

    Windowing comes first, then antialiased bilinear interpolation of the grey levels. For slices of 512, 448
    and 224 pixels the result equals PIL's ``Image.resize`` bit for bit (on x86 CPUs with AVX2), for other
    sizes within one grey level. Slices keep their aspect ratio in millimetres: the longer side fills
    ``size``, the other is centred and padded with 0, the window's floor. Works in chunks, so that memory
    stays at the result plus a few slices.

    Args:
        study: the study.
        windows: which windows, in this order.
        size: side of the result in pixels.

    Returns:
        (windows, slices, size, size) uint8 on the CPU.
    """
    import torch

    n_slices, rows, columns = study.hu.shape
    height, width = fitted_shape(rows * study.spacing_mm[1], columns * study.spacing_mm[0], size)
    top, left = (size - height) // 2, (size - width) // 2
    stack = torch.zeros((len(windows), n_slices, size, size), dtype=torch.uint8)
    grey = np.empty((min(_CHUNK, n_slices), rows, columns), np.uint8)
    scratch = _Scratch((rows, columns))
    for start in range(0, n_slices, _CHUNK):
        chunk = study.hu[start : start + _CHUNK]
        for w, window in enumerate(windows):
            _window_chunk(chunk, window, scratch, grey)
            pictures = torch.from_numpy(grey[: len(chunk)])
            if (height, width) != (rows, columns):
                pictures = _resized(pictures, (height, width))
            stack[w, start : start + _CHUNK, top : top + height, left : left + width] = pictures
    return stack


def _resized(pictures: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """(n, height, width) uint8, antialiased bilinear.

    Slices go in fours, as if they were the channels of one picture: torch's kernel for 8-bit pictures takes
    four channels at a time in its vector registers, which is three times as fast and gives the same bytes.
    """
    import torch

    fours = len(pictures) // _CHANNELS * _CHANNELS
    parts = [part for part in (pictures[:fours], pictures[fours:]) if len(part)]
    resized = [
        torch.nn.functional.interpolate(
            part.unflatten(0, (-1, min(_CHANNELS, len(part)))), shape, mode="bilinear", antialias=True
        ).flatten(0, 1)
        for part in parts
    ]
    return torch.cat(resized)


def fitted_shape(height_mm: float, width_mm: float, size: int) -> tuple[int, int]:
    """Pixels of a slice that fills a square of ``size`` pixels without distortion.

    Args:
        height_mm: extent of the slice along y.
        width_mm: extent of the slice along x.
        size: side of the square.

    Returns:
        (height, width) in pixels, the longer one equal to ``size``.
    """
    longest = max(height_mm, width_mm)
    return max(1, round(size * height_mm / longest)), max(1, round(size * width_mm / longest))
