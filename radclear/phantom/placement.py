"""Where lesions go: inside the organ of their site, as deep as they are large, apart from each other."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from radclear.phantom.canvas import ORGAN_CODES, Canvas
from radclear.phantom.skeleton import spine_y
from radclear.phantom.staging import PlannedLesion
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
INVADES = {
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
        (-22, -2, 535),
        (18, -2, 520),
        (6, 18, 488),
        (-48, 4, 488),
        (52, 8, 492),
        (-6, -48, 540),
        (-36, 20, 470),
        (2, -52, 520),
        (44, -16, 512),
        (20, -14, 528),
    ),
    "abdomen": (
        (24, spine_y(250) - 26, 250),
        (26, spine_y(285) - 26, 285),
        (-2, spine_y(265) - 40, 265),
        (22, 4, 220),
        (-32, spine_y(240) - 22, 240),
        (4, -34, 275),
        (-30, 10, 215),
        (14, -22, 305),
    ),
    "pelvis": (
        (-66, 8, 108),
        (66, 8, 108),
        (-74, -18, 78),
        (74, -18, 78),
        (-46, 22, 132),
        (46, 22, 132),
        (62, 30, 90),
        (-62, 30, 90),
    ),
}


class Placer:
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
                inside &= (np.abs(x) < 20) & (y < np.interp(self.canvas.z, [0, 200], [200, 62])) | (
                    np.abs(x) > 45
                )
            if site == "lung" and self.covered is not None:
                inside &= ~self.covered[:, ::step, ::step]
            if not inside.any():
                raise ValueError(
                    f"this scan shows no {site} to put a lesion in; draw more slices or a larger size"
                )
            box = ndimage.find_objects(inside.astype(np.uint8))[0]
            sx, sy, sz = self.canvas.spacing_mm
            cut = np.pad(inside[box], ((0, 0), (1, 1), (1, 1)))
            # Depth in the axial plane, where the diameter is defined; the ends of the organ limit it along z.
            depth = ndimage.distance_transform_edt(cut, sampling=(max(sz, 4.0) * 1.5, sy * step, sx * step))
            depth = depth[:, 1:-1, 1:-1]
            k, j, i = np.nonzero(depth)
            voxels = np.stack(
                [k + box[0].start, (j + box[1].start) * step, (i + box[2].start) * step], axis=1
            )
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
            position = np.stack(
                [self.canvas.x[k, j, i], self.canvas.y[k, j, i], self.canvas.z[k, 0, 0]], axis=1
            )
            target = stations[rng.integers(len(stations))] + rng.normal(0, 4, 3)
            miss = np.sqrt(((position - target) ** 2).sum(1)) + 2.0 * np.maximum(3 - free, 0) * 10
            return tuple(int(v) for v in voxels[miss.argmin()])
        good = np.minimum(depth / radius_mm, 0.9) + np.minimum(free / 4.0, 1.0)
        best = np.flatnonzero(good >= good.max() - 0.06)
        return tuple(int(v) for v in voxels[best[rng.integers(len(best))]])
