"""``make_phantom``: a synthetic torso CT with lesions of known site, disease and stage."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from radclear.phantom.abdomen import draw_abdomen
from radclear.phantom.canvas import ORGAN_CODES, Canvas
from radclear.phantom.disease import Patient, draw_patient, stream
from radclear.phantom.labels import NODULE_MAX_MM
from radclear.phantom.lesions import Lesion, draw_lesions
from radclear.phantom.lung_disease import draw_consolidation, draw_effusion, draw_emphysema, draw_ground_glass
from radclear.phantom.skeleton import draw_skeleton
from radclear.phantom.texture import add_scanner_noise
from radclear.phantom.thorax import draw_diaphragm, draw_heart_and_vessels, draw_lung_vessels, draw_lungs
from radclear.phantom.tissues import draw_tissues
from radclear.phantom.trunk import body_half_width_mm, draw_trunk

MIN_SLICES, MIN_SIZE, MAX_SIZE = 24, 64, 1024
_MIN_SIGN_PIXELS = 12


@dataclass(frozen=True)
class Box:
    """Where a lesion or a sign of lung disease lies on one slice.

    Attributes:
        slice: index along z of ``Phantom.hu``.
        x1, y1, x2, y2: pixels; ``hu[slice, y1:y2, x1:x2]`` is the box.
        site: one of LOCATION_CLASSES.
        kind: one of LESION_KINDS for a tumor lesion, one of DISEASE_CLASSES for a sign of lung disease. A
            lung tumor up to 30 mm has two boxes, one of each.
    """

    slice: int
    x1: int
    y1: int
    x2: int
    y2: int
    site: str
    kind: str


@dataclass(frozen=True)
class Phantom:
    """A synthetic CT study.

    Attributes:
        hu: (z, y, x) int16 Hounsfield units; x to the patient's left, y to posterior, z to the head.
        affine: (4, 4) float64, voxel (x, y, z, 1) to LPS millimetres.
        patient: what the scan was drawn from.
        lesions: as drawn: those of ``patient.lesions`` in the same order, then benign granulomas.
        organs: (z, y, x) uint8 codes of ORGAN_CODES, the anatomy under the lesions.
        signs: disease name to (z, y, x) bool mask, for each lung disease of the patient.
        noise_hu: standard deviation of the noise in the mean.
    """

    hu: np.ndarray
    affine: np.ndarray
    patient: Patient
    lesions: tuple[Lesion, ...]
    organs: np.ndarray
    signs: dict[str, np.ndarray]
    noise_hu: float

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centers along x, y and z in millimetres."""
        return tuple(float(v) for v in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def labels(self) -> dict[str, object]:
        """Labels of the three tasks as :attr:`Patient.labels`."""
        return self.patient.labels

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """(z, y, x) bool masks: ``organ_<name>``, ``lesion_<number>`` and ``sign_<disease>``."""
        masks = {f"organ_{name}": self.organs == code for name, code in ORGAN_CODES.items() if code}
        masks |= {f"lesion_{n}": lesion.mask(self.hu.shape) for n, lesion in enumerate(self.lesions)}
        return masks | {f"sign_{name}": mask for name, mask in self.signs.items()}

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        """Boxes on every slice that shows a lesion or a sign of lung disease."""
        boxes = []
        for lesion in self.lesions:
            kinds = [] if lesion.kind == "granuloma" else [lesion.kind]
            if lesion.site == "lung" and lesion.diameter_mm <= NODULE_MAX_MM:
                kinds.append("nodule")
            for kind in kinds:
                boxes += _boxes_of(lesion.crop, lesion.corner, lesion.site, kind, 1)
        for name, mask in self.signs.items():
            if name == "nodule":
                continue
            for side in (slice(None, self.hu.shape[2] // 2), slice(self.hu.shape[2] // 2, None)):
                corner = (0, 0, side.start or 0)
                boxes += _boxes_of(mask[:, :, side], corner, "lung", name, _MIN_SIGN_PIXELS)
        return tuple(boxes)


def _boxes_of(
    mask: np.ndarray, corner: tuple[int, int, int], site: str, kind: str, min_pixels: int
) -> list[Box]:
    boxes = []
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        if mask[k].sum() < min_pixels:
            continue
        rows, columns = np.flatnonzero(mask[k].any(axis=1)), np.flatnonzero(mask[k].any(axis=0))
        boxes.append(
            Box(
                corner[0] + int(k),
                corner[2] + int(columns[0]),
                corner[1] + int(rows[0]),
                corner[2] + int(columns[-1]) + 1,
                corner[1] + int(rows[-1]) + 1,
                site,
                kind,
            )
        )
    return boxes


def check_extent(n_slices: int, size: int) -> None:
    """Refuse, with a ValueError, numbers of slices and pixels that `make_phantom` cannot draw."""
    if n_slices < MIN_SLICES:
        raise ValueError(f"n_slices is {n_slices}; expected at least {MIN_SLICES} to show every organ")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size is {size}; expected {MIN_SIZE} to {MAX_SIZE} pixels")


def make_phantom(
    seed: int,
    *,
    n_slices: int = 64,
    size: int = 256,
    noise_hu: float | None = None,
    patient: Patient | None = None,
) -> Phantom:
    """Draw a synthetic contrast-enhanced CT of a torso, arms up, from the pelvis to the shoulders.

    The scan always covers the whole torso, so the distance between slices follows from their number (about
    9.5 mm at 64, 5 mm at 120); field of view and hence pixel size follow from the size of the patient.

    Args:
        seed: everything follows from it: the same seed and options give the same voxels.
        n_slices: number of axial slices.
        size: rows and columns of a slice.
        noise_hu: standard deviation of the noise, drawn from 7 to 18 HU when omitted (a lower or higher
            dose).
        patient: drawn from the seed when omitted; give one to decide about lesions and diseases.

    Returns:
        The phantom with labels, masks and boxes.

    Raises:
        ValueError: an option is out of range.
    """
    check_extent(n_slices, size)
    if noise_hu is not None and noise_hu < 0:
        raise ValueError(f"noise_hu is {noise_hu}; expected 0 or more")
    patient = draw_patient(seed) if patient is None else patient
    rng = stream(seed, "scan")
    if noise_hu is None:
        noise_hu = float(rng.uniform(7, 18))
    canvas, affine = _lay_out(patient, n_slices, size, rng)
    tissues = draw_tissues(stream(seed, "tissues"), age_years=patient.age_years)

    diseases = patient.diseases
    emphysema = "emphysema" in diseases
    anatomy = stream(seed, "anatomy")
    draw_trunk(canvas, patient, tissues, anatomy)
    draw_diaphragm(canvas, anatomy, flat=emphysema)
    draw_lungs(canvas, tissues, anatomy)
    draw_abdomen(canvas, patient, tissues, anatomy)
    draw_skeleton(canvas, tissues)
    draw_heart_and_vessels(canvas, tissues, anatomy)

    lung = stream(seed, "lung signs")
    signs: dict[str, np.ndarray] = {}
    if emphysema:
        signs["emphysema"] = draw_emphysema(canvas, lung)
    draw_lung_vessels(canvas, stream(seed, "lung vessels"), density=0.5 if emphysema else 1.0)
    if "ground_glass" in diseases:
        signs["ground_glass"] = draw_ground_glass(canvas, lung)
    if "consolidation" in diseases:
        signs["consolidation"] = draw_consolidation(canvas, lung)
    if "effusion" in diseases:
        signs["effusion"] = draw_effusion(canvas, lung, fluid_hu=tissues.water)
    hidden = [signs[name] for name in ("consolidation", "effusion") if name in signs]
    covered = np.logical_or.reduce(hidden) if hidden else None
    lesions = draw_lesions(canvas, patient, tissues, stream(seed, "lesions"), covered=covered)
    if covered is not None and "ground_glass" in signs:
        signs["ground_glass"] &= ~covered
    if "effusion" in signs and "consolidation" in signs:
        signs["consolidation"] &= ~signs["effusion"]
    if "nodule" in diseases:
        nodules = [n for n in lesions if n.site == "lung" and n.diameter_mm <= NODULE_MAX_MM]
        signs["nodule"] = np.logical_or.reduce([n.mask(canvas.hu.shape) for n in nodules])

    _scan(canvas, stream(seed, "noise"), noise_hu)
    hu = np.clip(np.rint(canvas.hu), -1024, 3071).astype(np.int16)
    return Phantom(hu, affine, patient, lesions, canvas.organs, signs, noise_hu)


def _lay_out(
    patient: Patient, n_slices: int, size: int, rng: np.random.Generator
) -> tuple[Canvas, np.ndarray]:
    """The grid of the scan: field of view from the patient's width, slices from pelvis to shoulders."""
    half_width = body_half_width_mm(patient)
    pixel_mm = round(2 * half_width * float(rng.uniform(1.03, 1.12)) / size, 4)
    z_low, z_high = float(rng.uniform(-14, 2)), float(rng.uniform(611, 624))
    slice_mm = round((z_high - z_low) * patient.scale[2] / (n_slices - 1), 3)
    spacing_mm = (pixel_mm, pixel_mm, slice_mm)
    shift_x, shift_y = float(rng.normal(0, 4)), float(rng.normal(0, 3))
    extent_x, extent_y = pixel_mm * size / patient.scale[0], pixel_mm * size / patient.scale[1]
    canvas = Canvas.empty(
        n_slices=n_slices,
        size=size,
        spacing_mm=spacing_mm,
        scale=patient.scale,
        x0_mm=-extent_x / 2 + shift_x,
        y0_mm=-extent_y / 2 + 14 + shift_y,
        z0_mm=z_low,
        warp_mm=3.0,
        rng=rng,
    )
    affine = np.diag([*spacing_mm, 1.0]).astype(np.float64)
    affine[:3, 3] = [
        round(-pixel_mm * (size - 1) / 2 + float(rng.normal(0, 6)), 3),
        round(-pixel_mm * (size - 1) / 2 + float(rng.normal(0, 12)) - 150, 3),
        round(float(rng.uniform(-1200, -400)), 3),
    ]
    return canvas, affine


def _scan(canvas: Canvas, rng: np.random.Generator, noise_hu: float) -> None:
    """Blur by the scanner and add noise; wide slices (shoulders, hips) are noisier."""
    tissue = np.mean(canvas.hu > -300, axis=(1, 2), dtype=np.float64)
    gain = np.sqrt(np.clip(tissue / max(float(tissue.mean()), 1e-6), 0.4, 2.5))
    correlation_px = float(rng.uniform(0.55, 0.9))
    add_scanner_noise(canvas.hu, rng, sigma_hu=noise_hu, correlation_px=correlation_px, slice_gain=gain)
