"""Tumor lesions and granulomas: where they go, their shape, and their Hounsfield units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from radclear.phantom.canvas import ORGAN_CODES, Canvas, Region
from radclear.phantom.disease import Patient
from radclear.phantom.placement import INVADES, SITE_ORGANS, Placer
from radclear.phantom.staging import PlannedLesion
from radclear.phantom.texture import smooth_field
from radclear.phantom.tissues import Tissues


@dataclass(frozen=True)
class Lesion:
    """A lesion as drawn.

    Attributes:
        site: one of LOCATION_CLASSES.
        kind: one of LESION_KINDS, or "granuloma".
        diameter_mm: the planned longest axial diameter, which decides T and whether it is a nodule.
        organ: name of the organ that holds the center.
        center: (z, y, x) voxel of the center.
        corner: (z, y, x) voxel of the first voxel of ``crop``.
        crop: bool mask of the lesion in its bounding box.
        hu: Hounsfield units of the core before noise.
    """

    site: str
    kind: str
    diameter_mm: float
    organ: str
    center: tuple[int, int, int]
    corner: tuple[int, int, int]
    crop: np.ndarray
    hu: float

    @property
    def key_slice(self) -> int:
        """Slice with the largest cross section."""
        return self.corner[0] + int(self.crop.sum(axis=(1, 2)).argmax())

    def mask(self, shape: tuple[int, int, int]) -> np.ndarray:
        """The bool mask over a whole volume of this shape."""
        full = np.zeros(shape, bool)
        full[tuple(slice(c, c + n) for c, n in zip(self.corner, self.crop.shape, strict=True))] = self.crop
        return full


def draw_lesions(
    canvas: Canvas,
    patient: Patient,
    tissues: Tissues,
    rng: np.random.Generator,
    *,
    covered: np.ndarray | None,
) -> tuple[Lesion, ...]:
    """Place and draw every lesion of a patient.

    Args:
        canvas: with the anatomy and the lung diseases drawn.
        patient: whose lesions are drawn.
        tissues: Hounsfield units of the scan.
        rng: source of places and shapes.
        covered: (z, y, x) bool, lung hidden under fluid or consolidation, where no lesion is put.

    Returns:
        The lesions in the order of ``patient.lesions``, then the granulomas.
    """
    planned = [(lesion, False) for lesion in patient.lesions]
    planned += [(PlannedLesion("lung", "primary", d), True) for d in patient.granuloma_diameters_mm]
    order = sorted(range(len(planned)), key=lambda n: -planned[n][0].diameter_mm)
    placer = Placer(canvas, covered)
    drawn: dict[int, Lesion] = {}
    for n in order:
        plan, granuloma = planned[n]
        drawn[n] = _draw_lesion(canvas, plan, tissues, rng, placer, granuloma=granuloma)
    return tuple(drawn[n] for n in range(len(planned)))


def _draw_lesion(
    canvas: Canvas,
    plan: PlannedLesion,
    tissues: Tissues,
    rng: np.random.Generator,
    placer: Placer,
    *,
    granuloma: bool,
) -> Lesion:
    radius_mm = plan.diameter_mm / 2
    allowed_names = SITE_ORGANS[plan.site] + INVADES[plan.site]
    allowed = np.zeros(256, np.float32)
    allowed[[ORGAN_CODES[name] for name in allowed_names]] = 1
    best = None
    # Clipped by what it may not invade, a lesion can come out too small: take the best of a few places.
    for _ in range(8):
        center = placer.choose(plan, radius_mm, rng)
        region, inside = _shape(canvas, plan, center, rng, smooth=granuloma)
        keep = allowed[canvas.organs[region.index]]
        mask = (inside < 0) & (keep > 0)
        mask = _connected(mask, [c - s.start for c, s in zip(center, region.index, strict=True)])
        measured = _longest_diameter(mask, canvas.spacing_mm)
        error = abs(measured - plan.diameter_mm) / plan.diameter_mm
        if best is None or error < best[0]:
            best = (error, center, region, inside, keep, mask)
        if error < 0.10:
            break
    _, center, region, inside, keep, mask = best
    keep = keep * ndimage.binary_dilation(mask, iterations=1)
    placer.taken.append((np.array(center), radius_mm))
    organ = next(name for name, code in ORGAN_CODES.items() if code == canvas.organs[center])
    hu = _paint_lesion(canvas, plan, tissues, rng, region, inside, keep, granuloma=granuloma)
    mask[tuple(c - s.start for c, s in zip(center, region.index, strict=True))] = True
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    corner = tuple(s.start + b.start for s, b in zip(region.index, box, strict=True))
    kind = "granuloma" if granuloma else plan.kind
    return Lesion(plan.site, kind, plan.diameter_mm, organ, center, corner, mask[box].copy(), hu)


def _shape(
    canvas: Canvas,
    plan: PlannedLesion,
    center: tuple[int, int, int],
    rng: np.random.Generator,
    *,
    smooth: bool,
) -> tuple[Region, np.ndarray]:
    """Implicit function, in true mm, of an irregular ellipsoid whose long axis lies in the axial plane."""
    sx, sy, sz = canvas.spacing_mm
    radius = plan.diameter_mm / 2
    reach = 1.35 * radius + 3
    n_z, n_y, n_x = canvas.hu.shape
    k, j, i = center
    index = tuple(
        slice(max(0, c - int(reach / s) - 1), min(n, c + int(reach / s) + 2))
        for c, s, n in ((k, sz, n_z), (j, sy, n_y), (i, sx, n_x))
    )
    z = (np.arange(index[0].start, index[0].stop) - k).astype(np.float32)[:, None, None] * np.float32(sz)
    y = (np.arange(index[1].start, index[1].stop) - j).astype(np.float32)[None, :, None] * np.float32(sy)
    x = (np.arange(index[2].start, index[2].stop) - i).astype(np.float32)[None, None, :] * np.float32(sx)
    cos, sin = rng.normal(0, 1, 2)
    norm = np.sqrt(cos * cos + sin * sin)
    cos, sin = np.float32(cos / norm), np.float32(sin / norm)
    short, tall = np.float32(rng.uniform(0.74, 0.95)), np.float32(rng.uniform(0.75, 0.98))
    u, v, w = cos * x + sin * y, (-sin * x + cos * y) / short, z / tall
    distance = np.sqrt(u * u + v * v + w * w)
    shape = distance.shape
    lobes = max(2, round(0.5 * radius / sx))
    ripple = np.float32(0.0 if smooth else 0.06 * radius)
    inside = distance - np.float32(radius) * 1.0
    inside = inside + ripple * smooth_field(rng, shape, (1, lobes, lobes))
    if plan.site == "lung" and not smooth:
        spikes = smooth_field(rng, shape, (1, 2, 2))
        inside = inside - np.float32(0.05 * radius) * np.maximum(spikes, 0)
    region = Region(index, canvas.x[index], canvas.y[index], canvas.z[index[0]])
    return region, inside.astype(np.float32)


def _paint_lesion(
    canvas: Canvas,
    plan: PlannedLesion,
    tissues: Tissues,
    rng: np.random.Generator,
    region: Region,
    inside: np.ndarray,
    keep: np.ndarray,
    *,
    granuloma: bool,
) -> float:
    """Paint a lesion as its site and kind demand; returns the Hounsfield units of its core."""

    def around(mean: float, spread: float) -> float:
        return float(mean + spread * rng.uniform(-1, 1))

    radius = plan.diameter_mm / 2
    texture = smooth_field(rng, inside.shape, (1, 3, 3))
    if granuloma or (plan.site == "bone" and rng.random() < 0.4):  # calcified; sclerotic
        hu = around(420, 120) if granuloma else around(820, 100)
        canvas.paint(region, inside, hu + 60 * texture, keep=keep)
        return hu
    if plan.site == "lung":
        hu = around(60, 12)
        canvas.paint(region, inside, hu + 6 * texture, keep=keep, edge_mm=2.5)
        return hu
    # Elsewhere a viable rim that takes up contrast medium around a necrotic core.
    rim, core = around(168, 12), around(34, 12)
    if plan.site == "soft_tissue" and (canvas.organs[region.index] == 0).any():
        canvas.paint(region, inside - 2.5, tissues.skin, keep=keep)
    canvas.paint(region, inside, rim + 6 * texture, keep=keep)
    thickness = float(np.clip(0.32 * radius, 3.5, 8.0))
    canvas.paint(region, inside + thickness + 1.5 * texture, core + 5 * texture, keep=keep, edge_mm=2.5)
    hu = core
    return hu


def _connected(mask: np.ndarray, center: list[int]) -> np.ndarray:
    """The part of a mask that is connected with its center."""
    parts, _ = ndimage.label(mask)
    code = parts[tuple(center)]
    return parts == code if code else mask


def _longest_diameter(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    """Longest axial diameter of a mask in mm: the widest of sixteen directions, largest over slices."""
    k, j, i = np.nonzero(mask)
    if len(k) == 0:
        return 0.0
    longest = 0.0
    angles = np.arange(16) * np.pi / 16
    directions = np.stack([np.cos(angles) * spacing_mm[0], np.sin(angles) * spacing_mm[1]])
    for slice_index in range(k.min(), k.max() + 1):
        here = k == slice_index
        if not here.any():
            continue
        along = np.stack([i[here], j[here]], axis=1) @ directions
        longest = max(longest, float((along.max(0) - along.min(0)).max()) + spacing_mm[0])
    return longest
