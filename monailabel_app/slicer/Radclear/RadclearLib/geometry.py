"""Where a slice of an answer is in the scene: radclear counts in LPS millimetres, Slicer in RAS.

An answer's slices are axial, upright and counted from the feet, in whatever order the volume in the scene is
stored. A volume may lie under transforms: marks and views follow them, voxels are found without them.
"""

from __future__ import annotations

import numpy as np

from .answer import Answer
from .voxels import geometry

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SQUARE_ENOUGH = 0.02  # how far a step of the grid may be from one along a stored axis; ends are checked too


def points_ras(answer: Answer, columns, rows, index) -> np.ndarray:
    """RAS positions of points of a slice, before transforms.

    Args:
        answer: whose grid it is.
        columns, rows: from 0, at the patient's right and front; scalars or arrays of one shape.
        index: of the slice, from 0 at the feet.

    Returns:
        The shape of `columns`, and 3.
    """
    columns, rows, index = np.broadcast_arrays(columns, rows, index)
    grid = np.stack([columns, rows, index, np.ones_like(columns)], axis=-1).astype(float)
    return (grid @ (_LPS_TO_RAS @ answer.affine_lps).T)[..., :3]


def slice_middle(answer: Answer, index: int) -> list:
    """RAS position of the middle of a slice, before transforms."""
    n_columns, n_rows, _ = answer.shape
    return [float(v) for v in points_ras(answer, (n_columns - 1) / 2, (n_rows - 1) / 2, index)]


def slice_middle_in_world(answer: Answer, volume, index: int) -> list:
    """Where the middle of a slice is seen, as the volume lies under its transforms now."""
    place = [0.0, 0.0, 0.0]
    volume.TransformPointToWorld(slice_middle(answer, index), place)
    return place


def grid_to_ijk(answer: Answer, volume) -> np.ndarray:
    """4 × 4 from the answer's (column, row, slice) to the stored voxels of a volume node."""
    return np.linalg.inv(geometry(volume)) @ _LPS_TO_RAS @ answer.affine_lps


def mismatch(answer: Answer, volume) -> str:
    """A sentence where the volume in the scene does not lie where the answered one did; empty where it does.

    Args:
        answer: to the study.
        volume: the node that is shown.
    """
    to_ijk = grid_to_ijk(answer, volume)
    last = np.array(answer.shape) - 1
    size = volume.GetImageData().GetDimensions()
    places = np.array([[0, 0, 0, 1], [*last, 1]]) @ to_ijk.T
    low, high = places[:, :3].min(axis=0), places[:, :3].max(axis=0)
    off = max(np.abs(low).max(), np.abs(high - np.array(size) + 1).max())
    turn = to_ijk[:3, :3]
    if off < 1.0 and np.abs(turn - np.round(turn)).max() < _SQUARE_ENOUGH:
        return ""
    return (
        f"The volume in Slicer and the one that was answered are up to {max(off, 1.0):.0f} voxels apart, so "
        "the answer is not shown. Load the study again, or ask about the volume in Slicer; where that does "
        "not help, look at the study on the server's results page."
    )
