"""Tumor lesions and granulomas: where they go, their shape, and their Hounsfield units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from radclear.phantom.canvas import ORGAN_CODES, Canvas, Region
from radclear.phantom.disease import Patient
from radclear.phantom.skeleton import spine_y
from radclear.phantom.staging import PlannedLesion
from radclear.phantom.texture import smooth_field
from radclear.phantom.tissues import Tissues
from radclear.phantom.trunk import PELVIS_TOP_MM

#: Organs in which the center of a lesion of each site lies.
SITE_ORGANS = {
    "bone": ("spine", "pelvic_bone"),
    "abdomen": ("abdominal_cavity", "bowel"),
    "mediastinum": ("mediastinum", "esophagus"),
    "liver": ("liver",),
    "lung": ("lung_right", "lung_left"),
    "kidney": ("kidney_right", "kidney_left"),
    "soft_tissue": ("subcutaneous_fat", "muscle"),
    "pelvis": ("pelvic_cavity", "pelvic_organs", "bowel", "bladder"),
}
#: Organs that a lesion of each site may grow into, beside those of SITE_ORGANS.
_INVADES = {
    "bone": ("ribs", "muscle", "spinal_canal", "pelvic_cavity", "abdominal_cavity", "mediastinum", "bowel"),
    "abdomen": ("pelvic_cavity", "stomach", "pancreas", "muscle", "great_vessels"),
    "mediastinum": ("lung_right", "lung_left", "great_vessels"),
    "liver": ("gallbladder", "abdominal_cavity"),
    "lung": (),
    "kidney": ("abdominal_cavity", "muscle", "bowel", "spleen", "great_vessels"),
    "soft_tissue": ("outside", "abdominal_cavity"),
    "pelvis": ("abdominal_cavity", "muscle", "great_vessels"),
}
#: Standard z range in which the center lies.
_Z_RANGE = {
    "bone": (40, 590),
    "abdomen": (PELVIS_TOP_MM + 10, 330),
    "mediastinum": (440, 575),
    "soft_tissue": (30, 560),
    "pelvis": (25, PELVIS_TOP_MM - 10),
}
#: Standard positions near which enlarged nodes lie.
NODE_STATIONS = {
    "mediastinum": (
        (-22, -2, 535), (18, -2, 520), (6, 18, 488), (-48, 4, 488), (52, 8, 492), (-6, -48, 540), (-36, 20, 470),
        (2, -52, 520), (44, -16, 512), (20, -14, 528),
    ),
    "abdomen": (
        (24, spine_y(250) - 26, 250), (26, spine_y(285) - 26, 285), (-2, spine_y(265) - 40, 265), (22, 4, 220),
        (-32, spine_y(240) - 22, 240), (4, -34, 275), (-30, 10, 215), (14, -22, 305),
    ),
    "pelvis": (
        (-66, 8, 108), (66, 8, 108), (-74, -18, 78), (74, -18, 78), (-46, 22, 132), (46, 22, 132), (62, 30, 90),
        (-62, 30, 90),
    ),
}  # fmt: skip


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
        hu: mean Hounsfield units before noise.
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
    canvas: Canvas, patient: Patient, tissues: Tissues, rng: np.random.Generator, *, covered: np.ndarray | None
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
    placer = _Placer(canvas, covered)
    drawn: dict[int, Lesion] = {}
    for n in order:
        plan, granuloma = planned[n]
        drawn[n] = _draw_lesion(canvas, plan, tissues, rng, placer, granuloma=granuloma)
    return tuple(drawn[n] for n in range(len(planned)))


class _Placer:
    """Finds centers inside organs, as deep as the lesion is large, away from other lesions."""

    def __init__(self, canvas: Canvas, covered: np.ndarray | None) -> None:
        self.canvas = canvas
        self.covered = covered
        self.depths: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.taken: list[tuple[np.ndarray, float]] = []

    def candidates(self, site: str) -> tuple[np.ndarray, np.ndarray]:
        """Voxels (n, 3) of a site as z, y, x, and their distance to its border in true millimetres."""
        if site not in self.depths:
            step = 2
            organs = self.canvas.organs[:, ::step, ::step]
            inside = np.isin(organs, [ORGAN_CODES[name] for name in SITE_ORGANS[site]])
            z = self.canvas.z[:, 0, 0]
            low, high = _Z_RANGE.get(site, (-1000, 1000))
            inside[(z < low) | (z > high)] = False
            if site == "bone":
                x, y = self.canvas.x[:, ::step, ::step], self.canvas.y[:, ::step, ::step]
                inside &= (np.abs(x) < 20) & (y < np.interp(self.canvas.z, [0, 200], [200, 62])) | (np.abs(x) > 45)
            if site == "lung" and self.covered is not None:
                inside &= ~self.covered[:, ::step, ::step]
            if not inside.any():
                raise ValueError(f"this scan shows no {site} to put a lesion in; draw more slices or a larger size")
            box = ndimage.find_objects(inside.astype(np.uint8))[0]
            sx, sy, sz = self.canvas.spacing_mm
            cut = np.pad(inside[box], ((0, 0), (1, 1), (1, 1)))
            # Depth in the axial plane, where the diameter is defined, limited along z by the ends of the organ.
            depth = ndimage.distance_transform_edt(cut, sampling=(max(sz, 4.0) * 1.5, sy * step, sx * step))
            depth = depth[:, 1:-1, 1:-1]
            k, j, i = np.nonzero(depth)
            voxels = np.stack([k + box[0].start, (j + box[1].start) * step, (i + box[2].start) * step], axis=1)
            self.depths[site] = voxels, depth[k, j, i].astype(np.float32)
        return self.depths[site]

    def separation(self, voxels: np.ndarray, radius_mm: float) -> np.ndarray:
        """Free distance in mm between a lesion at each voxel and the lesions already there."""
        sx, sy, sz = self.canvas.spacing_mm
        free = np.full(len(voxels), 100.0, np.float32)
        for center, other_mm in self.taken:
            d = (voxels - center) * np.array([sz, sy, sx])
            free = np.minimum(free, np.sqrt((d * d).sum(1)) - radius_mm - other_mm)
        return free

    def choose(self, plan: PlannedLesion, radius_mm: float, rng: np.random.Generator) -> tuple[int, int, int]:
        voxels, depth = self.candidates(plan.site)
        free = self.separation(voxels, radius_mm)
        if plan.kind == "node" and plan.site in NODE_STATIONS:
            stations = np.array(NODE_STATIONS[plan.site], np.float64)
            j, i, k = voxels[:, 1], voxels[:, 2], voxels[:, 0]
            position = np.stack([self.canvas.x[k, j, i], self.canvas.y[k, j, i], self.canvas.z[k, 0, 0]], axis=1)
            target = stations[rng.integers(len(stations))] + rng.normal(0, 4, 3)
            miss = np.sqrt(((position - target) ** 2).sum(1)) + 2.0 * np.maximum(3 - free, 0) * 10
            return tuple(int(v) for v in voxels[miss.argmin()])
        good = np.minimum(depth / radius_mm, 0.9) + np.minimum(free / 4.0, 1.0)
        best = np.flatnonzero(good >= good.max() - 0.06)
        return tuple(int(v) for v in voxels[best[rng.integers(len(best))]])


def _draw_lesion(
    canvas: Canvas,
    plan: PlannedLesion,
    tissues: Tissues,
    rng: np.random.Generator,
    placer: _Placer,
    *,
    granuloma: bool,
) -> Lesion:
    radius_mm = plan.diameter_mm / 2
    allowed_names = SITE_ORGANS[plan.site] + _INVADES[plan.site]
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
    hu = _paint_lesion(canvas, plan, tissues, rng, region, inside, keep, organ, granuloma=granuloma)
    mask[tuple(c - s.start for c, s in zip(center, region.index, strict=True))] = True
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    corner = tuple(s.start + b.start for s, b in zip(region.index, box, strict=True))
    kind = "granuloma" if granuloma else plan.kind
    return Lesion(plan.site, kind, plan.diameter_mm, organ, center, corner, mask[box].copy(), hu)


def _shape(
    canvas: Canvas, plan: PlannedLesion, center: tuple[int, int, int], rng: np.random.Generator, *, smooth: bool
) -> tuple[Region, np.ndarray]:
    """Implicit function, in true mm, of a slightly irregular ellipsoid whose long axis lies in the axial plane."""
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
    organ: str,
    *,
    granuloma: bool,
) -> float:
    """Paint body, rim and necrosis of a lesion; returns the Hounsfield units of its body."""

    def around(mean: float, spread: float) -> float:
        return float(mean + spread * rng.uniform(-1, 1))

    radius = plan.diameter_mm / 2
    rim = core = None
    edge = None
    if granuloma:
        hu = around(420, 120)
    elif plan.site == "lung":
        hu, edge = around(45, 15), 2.5
        if radius > 20 and rng.random() < 0.5:
            core = hu - 30
    elif plan.site == "liver":
        hu, edge = tissues.liver - around(52, 12), 3.0
        if rng.random() < 0.5:
            rim = tissues.liver + 18
    elif plan.site == "kidney":
        hu = tissues.kidney - around(92, 15)
        if radius > 14:
            core = hu - 40
    elif plan.site == "bone":
        hu = around(780, 120) if rng.random() < 0.4 else around(52, 12)
    elif plan.site == "mediastinum":
        hu = around(88, 12)
        if radius > 16 and rng.random() < 0.5:
            core = hu - 35
    elif plan.site == "soft_tissue":
        hu = around(92, 10) if organ == "muscle" else around(60, 12)
        if radius > 8:
            core = 28.0
    else:  # abdomen and pelvis
        hu = around(112, 10)
        if radius > 12:
            core = hu - 55
    if plan.kind == "node":
        hu, core, rim = around(104, 10), None, None
    texture = smooth_field(rng, inside.shape, (1, 3, 3))
    spread = 60.0 if hu > 300 else 6.0
    if plan.site == "soft_tissue" and (canvas.organs[region.index] == 0).any():
        canvas.paint(region, inside - 2.5, tissues.skin, keep=keep)
    if rim is not None:
        canvas.paint(region, inside, rim, keep=keep, edge_mm=edge)
        canvas.paint(region, inside + 2.5, hu + spread * texture, keep=keep, edge_mm=edge)
    else:
        canvas.paint(region, inside, hu + spread * texture, keep=keep, edge_mm=edge)
    if core is not None:
        canvas.paint(region, inside + 0.38 * radius + 3 * texture, core, keep=keep, edge_mm=5.0)
    return hu


def _connected(mask: np.ndarray, center: list[int]) -> np.ndarray:
    """The part of a mask that is connected with its center."""
    parts, _ = ndimage.label(mask)
    code = parts[tuple(center)]
    return parts == code if code else mask


def _longest_diameter(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    """Longest axial diameter of a mask in millimetres: the widest of sixteen directions, largest over slices."""
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
