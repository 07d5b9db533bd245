"""Small pictures of a study as a radiologist expects them: right at the left, true proportions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from radclear.ct import ABDOMEN, LUNG, Window
from radclear.ct.study import Study
from radclear.results.png import png_data_uri

_OVERVIEW_ROWS = 256  # averaged along y for the overview
_BAND_ROWS = 40
_GLYPHS = {
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
}


@dataclass(frozen=True)
class Picture:
    """A grey image and how large the imaged field is.

    Attributes:
        grey: (height, width) uint8; pixels are square in millimetres.
        width_mm: extent from the first to the last column's outer edge.
        height_mm: extent from the first to the last row's outer edge.
    """

    grey: np.ndarray
    width_mm: float
    height_mm: float

    @cached_property
    def data_uri(self) -> str:
        """The picture as a ``data:`` address, encoded once however often it is shown."""
        return png_data_uri(self.grey)


def task_windows(task: str) -> tuple[Window, Window]:
    """Both display windows, the one that suits the task first."""
    return (LUNG, ABDOMEN) if task == "lung_disease" else (ABDOMEN, LUNG)


def slice_pictures(
    study: Study, index: int, windows: Sequence[Window], *, size: int = 360
) -> tuple[Picture, ...]:
    """One axial slice seen from the feet: the patient's right at the left, anterior up, R and L drawn in.

    Args:
        study: the study; ``hu[index]`` is oriented already, so nothing is flipped here.
        index: slice, counted from 0 at the foot end.
        windows: display windows in HU.
        size: pixels along the longer side.

    Returns:
        One picture per window; they share one resize.
    """
    spacing_x, spacing_y, _ = study.spacing_mm
    hu = study.hu[index].astype(np.float32)
    width_mm, height_mm = hu.shape[1] * spacing_x, hu.shape[0] * spacing_y
    scale = size / max(width_mm, height_mm)
    small = _resize(hu, _pixels(height_mm, scale), _pixels(width_mm, scale))
    pictures = []
    for window in windows:
        grey = _window(small, window)
        _mark_sides(grey)
        pictures.append(Picture(grey=grey, width_mm=width_mm, height_mm=height_mm))
    return tuple(pictures)


def overview_picture(study: Study, *, height: int = 320) -> Picture | None:
    """The study seen from the front, head up, like the scout of a scanner: mean HU along y.

    The first row is the highest slice centre, the last row the lowest, so that it lines up with a z axis.

    Args:
        study: the study.
        height: pixels from the highest to the lowest slice.

    Returns:
        The picture, or None where the study is too flat along z to be recognised.
    """
    spacing_x = study.spacing_mm[0]
    low, high = float(study.z_mm.min()), float(study.z_mm.max())
    width_mm, height_mm = study.hu.shape[2] * spacing_x, high - low
    if height_mm < width_mm / 4:
        return None
    # Air is clipped so that the table and the lungs do not wash out the body's outline. A picture of this
    # size needs no more than every second row of 512.
    step = max(1, study.hu.shape[1] // _OVERVIEW_ROWS)
    rows = np.stack([_mean_row(plane[step // 2 :: step]) for plane in study.hu])
    position = np.interp(np.linspace(high, low, max(height, len(rows))), study.z_mm, np.arange(len(rows)))
    below = np.floor(position).astype(int)
    above = np.minimum(below + 1, len(rows) - 1)
    part = (position - below).astype(np.float32)[:, None]
    upright = rows[below] * (1 - part) + rows[above] * part
    image = _resize(upright, height, _pixels(width_mm, height / height_mm))
    darkest, brightest = np.percentile(image, (2, 99.7))
    grey = np.clip((image - darkest) / max(brightest - darkest, 1.0) * 255, 0, 255).round().astype(np.uint8)
    return Picture(grey=grey, width_mm=width_mm, height_mm=height_mm)


def _mean_row(plane: np.ndarray) -> np.ndarray:
    """(x,) float32: mean along y of HU clipped to -1000 to 1000, exact, for up to 2 ** 21 rows."""
    clipped = np.clip(plane, np.int16(-1000), np.int16(1000))
    return (clipped.sum(axis=0, dtype=np.int32) / len(clipped)).astype(np.float32)


def _window(hu: np.ndarray, window: Window) -> np.ndarray:
    floor = window.level_hu - window.width_hu / 2
    grey = (hu - np.float32(floor)) * np.float32(255 / window.width_hu)
    return np.rint(np.clip(grey, 0, 255, out=grey), out=grey).astype(np.uint8)


def _pixels(length_mm: float, pixels_per_mm: float) -> int:
    return max(1, round(length_mm * pixels_per_mm))


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Antialiased bilinear resize: a triangle filter along each axis, wider by the factor of shrinking."""
    return _resize_rows(_resize_rows(image, height).T, width).T


def _resize_rows(image: np.ndarray, n_out: int) -> np.ndarray:
    out = np.empty((n_out, image.shape[1]), np.float32)
    for outputs, inputs, weights in _bands(image.shape[0], n_out):
        np.matmul(weights, image[inputs], out=out[outputs])
    return out


@lru_cache(maxsize=16)
def _bands(n_in: int, n_out: int) -> tuple[tuple[slice, slice, np.ndarray], ...]:
    """The filter as a matrix in bands of outputs, each without the inputs that do not reach it, which are
    nearly all."""
    scale = n_in / n_out
    centres = (np.arange(n_out)[:, None] + 0.5) * scale - 0.5
    matrix = np.maximum(0, 1 - np.abs(np.arange(n_in) - centres) / max(scale, 1))
    matrix = (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)
    bands = []
    for start in range(0, n_out, _BAND_ROWS):
        rows = matrix[start : start + _BAND_ROWS]
        reached = np.flatnonzero(rows.any(axis=0))
        inputs = slice(int(reached[0]), int(reached[-1]) + 1)
        bands.append((slice(start, start + len(rows)), inputs, np.ascontiguousarray(rows[:, inputs])))
    return tuple(bands)


def _mark_sides(grey: np.ndarray) -> None:
    """Draw R at the left edge and L at the right one, white on black, at half height."""
    zoom = 2 if min(grey.shape) >= 128 else 1
    for letter in "RL":
        stamp = _stamp(letter, zoom)
        height, width = stamp.shape
        if height > grey.shape[0] or 2 * width > grey.shape[1]:
            return
        top = (grey.shape[0] - height) // 2
        left = 0 if letter == "R" else grey.shape[1] - width
        grey[top : top + height, left : left + width] = stamp


@lru_cache(maxsize=4)
def _stamp(letter: str, zoom: int) -> np.ndarray:
    glyph = np.array([[int(bit) for bit in row] for row in _GLYPHS[letter]], np.uint8)
    return np.kron(np.pad(glyph, 1), np.ones((zoom, zoom), np.uint8)) * 255
