"""Does a volume look like the CT of a torso? Values first, then the size of the body's cross-section."""

from __future__ import annotations

import numpy as np

from radclear.ct.errors import CTInputError
from radclear.ct.series import FEW_SLICES
from radclear.ct.study import Finding

_SAMPLED_SLICES = 24
_SAMPLE_MM = 4.0
_BODY_HU = -300
#: Outside air and lung; anything that was a body in a scanner has some.
_AIR_HU = -500
_SOFT_TISSUE_HU = (-200, 300)
_LUNG_HU = (-950, -500)
#: An adult head covers about 200 to 260 cm2, a torso 400 to 1000 cm2.
_SMALL_BODY_CM2 = 320.0
_LUNG_CM2 = 40.0
#: Less than a third of the height of adult lungs (about 250 mm) or of an abdomen: a part of an organ.
SHORT_COVERAGE_MM = 80.0


def check_values(hu: np.ndarray, *, lowest: float, highest: float) -> None:
    """Refuse a volume file whose values cannot be Hounsfield units.

    Args:
        hu: (z, y, x) int16.
        lowest: smallest value as stored in the file.
        highest: largest value as stored in the file.

    Raises:
        CTInputError: code ``not_hounsfield``, with what was found.
    """
    found = f"the values run from {lowest:.6g} to {highest:.6g}"
    if lowest >= 0:
        raise CTInputError(
            "not_hounsfield",
            f"{found}: none is below 0, but air is -1000 HU. An MR, an already windowed image, or a missing "
            "rescale (intercept)? Convert the study again in Hounsfield units",
        )
    if highest - lowest < 100:
        raise CTInputError(
            "not_hounsfield", f"{found}: too narrow for CT. Normalised values? Use Hounsfield units"
        )
    sample = _sample(hu)
    air, soft = (
        _fraction(sample < _AIR_HU),
        _fraction((sample > _SOFT_TISSUE_HU[0]) & (sample < _SOFT_TISSUE_HU[1])),
    )
    if air < 1e-3 or soft < 1e-2:
        raise CTInputError(
            "not_hounsfield",
            f"{found}, {air:.1%} of the voxels are air (below {_AIR_HU} HU) and {soft:.1%} soft tissue "
            f"({_SOFT_TISSUE_HU[0]} to {_SOFT_TISSUE_HU[1]} HU): this is no CT of a body in Hounsfield units",
        )


def plausibility_findings(hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> list[Finding]:
    """What makes a study unlike those the models are meant for.

    Args:
        hu: (z, y, x) int16.
        spacing_mm: along x, y and z.

    Returns:
        Warnings with the codes ``few_slices`` or else ``short_coverage``, ``implausible_values`` and
        ``field_of_view``.
    """
    findings = []
    covered_mm = len(hu) * spacing_mm[2]
    if len(hu) < FEW_SLICES:
        message = f"{len(hu)} slice{'s' * (len(hu) > 1)}; a study of the torso has at least {FEW_SLICES}"
        findings.append(Finding("few_slices", "warning", message))
    elif covered_mm < SHORT_COVERAGE_MM:
        message = (
            f"{len(hu)} slices {spacing_mm[2]:.4g} mm apart cover {covered_mm:.0f} mm of the body; a study "
            f"of the torso covers at least {SHORT_COVERAGE_MM:.0f} mm"
        )
        findings.append(Finding("short_coverage", "warning", message))
    sample = _sample(hu)
    soft = _fraction((sample > _SOFT_TISSUE_HU[0]) & (sample < _SOFT_TISSUE_HU[1]))
    if soft < 1e-2:
        message = (
            f"{soft:.1%} of the voxels are soft tissue: empty slices, or values that are not Hounsfield units"
        )
        return [*findings, Finding("implausible_values", "warning", message)]
    area, lung = cross_section_cm2(hu, spacing_mm)
    if area < _SMALL_BODY_CM2 and lung < _LUNG_CM2:
        message = (
            f"the body covers {area:.0f} cm2 per slice and at most {lung:.0f} cm2 of lung: smaller than an "
            "adult torso. A head, a limb, a child or a cropped field of view?"
        )
        findings.append(Finding("field_of_view", "warning", message))
    return findings


def cross_section_cm2(hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    """Size of the body and of the lungs in a study.

    Slices are sampled to about 4 mm; thin things such as the table are removed by a morphological opening;
    each row counts from its first to its last body pixel, so that lungs belong to the body.

    Args:
        hu: (z, y, x) int16.
        spacing_mm: along x, y and z.

    Returns:
        Upper quartile over the slices of the body's area, and the largest lung area, both in cm2.
    """
    step_x, step_y = (max(1, round(_SAMPLE_MM / spacing)) for spacing in spacing_mm[:2])
    every = max(1, -(-len(hu) // _SAMPLED_SLICES))
    sample = hu[::every, ::step_y, ::step_x]
    pixel_cm2 = spacing_mm[0] * step_x * spacing_mm[1] * step_y / 100
    tissue = _opened(sample > _BODY_HU)
    columns = np.arange(sample.shape[2])
    first = np.where(tissue, columns, sample.shape[2]).min(axis=2)
    last = np.where(tissue, columns, -1).max(axis=2)
    inside = (columns >= first[..., None]) & (columns <= last[..., None])
    lung = inside & (sample > _LUNG_HU[0]) & (sample < _LUNG_HU[1])
    areas, lungs = inside.sum(axis=(1, 2)) * pixel_cm2, lung.sum(axis=(1, 2)) * pixel_cm2
    return float(np.percentile(areas, 75)), float(lungs.max())


def _opened(mask: np.ndarray) -> np.ndarray:
    """Opening of each slice with a 3 x 3 square; beyond the edge counts as body, so that a cut body keeps its
    border."""
    eroded = _over_neighbours(np.logical_and, mask, beyond=True)
    return _over_neighbours(np.logical_or, eroded, beyond=False)


def _over_neighbours(combine: np.ufunc, mask: np.ndarray, *, beyond: bool) -> np.ndarray:
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)), constant_values=beyond)
    rows = combine(combine(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    return combine(combine(rows[:, :, :-2], rows[:, :, 1:-1]), rows[:, :, 2:])


def _sample(hu: np.ndarray) -> np.ndarray:
    step = max(1, round((hu.size / 2e5) ** (1 / 3)))
    return hu[::step, ::step, ::step]


def _fraction(mask: np.ndarray) -> float:
    return float(mask.mean())
