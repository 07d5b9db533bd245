"""Real lesions: crops around the boxes of DeepLesion's key slices, beside crops of these slices without one.

The other crop is the one of the slice whose grey levels are most like those of the lesion's, so that the
organ alone tells little; what the thumbnails know is the floor. DeepLesion marks some lesions of a slice, not
all, so a crop without a box may hold one too.
"""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
from scipy import ndimage

from radclear.ct import DEFAULT_WINDOWS, apply_window
from radclear.experiments.encoders import ExperimentError

SHARE = 0.15  # side of a crop over the side of the slice, some 60 mm
STEP = 4  # pixels between the squares that are looked at
BODY_HU = -300
OFFSET_16BIT = -32768
LOWEST_HU, RANGE_HU = -1024, 4095  # of the 8-bit pictures
LESION, OTHER = "lesion", "other place"


def read_hu(path: Path) -> np.ndarray:
    """(rows, columns) float32 HU of a key slice, 16-bit as published or 8-bit over [-1024, 3071]."""
    grey = imagecodecs.imread(path)
    if grey.dtype == np.uint16 and grey.ndim == 2:
        return grey.astype(np.float32) + OFFSET_16BIT
    if grey.dtype == np.uint8 and grey.ndim in (2, 3):
        grey = grey if grey.ndim == 2 else grey[..., 0]
        return LOWEST_HU + grey.astype(np.float32) / 255 * RANGE_HU
    raise ExperimentError(f"{path.name} is {grey.dtype} of shape {grey.shape}; expected a grey slice")


def corner(centre: tuple[float, float], shape: tuple[int, int], wide: int) -> tuple[int, int]:
    """(top, left) of the square around a centre (row, column), moved into the slice."""
    row, column = (
        min(max(round(c - wide / 2), 0), side - wide) for c, side in zip(centre, shape, strict=True)
    )
    return row, column


def place_alike(
    grey: np.ndarray, hu: np.ndarray, boxes: np.ndarray, lesion: tuple[int, int], wide: int
) -> tuple[int, int] | None:
    """Corner of the square that resembles a lesion's square most and touches no box; None where none is free.

    Alike are those with nearly the same mean and standard deviation of grey levels, and with their middle in
    the body.

    Args:
        grey, hu: (rows, columns), windowed and not.
        boxes: (k, 4) x1, y1, x2, y2 of all lesions of the slice.
        lesion: corner of the lesion's square.
        wide: side of the squares.
    """
    inside = tuple(slice(wide // 2, side - wide + wide // 2 + 1, STEP) for side in grey.shape)  # the middles
    mean = ndimage.uniform_filter(grey.astype(float), wide)[inside]
    square = ndimage.uniform_filter(grey.astype(float) ** 2, wide)[inside]
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    top, left = (STEP * index for index in np.indices(mean.shape))
    parts, _ = ndimage.label(hu > BODY_HU)
    sizes = np.bincount(parts.ravel())[1:]
    if not len(sizes):
        return None
    body = ndimage.binary_fill_holes(parts == sizes.argmax() + 1)
    free = body[top + wide // 2, left + wide // 2]
    for x1, y1, x2, y2 in boxes:
        free &= (x1 >= left + wide) | (x2 <= left) | (y1 >= top + wide) | (y2 <= top)
    if not free.any():
        return None
    own = grey[lesion[0] : lesion[0] + wide, lesion[1] : lesion[1] + wide].astype(float)
    unlike = np.hypot(mean - own.mean(), deviation - own.std())
    best = np.where(free, unlike, np.inf).argmin()
    return int(top.flat[best]), int(left.flat[best])


def lesion_crops(folder: Path) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """A crop with each lesion, and one without from the same slice, under the window of the lesion's organ.

    Args:
        folder: with `lesions.csv` (`path`, `x1`, `y1`, `x2`, `y2`, `coarse_lesion_type_name`),
            `manifest.csv` (`path`, `group`) and the pictures.

    Returns:
        n uint8 pictures, (n,) `LESION` or `OTHER`, (n,) group.
    """
    for name in ("lesions.csv", "manifest.csv"):
        if not (folder / name).is_file():
            raise ExperimentError(f"{folder / name} does not exist; expected key slices of DeepLesion")
    groups = pd.read_csv(folder / "manifest.csv", dtype=str).set_index("path")["group"]
    pictures, labels, whose = [], [], []
    for path, rows in pd.read_csv(folder / "lesions.csv").groupby("path", sort=True):
        hu = read_hu(folder / path)
        boxes = rows[["x1", "y1", "x2", "y2"]].to_numpy(float)
        wide = round(SHARE * hu.shape[0])
        for (x1, y1, x2, y2), organ in zip(boxes, rows["coarse_lesion_type_name"], strict=True):
            grey = apply_window(hu, DEFAULT_WINDOWS[organ == "lung"])
            lesion = corner(((y1 + y2) / 2, (x1 + x2) / 2), hu.shape, wide)
            other = place_alike(grey, hu, boxes, lesion, wide)
            for label, place in ((LESION, lesion), (OTHER, other)) if other else ():
                top, left = place
                pictures.append(grey[top : top + wide, left : left + wide])
                labels.append(label)
                whose.append(groups[path])
    return pictures, np.array(labels), np.array(whose)
