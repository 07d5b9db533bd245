"""Random fields: smooth deformation and tissue texture on coarse grids, and the noise of a scanner.

Only sums, products and square roots are used on arrays, so that a field is the same to the bit wherever numpy
follows IEEE 754.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_AXIS_STD = float(
    np.sqrt(151.0 / 315.0)
)  # of a unit white lattice under a cubic B-spline, mean over the cell


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[int, ...]) -> np.ndarray:
    """A smooth random field of about unit variance: a white lattice under cubic B-splines.

    Args:
        rng: source of the lattice.
        shape: of the field.
        cells: lattice constant along each axis, in voxels.

    Returns:
        float32 array of ``shape``.
    """
    lattice = [-(-n // cell) + 3 for n, cell in zip(shape, cells, strict=True)]
    field = rng.standard_normal(lattice, dtype=np.float32)
    for axis, (n, cell) in enumerate(zip(shape, cells, strict=True)):
        field = _refine(field, axis, cell, n)
    return field


def _refine(field: np.ndarray, axis: int, cell: int, n: int) -> np.ndarray:
    """Evaluate the B-spline along one axis at ``cell`` positions in each of its intervals."""
    t = (np.arange(cell, dtype=np.float64) + 0.5) / cell
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    weights = (weights / _AXIS_STD).astype(np.float32)
    n_intervals = field.shape[axis] - 3
    tail = (1,) * (field.ndim - axis - 1)
    shape = field.shape[:axis] + (n_intervals, cell) + field.shape[axis + 1 :]
    fine = np.zeros(shape, np.float32)
    for k in range(4):
        part = np.take(field, np.arange(k, k + n_intervals), axis=axis)
        fine += np.expand_dims(part, axis + 1) * weights[k].reshape((cell, *tail))
    fine = fine.reshape(field.shape[:axis] + (n_intervals * cell,) + field.shape[axis + 1 :])
    return fine[(slice(None),) * axis + (slice(0, n),)]


def add_scanner_noise(
    hu: np.ndarray,
    rng: np.random.Generator,
    *,
    sigma_hu: float,
    correlation_px: float,
    slice_gain: np.ndarray,
    n_tiles: int = 6,
) -> None:
    """Add correlated noise in place, a different cut of a few filtered tiles on each slice.

    Args:
        hu: (z, y, x) float32 volume.
        rng: source of the tiles and of the cuts.
        sigma_hu: standard deviation at a gain of 1.
        correlation_px: width of the Gaussian that correlates neighbouring pixels, in pixels.
        slice_gain: (z,) factor of the noise on each slice; thick body parts are noisier.
        n_tiles: number of independent tiles.
    """
    n_z, n_y, n_x = hu.shape
    margin = 64
    tiles = rng.standard_normal((n_tiles, n_y + margin, n_x + margin), dtype=np.float32)
    for axis in (1, 2):
        tiles = ndimage.gaussian_filter1d(tiles, correlation_px, axis=axis, mode="wrap", truncate=3.0)
    tiles *= sigma_hu / np.sqrt(np.mean(tiles.astype(np.float64) ** 2))
    choice = rng.integers(0, [[n_tiles, margin, margin, 2, 2]], size=(n_z, 5))
    for k, (tile, dy, dx, flip_y, flip_x) in enumerate(choice):
        cut = tiles[tile, dy : dy + n_y, dx : dx + n_x]
        cut = cut[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
        hu[k] += cut * np.float32(slice_gain[k])
