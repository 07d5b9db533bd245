"""Stored axes to the canonical ones: x to the patient's left, y to posterior, z to the head (LPS)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from radclear.ct.study import Finding

AXIS_NAMES = ("sagittal", "coronal", "axial")
OBLIQUE_TOLERANCE_DEGREES = 0.5
OBLIQUE_WARNING_DEGREES = 5.0


@dataclass(frozen=True)
class Axes:
    """Which stored axis becomes which canonical one, and which are reversed.

    Attributes:
        stored: for canonical x, y, z the stored axis that runs along it.
        reversed: for canonical x, y, z whether the stored axis runs the other way.
    """

    stored: tuple[int, int, int]
    reversed: tuple[bool, bool, bool]

    def plane(self, axis: int) -> str:
        """``"axial"``, ``"coronal"`` or ``"sagittal"``: the plane that a stored axis is stacked through."""
        return AXIS_NAMES[self.stored.index(axis)]


def nearest_axes(steps: np.ndarray) -> Axes:
    """Assign stored axes to canonical ones so that the directions agree best.

    Args:
        steps: (3, 3), column i is the LPS step in mm of stored axis i.

    Returns:
        The one of the 48 permutations and flips with the largest sum of cosines.
    """
    cosines = steps / np.linalg.norm(steps, axis=0)
    stored = max(permutations(range(3)), key=lambda order: sum(abs(cosines[k, order[k]]) for k in range(3)))
    return Axes(stored, tuple(bool(cosines[k, stored[k]] < 0) for k in range(3)))


def canonical_affine(
    steps: np.ndarray, origin: np.ndarray, shape: tuple[int, int, int], axes: Axes
) -> np.ndarray:
    """Affine of the canonical array.

    Args:
        steps: (3, 3), column i is the LPS step in mm of stored axis i.
        origin: (3,) LPS position of the first stored voxel.
        shape: length of each stored axis.
        axes: the assignment.

    Returns:
        (4, 4) float64, canonical voxel (x, y, z, 1) to LPS mm.
    """
    affine = np.eye(4)
    affine[:3, 3] = origin
    for k in range(3):
        axis = axes.stored[k]
        sign = -1.0 if axes.reversed[k] else 1.0
        affine[:3, k] = sign * steps[:, axis]
        if axes.reversed[k]:
            affine[:3, 3] += steps[:, axis] * (shape[axis] - 1)
    return affine + 0.0  # no negative zeros


def stored_view(canonical: np.ndarray, axes: Axes) -> np.ndarray:
    """The canonical (z, y, x) array seen along the stored axes, for writing into it.

    Args:
        canonical: (z, y, x).
        axes: the assignment.

    Returns:
        A view whose dimension i is stored axis i.
    """
    by_xyz = canonical.transpose(2, 1, 0)
    flipped = by_xyz[tuple(slice(None, None, -1) if reverse else slice(None) for reverse in axes.reversed)]
    return flipped.transpose(tuple(axes.stored.index(axis) for axis in range(3)))


def centre_z_mm(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """LPS z of each slice's centre voxel on an even grid.

    Args:
        affine: canonical affine.
        shape: (z, y, x).

    Returns:
        (z,) float64.
    """
    n_z, n_y, n_x = shape
    centre = affine[2, 0] * (n_x - 1) / 2 + affine[2, 1] * (n_y - 1) / 2 + affine[2, 3]
    return centre + affine[2, 2] * np.arange(n_z)


def oblique_findings(directions: np.ndarray, axes: Axes) -> list[Finding]:
    """Say how far a volume lies off the patient's axes.

    Args:
        directions: (3, 3), column i is the LPS unit direction of stored axis i.
        axes: the assignment.

    Returns:
        Nothing below 0.5 degrees, an info up to 5, a warning above.
    """
    cosines = [abs(float(directions[k, axes.stored[k]])) for k in range(3)]
    angle = float(np.degrees(np.arccos(min(1.0, min(cosines)))))
    if angle <= OBLIQUE_TOLERANCE_DEGREES:
        return []
    severity = "warning" if angle > OBLIQUE_WARNING_DEGREES else "info"
    message = (
        f"the volume lies {angle:.1f} degrees off the patient's axes; the nearest are used without resampling"
    )
    return [Finding("oblique", severity, message)]
