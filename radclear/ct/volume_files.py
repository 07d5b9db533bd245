"""Volume files (NIfTI, NRRD, MHA) onto the canonical grid."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radclear.ct.axes import (
    AXIS_NAMES,
    canonical_affine,
    centre_z_mm,
    nearest_axes,
    oblique_findings,
    stored_view,
)
from radclear.ct.errors import CTInputError
from radclear.ct.geometry import SMALLEST_SIDE_MM, SMALLEST_SIDE_PIXELS, not_axial
from radclear.ct.header import LARGEST_POSITION_MM, LARGEST_SPACING_MM, SMALLEST_SPACING_MM
from radclear.ct.nifti import opened, read_nifti_header, voxel_slabs
from radclear.ct.pixels import AIR_HU, HIGHEST_HU
from radclear.ct.source_grid import SourceGrid
from radclear.ct.study import Finding


@dataclass(frozen=True)
class Volume:
    """A volume file on the canonical grid, before its values are judged.

    Attributes:
        hu: (z, y, x) int16, rounded and clipped.
        affine: (4, 4) canonical voxel to LPS mm.
        z_mm: (z,) LPS z of each slice's centre voxel.
        lowest, highest: range of the values as stored.
        findings: what was noticed.
        source_grid: how the file stores its voxels.
    """

    hu: np.ndarray
    affine: np.ndarray
    z_mm: np.ndarray
    lowest: float
    highest: float
    findings: tuple[Finding, ...]
    source_grid: SourceGrid


def read_volume(path: Path, kind: str, *, cap_bytes: int) -> Volume:
    """Read a volume file.

    Args:
        path: the file.
        kind: ``"nifti"``, ``"nrrd"`` or ``"mha"``.
        cap_bytes: largest memory for the volume.

    Raises:
        CTInputError: it is damaged, too large, not three-dimensional, or does not say how it lies in the
        patient.
        MissingDependencyError: ITK is needed (NRRD, MHA) and not installed.
    """
    if kind == "nifti":
        return _read_nifti(path, cap_bytes)
    from radclear.ct.itk_files import read_itk

    values, steps, origin = read_itk(path, kind, cap_bytes=cap_bytes)
    slabs = (values[:, :, k] for k in range(values.shape[2]))
    return _to_canonical(slabs, values.shape, steps, origin, ())


def _read_nifti(path: Path, cap_bytes: int) -> Volume:
    try:
        with opened(path) as stream:
            header = read_nifti_header(stream)
            check_size(header.shape, header.dtype.itemsize, cap_bytes=cap_bytes, loaded=False)
            slabs = voxel_slabs(stream, header)
            if (header.slope, header.intercept) != (1, 0):
                slabs = (slab.astype(np.float64) * header.slope + header.intercept for slab in slabs)
            return _to_canonical(slabs, header.shape, header.steps, header.origin, header.findings)
    except (EOFError, OSError) as error:
        raise CTInputError("unreadable", f"the NIfTI file is damaged ({type(error).__name__})") from None


def check_size(shape: tuple[int, ...], itemsize: int, *, cap_bytes: int, loaded: bool) -> None:
    """Refuse a volume by its announced size.

    Args:
        shape: voxels along each axis.
        itemsize: bytes per stored voxel.
        cap_bytes: largest memory.
        loaded: whether the stored volume is in memory as a whole beside the converted one.

    Raises:
        CTInputError: it would need more than the cap.
    """
    needed = math.prod(shape) * (2 + itemsize * loaded)
    if needed > cap_bytes:
        size = " x ".join(map(str, shape))
        message = f"the volume has {size} voxels and needs {needed} bytes, above the cap of {cap_bytes}"
        raise CTInputError("too_large", message)


def _to_canonical(
    slabs: Iterable[np.ndarray],
    stored_shape: tuple[int, int, int],
    steps: np.ndarray,
    origin: np.ndarray,
    findings: tuple[Finding, ...],
) -> Volume:
    """Slabs are (i, j) values for each k; column i of steps is the LPS step of stored axis i."""
    lengths = _checked_lengths(steps, origin)
    axes = nearest_axes(steps)
    shape = tuple(stored_shape[axes.stored[k]] for k in (2, 1, 0))
    affine = canonical_affine(steps, origin, stored_shape, axes)
    _require_axial(shape, lengths[list(axes.stored)])
    hu = np.empty(shape, np.int16)
    target = stored_view(hu, axes)
    lowest, highest = math.inf, -math.inf
    for k, slab in enumerate(slabs):
        smallest, largest = float(slab.min()), float(slab.max())
        if not (math.isfinite(smallest) and math.isfinite(largest)):
            raise CTInputError("not_hounsfield", "the volume holds values that are not finite numbers")
        lowest, highest = min(lowest, smallest), max(highest, largest)
        rounded = slab if slab.dtype.kind in "iu" else np.rint(slab)
        inside = smallest >= AIR_HU and largest <= HIGHEST_HU
        target[:, :, k] = rounded if inside else np.clip(rounded, AIR_HU, HIGHEST_HU)
    findings = (*findings, *oblique_findings(steps / lengths, axes))
    grid = SourceGrid(tuple(stored_shape), steps, origin, axes)
    return Volume(hu, affine, centre_z_mm(affine, shape), lowest, highest, findings, grid)


def _checked_lengths(steps: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Voxel spacing in mm along the stored axes, after checks on every number of the geometry."""
    if (
        not (np.isfinite(steps).all() and np.isfinite(origin).all())
        or np.abs(origin).max() > LARGEST_POSITION_MM
    ):
        raise CTInputError("bad_tag", "origin, spacing or direction of the volume hold impossible numbers")
    lengths = np.linalg.norm(steps, axis=0)
    if lengths.min() < SMALLEST_SPACING_MM or lengths.max() > LARGEST_SPACING_MM:
        limits = f"{SMALLEST_SPACING_MM} and {LARGEST_SPACING_MM} mm"
        raise CTInputError("bad_tag", f"voxel spacing must lie between {limits}")
    if abs(np.linalg.det(steps / lengths)) < 0.5:
        raise CTInputError("bad_tag", "the axes of the volume are not at right angles")
    return lengths


def _require_axial(shape: tuple[int, int, int], spacing: np.ndarray) -> None:
    """Refuse a handful of sagittal or coronal slices: 12 x 512 pixels are no axial slices."""
    for axis, n in ((0, shape[2]), (1, shape[1])):
        if n < SMALLEST_SIDE_PIXELS or n * spacing[axis] < SMALLEST_SIDE_MM:
            raise not_axial(f"a volume with only {n} {AXIS_NAMES[axis]} slices")
