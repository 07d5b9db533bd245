"""Where a slice of an answer is in the scene: radclear counts in LPS millimetres, Slicer in RAS.

An answer's slices are axial, upright and counted from the feet, in whatever order the volume in the scene is
stored.
"""

from __future__ import annotations

import numpy as np
import vtk

from .answer import Answer

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def points_ras(answer: Answer, columns, rows, index) -> np.ndarray:
    """RAS positions of points of a slice.

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
    """RAS position of the middle of a slice."""
    n_columns, n_rows, _ = answer.shape
    return [float(v) for v in points_ras(answer, (n_columns - 1) / 2, (n_rows - 1) / 2, index)]


def nearest_slice(answer: Answer, ras) -> int:
    """Index of the slice that is nearest to a RAS position."""
    to_grid = np.linalg.inv(_LPS_TO_RAS @ answer.affine_lps)
    index = int(round(float((to_grid @ [*ras, 1.0])[2])))
    return min(max(index, 0), answer.shape[2] - 1)


def ras_to_ijk(volume) -> np.ndarray:
    """4 × 4 from RAS to the voxels of a volume node, through its transforms where it has some."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(matrix)
    to_ijk = np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])
    transform = volume.GetParentTransformNode()
    if transform is None:
        return to_ijk
    from_world = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformFromWorld(from_world)
    return to_ijk @ np.array([[from_world.GetElement(i, j) for j in range(4)] for i in range(4)])


def mismatch(answer: Answer, volume) -> str:
    """A sentence where the volume in the scene does not lie where the answered one did; empty where it does.

    Args:
        answer: to the study.
        volume: the node that is shown.
    """
    last_column, last_row, last = (n - 1 for n in answer.shape)
    corners = points_ras(answer, [0, last_column], [0, last_row], [0, last])
    size = volume.GetImageData().GetDimensions()
    places = (np.c_[corners, [1, 1]] @ ras_to_ijk(volume).T)[:, :3]
    low, high = places.min(axis=0), places.max(axis=0)
    off = max(np.abs(low).max(), np.abs(high - np.array(size) + 1).max())
    if off < 1.0:
        return ""
    return (
        f"The volume in the scene and the one that was answered are up to {off:.0f} voxels apart: it was "
        "moved, cropped or resampled, or its slices are not evenly spaced. Jumps and marks may be wrong."
    )
