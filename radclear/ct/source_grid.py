"""The grid that a study's source has, for results that must lie voxel on voxel over the source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radclear.ct.axes import Axes, stored_view


@dataclass(frozen=True)
class SourceGrid:
    """How a source stores its voxels.

    Attributes:
        shape: length of the stored axes (i, j, k), i the fastest in the file.
        steps: (3, 3) LPS mm, column n is the step of stored axis n.
        origin: (3,) LPS mm of the first stored voxel.
        axes: stored axes to the canonical ones.
    """

    shape: tuple[int, int, int]
    steps: np.ndarray
    origin: np.ndarray
    axes: Axes

    @classmethod
    def canonical(cls, affine: np.ndarray, shape: tuple[int, int, int]) -> SourceGrid:
        """The canonical grid itself, which DICOM series are shown on.

        Args:
            affine: (4, 4) canonical voxel (x, y, z, 1) to LPS mm.
            shape: (z, y, x).
        """
        return cls(tuple(shape[::-1]), affine[:3, :3], affine[:3, 3], Axes((0, 1, 2), (False,) * 3))

    def from_canonical(self, values: np.ndarray) -> np.ndarray:
        """Values on the canonical grid, seen in stored order.

        Args:
            values: (z, y, x).

        Returns:
            (i, j, k), a view.

        Raises:
            ValueError: the values are of another grid.
        """
        stored = stored_view(values, self.axes)
        if stored.shape != self.shape:
            raise ValueError(
                f"values of shape {values.shape} become {stored.shape} in stored order, but the source has "
                f"{self.shape}; pass values on the canonical grid of the same study"
            )
        return stored
