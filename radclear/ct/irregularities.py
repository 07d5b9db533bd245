"""Findings about one sorted stack: spacing, duplicates, order of numbers, tilt and obliquity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radclear.ct.axes import Axes, oblique_findings
from radclear.ct.records import SliceHeader
from radclear.ct.study import Finding

SPACING_TOLERANCE = 0.01
#: Positions are written with a few decimals; differences below this are rounding.
ROUNDING_MM = 0.01
GAP_FACTOR = 1.5
TILT_TOLERANCE_DEGREES = 0.5


def measure_spacing(
    kept: list[SliceHeader], along: np.ndarray, findings: list[Finding]
) -> tuple[float, bool]:
    """Distance between slices.

    Args:
        kept: slices sorted along the normal.
        along: (n,) their positions along it in mm.
        findings: gaps, uneven spacing and an unknown thickness are added here.

    Returns:
        Nominal spacing in mm (the mean where it is even, else the median), and whether it holds everywhere.
    """
    if len(kept) == 1:
        if kept[0].thickness_mm is None:
            findings.append(
                Finding(
                    "unknown_thickness",
                    "warning",
                    "one slice without SliceThickness: its depth is taken as 1 mm",
                    (0,),
                )
            )
        return kept[0].thickness_mm or 1.0, True
    distances = np.diff(along)
    nominal = float(np.median(distances))
    tolerance = max(SPACING_TOLERANCE * nominal, ROUNDING_MM)
    gaps = distances > GAP_FACTOR * nominal
    for i in np.flatnonzero(gaps):
        missing = max(1, round(float(distances[i]) / nominal) - 1)
        findings.append(
            Finding(
                "gap",
                "warning",
                f"about {missing} slice{'s' * (missing > 1)} missing between two neighbours that are "
                f"{distances[i]:.2f} mm apart (spacing {nominal:.2f} mm)",
                (int(i), int(i) + 1),
            )
        )
    uneven = np.flatnonzero((np.abs(distances - nominal) > tolerance) & ~gaps)
    if len(uneven):
        findings.append(
            Finding(
                "uneven_spacing",
                "warning",
                f"slice distances run from {distances[~gaps].min():.3f} to {distances[~gaps].max():.3f} mm, "
                f"{len(uneven)} of them off the median of {nominal:.3f} mm by more than "
                f"{SPACING_TOLERANCE:.0%}; z_mm holds the true positions",
                tuple(int(i) for i in np.unique(np.concatenate([uneven, uneven + 1]))),
            )
        )
    if gaps.any() or len(uneven):
        return nominal, False
    return float((along[-1] - along[0]) / (len(along) - 1)), True


def mirrored(findings: list[Finding], n_slices: int) -> list[Finding]:
    """The same findings for slices counted from the other end."""
    return [
        Finding(f.code, f.severity, f.message, tuple(sorted(n_slices - 1 - k for k in f.slices)))
        for f in findings
    ]


def duplicate_findings(kept: Sequence[SliceHeader], duplicates: Sequence, *, axial: bool) -> list[Finding]:
    """Which positions several slices shared.

    Args:
        kept: slices in their final order.
        duplicates: (kept, dropped) pairs.
        axial: whether slices are indices along z.
    """
    if not duplicates:
        return []
    at = {id(header): k for k, header in enumerate(kept)}
    slices = tuple(sorted({at[id(best)] for best, _ in duplicates}))
    return [
        Finding(
            "duplicate",
            "warning",
            f"{len(duplicates)} slices share their position with another one; of each position the slice "
            "with the lowest InstanceNumber, then SOPInstanceUID, was kept",
            slices if axial else (),
        )
    ]


def order_findings(kept: Sequence[SliceHeader], *, axial: bool) -> list[Finding]:
    """Whether InstanceNumber runs with the positions, against them (an info), or contradicts them (a
    warning).

    Args:
        kept: slices in their final order.
        axial: whether slices are indices along z.
    """
    if len(kept) < 2 or any(h.instance is None for h in kept):
        return []
    numbers = [(h.acquisition or 0, h.instance) for h in kept]
    rising = np.array([before < after for before, after in zip(numbers[:-1], numbers[1:], strict=True)])
    if rising.all() or len(set(numbers)) < len(numbers):
        return []
    if (~rising).all():
        message = "instance numbers run against the canonical direction; slices were sorted by position"
        return [Finding("reversed", "info", message)]
    odd = np.flatnonzero(rising != (rising.sum() * 2 > len(rising))) + 1
    message = (
        f"instance numbers contradict the positions at {len(odd)} slices; slices were sorted by position"
    )
    return [Finding("instance_order", "warning", message, tuple(int(k) for k in odd) if axial else ())]


def angle_findings(
    kept: Sequence[SliceHeader], normal: np.ndarray, slant: np.ndarray, axes: Axes
) -> list[Finding]:
    """Tilt of the gantry and obliquity of the volume.

    Args:
        kept: slices in their final order.
        normal: unit normal of the slices.
        slant: shift across the normal per mm along it.
        axes: stored axes to canonical ones.
    """
    measured = float(np.degrees(np.arctan(np.linalg.norm(slant))))
    stated = max((abs(h.tilt_degrees) for h in kept if h.tilt_degrees is not None), default=0.0)
    across = axes.stored.index(2)
    if measured > TILT_TOLERANCE_DEGREES:
        message = f"the gantry is tilted by {measured:.1f} degrees; the affine holds the slant"
        return [Finding("gantry_tilt", "warning", message)]
    findings = []
    if stated > TILT_TOLERANCE_DEGREES and abs(normal[across]) > np.cos(np.radians(TILT_TOLERANCE_DEGREES)):
        message = (
            f"GantryDetectorTilt (0018,1120) is {stated:.1f} degrees, but the slice positions show no tilt"
        )
        findings.append(Finding("gantry_tilt", "warning", message))
    return findings + oblique_findings(
        np.column_stack([kept[0].orientation[:3], kept[0].orientation[3:], normal]), axes
    )
