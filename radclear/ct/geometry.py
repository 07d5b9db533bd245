"""Where the slices of one stack lie: order, gaps, duplicates, spacing, tilt and plane, from positions alone.

File names and instance numbers never decide the order. With n the slice normal and p the position of a
slice's first pixel, slices are sorted by p·n; a shift of p across n that is proportional to p·n is a tilted
gantry; any other is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radclear.ct.axes import Axes, canonical_affine, centre_z_mm, nearest_axes
from radclear.ct.errors import CTInputError
from radclear.ct.irregularities import (
    ROUNDING_MM,
    angle_findings,
    duplicate_findings,
    measure_spacing,
    mirrored,
    order_findings,
)
from radclear.ct.records import SliceHeader
from radclear.ct.study import Finding

SMALLEST_SIDE_PIXELS = 32
SMALLEST_SIDE_MM = 64.0


@dataclass(frozen=True)
class Grid:
    """A stack in order, and how it becomes the canonical array.

    Attributes:
        headers: one per kept slice, in stored order along the slice axis.
        duplicates: for each dropped header (kept header, dropped header).
        axes: stored axes (column, row, slice) to canonical ones.
        shape: (z, y, x) of the canonical array.
        affine: (4, 4) canonical voxel to LPS mm.
        z_mm: (z,) LPS z of each canonical slice's centre voxel.
        findings: what was noticed.
    """

    headers: tuple[SliceHeader, ...]
    duplicates: tuple[tuple[SliceHeader, SliceHeader], ...]
    axes: Axes
    shape: tuple[int, int, int]
    affine: np.ndarray
    z_mm: np.ndarray
    findings: tuple[Finding, ...]

    @property
    def plane(self) -> str:
        """Plane of the stored slices."""
        return self.axes.plane(2)


def slice_normal(orientation: Sequence[float]) -> np.ndarray:
    """Unit normal of a slice: row direction × column direction."""
    normal = np.cross(orientation[:3], orientation[3:])
    return normal / np.linalg.norm(normal)


def plane_of(orientation: Sequence[float]) -> str:
    """``"axial"``, ``"coronal"`` or ``"sagittal"``, whichever is nearest."""
    steps = np.column_stack([orientation[:3], orientation[3:], slice_normal(orientation)])
    return nearest_axes(steps).plane(2)


def distinct_positions_mm(headers: Sequence[SliceHeader]) -> np.ndarray:
    """Sorted positions along the normal, each once."""
    along = np.sort(np.array([h.position_mm for h in headers]) @ slice_normal(headers[0].orientation))
    return along[np.concatenate([[True], np.diff(along) > ROUNDING_MM])]


def is_volumetric(headers: Sequence[SliceHeader]) -> bool:
    """Whether sagittal or coronal slices are many enough to be seen axially: 32 slices over 64 mm."""
    along = distinct_positions_mm(headers)
    return len(along) >= SMALLEST_SIDE_PIXELS and float(along[-1] - along[0]) >= SMALLEST_SIDE_MM


def solve(headers: Sequence[SliceHeader]) -> Grid:
    """Put a stack in order and measure it.

    Args:
        headers: slices of one stack: same shape, pixel spacing and orientation.

    Returns:
        The grid with its findings.

    Raises:
        CTInputError: the slices do not lie on a line, or are not axial and no complete volume either.
    """
    orientation = np.mean([h.orientation for h in headers], axis=0)
    normal = slice_normal(orientation)
    kept, duplicates = _without_duplicates(headers, normal)
    positions = np.array([h.position_mm for h in kept])
    along = positions @ normal
    findings: list[Finding] = []
    spacing, even = measure_spacing(kept, along, findings)
    slant = _slant(positions, along, normal, kept[0])
    first = kept[0]
    row_direction = orientation[:3] / np.linalg.norm(orientation[:3])
    column_direction = orientation[3:] / np.linalg.norm(orientation[3:])
    steps = np.column_stack(
        [
            row_direction * first.spacing_mm[1],
            column_direction * first.spacing_mm[0],
            (normal + slant) * spacing,
        ]
    )
    axes = nearest_axes(steps)
    if axes.reversed[
        axes.stored.index(2)
    ]:  # stack the other way round, so that the slice axis is never flipped
        kept, positions, steps = kept[::-1], positions[::-1], steps * [1, 1, -1]
        axes = nearest_axes(steps)
        findings = mirrored(findings, len(kept))
    stored_shape = (first.columns, first.rows, len(kept))
    shape = tuple(stored_shape[axes.stored[k]] for k in (2, 1, 0))
    affine = canonical_affine(steps, positions[0], stored_shape, axes)
    if axes.plane(2) == "axial":
        in_plane = (steps[:, 0] * (first.columns - 1) + steps[:, 1] * (first.rows - 1)) / 2
        z_mm = positions[:, 2] + in_plane[2]
    else:
        _require_volume(axes.plane(2), len(kept), shape, affine, findings, even)
        z_mm = centre_z_mm(affine, shape)
        findings = [Finding(f.code, f.severity, f.message) for f in findings]
    findings += duplicate_findings(kept, duplicates, axial=axes.plane(2) == "axial")
    findings += order_findings(kept, axial=axes.plane(2) == "axial")
    findings += angle_findings(kept, normal, slant, axes)
    return Grid(tuple(kept), duplicates, axes, shape, affine, z_mm, tuple(findings))


def _without_duplicates(
    headers: Sequence[SliceHeader], normal: np.ndarray
) -> tuple[list[SliceHeader], tuple[tuple[SliceHeader, SliceHeader], ...]]:
    """Sorted along the normal; of slices at one position the lowest (InstanceNumber, SOPInstanceUID, file) is
    kept."""

    def label(header: SliceHeader) -> tuple:
        return (header.instance is None, header.instance or 0, header.sop_uid, header.index, header.frame)

    along = np.array([h.position_mm for h in headers]) @ normal
    kept: list[SliceHeader] = []
    duplicates: list[tuple[SliceHeader, SliceHeader]] = []
    group: list[int] = []

    def close() -> None:
        best, *rest = sorted((headers[i] for i in group), key=label)
        kept.append(best)
        duplicates.extend((best, other) for other in rest)

    for i in np.argsort(along, kind="stable"):
        if group and along[i] - along[group[0]] > ROUNDING_MM:
            close()
            group = []
        group.append(int(i))
    close()
    return kept, tuple(duplicates)


def _slant(positions: np.ndarray, along: np.ndarray, normal: np.ndarray, first: SliceHeader) -> np.ndarray:
    """Shift across the normal per millimetre along it: zero, or a tilted gantry."""
    across = positions - along[:, None] * normal
    if len(along) == 1:
        return np.zeros(3)
    slant = np.median(np.diff(across, axis=0) / np.diff(along)[:, None], axis=0)
    rest = across - along[:, None] * slant
    off = np.linalg.norm(rest - np.median(rest, axis=0), axis=1)
    limit = max(0.5 * min(first.spacing_mm), 0.5)
    if off.max() > limit:
        raise CTInputError(
            "misaligned",
            f"{int((off > limit).sum())} of {len(off)} slices are shifted sideways, by up to {off.max():.1f} "
            f"mm, against "
            "the others (ImagePositionPatient (0020,0032)): they cannot be one volume. Choose another series",
        )
    slant = (across[-1] - across[0]) / (along[-1] - along[0])  # the median was robust, the ends are precise
    return slant if np.linalg.norm(across[-1] - across[0]) > ROUNDING_MM else np.zeros(3)


def _require_volume(
    plane: str, n_slices: int, shape: tuple, affine: np.ndarray, findings: list[Finding], even: bool
) -> None:
    sides_px = shape[2], shape[1]
    sides_mm = [float(np.linalg.norm(affine[:3, k])) * n for k, n in enumerate(sides_px)]
    if min(sides_px) < SMALLEST_SIDE_PIXELS or min(sides_mm) < SMALLEST_SIDE_MM:
        raise not_axial(f"{n_slices} {plane} slice{'s' * (n_slices > 1)}")
    if not even:
        raise not_axial(f"{n_slices} unevenly spaced {plane} slices")
    findings.append(
        Finding(
            "non_axial",
            "warning",
            f"{n_slices} {plane} slices were turned into {shape[0]} axial ones of {shape[2]} x {shape[1]} "
            "pixels without interpolation; they may be a reformat of an axial series",
        )
    )


def not_axial(found: str) -> CTInputError:
    """The refusal of slices that cannot be seen axially."""
    return CTInputError(
        "not_axial",
        f"found {found}, which cannot be turned into axial slices of at least {SMALLEST_SIDE_PIXELS} pixels "
        f"and {SMALLEST_SIDE_MM:.0f} mm a side. An axial series is needed: export that of this study",
    )
