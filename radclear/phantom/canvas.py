"""A volume to draw anatomy on: standard coordinates, antialiased painting inside bounding boxes.

Organs are given as implicit functions of about unit slope, negative inside, in millimetres of a *standard
patient*: x to the left from the midline, y to posterior from mid-depth, z to the head from the pelvic floor
(lung apex about 605). A patient is the standard patient scaled along each axis and bent by a smooth warp in
the axial plane, so organs that touch in the standard touch in every patient.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from radclear.phantom.texture import smooth_field

WARP_MARGIN_MM = 14.0

#: Code of each organ in ``Canvas.organs``; 0 is outside the body.
ORGAN_CODES = {
    name: code
    for code, name in enumerate(
        (
            "outside",
            "subcutaneous_fat",
            "muscle",
            "abdominal_cavity",
            "pelvic_cavity",
            "mediastinum",
            "lung_right",
            "lung_left",
            "heart",
            "aorta",
            "great_vessels",
            "airway",
            "esophagus",
            "liver",
            "gallbladder",
            "spleen",
            "stomach",
            "pancreas",
            "bowel",
            "kidney_right",
            "kidney_left",
            "bladder",
            "pelvic_organs",
            "spine",
            "spinal_canal",
            "ribs",
            "sternum",
            "shoulder_girdle",
            "pelvic_bone",
            "femur",
        )
    )
}


@dataclass
class Region:
    """A box of the canvas with the standard coordinates of its voxels.

    Attributes:
        index: three slices into the volume.
        x, y: (z, y, x) standard coordinates in millimetres, warped.
        z: (z, 1, 1) standard coordinate in millimetres.
    """

    index: tuple[slice, slice, slice]
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def profile(self, z_mm: list[float], values: list[float]) -> np.ndarray:
        """(z, 1, 1) float32 values interpolated over the standard z; ``z_mm`` increases."""
        return np.interp(self.z, z_mm, values).astype(np.float32)


@dataclass
class Canvas:
    """The volume being drawn.

    Attributes:
        hu: (z, y, x) float32 Hounsfield units.
        organs: (z, y, x) uint8 codes of ORGAN_CODES.
        x, y: (z, y, x) standard coordinates, warped; z: (z, 1, 1).
        x_axis, y_axis: standard coordinates of columns and rows before the warp.
        spacing_mm: true distance of voxels along x, y, z.
        scale: (x, y, z) of the patient: true millimetres per standard millimetre.
        fields: implicit functions that later organs need, by name, over the whole volume.
    """

    hu: np.ndarray
    organs: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    x_axis: np.ndarray
    y_axis: np.ndarray
    spacing_mm: tuple[float, float, float]
    scale: tuple[float, float, float]
    fields: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def empty(
        cls,
        *,
        n_slices: int,
        size: int,
        spacing_mm: tuple[float, float, float],
        scale: tuple[float, float, float],
        x0_mm: float,
        y0_mm: float,
        z0_mm: float,
        warp_mm: float,
        rng: np.random.Generator,
    ) -> Canvas:
        """A volume of air.

        Args:
            n_slices: number of axial slices.
            size: rows and columns.
            spacing_mm: true voxel distance along x, y, z.
            scale: true millimetres per standard millimetre along x, y, z.
            x0_mm: standard x of the first column; y0_mm of the first row; z0_mm of the first slice.
            warp_mm: standard deviation of the in-plane warp.
            rng: source of the warp.
        """
        shape = (n_slices, size, size)
        step = [np.float32(s / k) for s, k in zip(spacing_mm, scale, strict=True)]
        x = np.float32(x0_mm) + step[0] * np.arange(size, dtype=np.float32)
        y = np.float32(y0_mm) + step[1] * np.arange(size, dtype=np.float32)
        z = np.float32(z0_mm) + step[2] * np.arange(n_slices, dtype=np.float32)
        cell = max(4, round(55.0 / float(step[0])))
        cells = (max(1, round(60.0 / float(step[2]))), cell, cell)
        limit = WARP_MARGIN_MM - 2.0
        warp_x = np.clip(warp_mm * smooth_field(rng, shape, cells), -limit, limit)
        warp_y = np.clip(warp_mm * smooth_field(rng, shape, cells), -limit, limit)
        return cls(
            hu=np.full(shape, -1000.0, np.float32),
            organs=np.zeros(shape, np.uint8),
            x=x[None, None, :] + warp_x,
            y=y[None, :, None] + warp_y,
            z=z[:, None, None],
            x_axis=x,
            y_axis=y,
            spacing_mm=spacing_mm,
            scale=scale,
        )

    @property
    def pixel_mm(self) -> float:
        """Pixel size in standard millimetres."""
        return self.spacing_mm[0] / self.scale[0]

    def region(self, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]) -> Region | None:
        """The box that covers standard ranges whatever the warp; None where the scan does not reach it."""
        margin = WARP_MARGIN_MM
        n_z, n_y, n_x = self.hu.shape
        x_first, y_first = float(self.x_axis[0]), float(self.y_axis[0])
        step_x, step_y = self.spacing_mm[0] / self.scale[0], self.spacing_mm[1] / self.scale[1]
        z_all = self.z[:, 0, 0]
        ks = np.flatnonzero((z_all >= z[0]) & (z_all <= z[1]))
        i0 = max(0, int(np.floor((x[0] - margin - x_first) / step_x)))
        i1 = min(n_x, int(np.ceil((x[1] + margin - x_first) / step_x)) + 1)
        j0 = max(0, int(np.floor((y[0] - margin - y_first) / step_y)))
        j1 = min(n_y, int(np.ceil((y[1] + margin - y_first) / step_y)) + 1)
        if len(ks) == 0 or i1 <= i0 or j1 <= j0:
            return None
        index = (slice(int(ks[0]), int(ks[-1]) + 1), slice(j0, j1), slice(i0, i1))
        return Region(index, self.x[index], self.y[index], self.z[index[0]])

    def paint(
        self,
        region: Region | None,
        inside: np.ndarray,
        hu: float | np.ndarray,
        *,
        organ: str | None = None,
        edge_mm: float | None = None,
        keep: np.ndarray | None = None,
    ) -> None:
        """Blend Hounsfield units into a region where an implicit function is negative.

        Args:
            region: where to paint; nothing happens for None.
            inside: implicit function over the region, in standard millimetres.
            hu: value or array over the region.
            organ: name in ORGAN_CODES to give to the voxels inside.
            edge_mm: width of the blend; one pixel by default.
            keep: coverage (0 to 1) is multiplied with this, to protect what must stay.
        """
        if region is None:
            return
        coverage = inside * np.float32(-1.0 / (edge_mm or self.pixel_mm))
        coverage += np.float32(0.5)
        np.clip(coverage, 0, 1, out=coverage)
        if keep is not None:
            coverage *= keep
        view = self.hu[region.index]
        view += coverage * (np.asarray(hu, np.float32) - view)
        if organ is not None:
            self.organs[region.index][coverage > 0.5] = ORGAN_CODES[organ]
