"""Signs of lung disease drawn into the lungs: consolidation, ground glass, emphysema, effusion.

Each function draws one disease and returns the mask of its signs; nodules are drawn with the lesions.
"""

from __future__ import annotations

import numpy as np

from radclear.phantom.canvas import ORGAN_CODES, Canvas
from radclear.phantom.shapes import capsule, ellipsoid
from radclear.phantom.texture import smooth_field
from radclear.phantom.thorax import LUNG_CODES, lung_points

_THORAX = ((-150, 150), (-125, 125), (290, 625))


def is_lung(organs: np.ndarray) -> np.ndarray:
    """Where an array of organ codes is lung, right or left."""
    return (organs == LUNG_CODES[0]) | (organs == LUNG_CODES[1])


def _with_border(lung: np.ndarray) -> np.ndarray:
    """A lung mask and the pixels beside it, whose air is blended with the pleura, as float32."""
    wide = lung.copy()
    wide[:, 1:] |= lung[:, :-1]
    wide[:, :-1] |= lung[:, 1:]
    wide[:, :, 1:] |= lung[:, :, :-1]
    wide[:, :, :-1] |= lung[:, :, 1:]
    return wide.astype(np.float32)


def draw_emphysema(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Dark confluent holes, most of them in the upper lobes, and a darker lung throughout."""
    mask = np.zeros(canvas.hu.shape, bool)
    region = canvas.region(*_THORAX)
    if region is None:
        return mask
    lung = is_lung(canvas.organs[region.index]).astype(np.float32)
    canvas.hu[region.index] += lung * (-950 - canvas.hu[region.index]) * np.float32(0.45)
    cells = smooth_field(rng, lung.shape, (1, 5, 5)) + 0.5 * smooth_field(rng, lung.shape, (2, 11, 11))
    severity = region.profile([330, 420, 500, 560, 610], [-0.3, 0.05, 0.5, 0.8, 0.9]) + rng.uniform(-0.1, 0.2)
    holes = (0.25 - severity - cells) * 4.0
    canvas.paint(region, holes, -985, keep=lung, edge_mm=2.5)
    mask[region.index] = (holes < 0) & (lung > 0)
    return mask


def draw_ground_glass(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Hazy patches in both lungs that leave the vessels visible: HU is raised, never replaced."""
    mask = np.zeros(canvas.hu.shape, bool)
    sides = (-1, 1) if rng.random() < 0.8 else ((-1,) if rng.random() < 0.5 else (1,))
    for side in sides:
        for center in lung_points(canvas, side, rng, int(rng.integers(4, 8))):
            radius = float(rng.uniform(20, 42))
            region = canvas.region(*((c - 1.3 * radius, c + 1.3 * radius) for c in center))
            if region is None:
                continue
            patch = ellipsoid(region, center, (radius, radius * 0.85, radius))
            patch += 6.5 * smooth_field(rng, patch.shape, (1, 8, 8))
            hu = canvas.hu[region.index]
            strength = np.clip(0.5 - patch / 10, 0, 1) * is_lung(canvas.organs[region.index])
            target = -520 + 60 * smooth_field(rng, patch.shape, (1, 4, 4))
            hu += strength * np.maximum(target - hu, 0)
            mask[region.index] |= strength > 0.5
    return mask


def draw_consolidation(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """One or two airless areas that reach the pleura, with air bronchograms."""
    mask = np.zeros(canvas.hu.shape, bool)
    for _ in range(int(rng.integers(1, 3))):
        side = -1 if rng.random() < 0.55 else 1
        points = lung_points(canvas, side, rng, 40)
        if len(points) == 0:
            continue
        # Peripheral, and above the reach of an effusion.
        hilum = np.array([side * 36.0, 8.0, 490.0])
        score = ((points - hilum) ** 2 * (1, 1, 0.15)).sum(1) - 4000 * (points[:, 2] < 415)
        center = points[np.argsort(score)[-8 + int(rng.integers(0, 5))]]
        radius = float(rng.uniform(36, 54))
        region = canvas.region(*((c - 1.3 * radius, c + 1.3 * radius) for c in center))
        if region is None:
            continue
        area = ellipsoid(region, center, (radius, radius, radius * 0.9))
        area += 4.0 * smooth_field(rng, area.shape, (1, 10, 10))
        lung = is_lung(canvas.organs[region.index])
        keep = _with_border(lung)
        haze = np.clip(0.5 - (area - 5) / 10, 0, 1) * lung
        hu = canvas.hu[region.index]
        hu += 0.6 * haze * np.maximum(-350 - hu, 0)
        canvas.paint(region, area, 42 + 8 * smooth_field(rng, area.shape, (1, 5, 5)), keep=keep, edge_mm=5)
        mask[region.index] |= (area < 0) & lung
        for _ in range(9):
            end = center + radius * 0.85 * rng.uniform(-1, 1, 3)
            start = center + 0.35 * (hilum - center) + radius * 0.2 * rng.normal(0, 1, 3)
            bronchus = capsule(region, start, end, 2.6, 1.5)
            canvas.paint(region, np.maximum(bronchus, area + 3), -820, keep=lung)
    return mask


def draw_effusion(canvas: Canvas, rng: np.random.Generator, *, fluid_hu: float) -> np.ndarray:
    """Fluid behind the lung, highest at the base, with the meniscus that rises along the chest wall."""
    mask = np.zeros(canvas.hu.shape, bool)
    sides = ((-1,), (1,), (-1, 1))[int(rng.choice(3, p=[0.35, 0.3, 0.35]))]
    region = canvas.region(*_THORAX)
    if region is None:
        return mask
    cavity = canvas.fields["cavity"][region.index]
    for side in sides:
        lung = canvas.organs[region.index] == ORGAN_CODES["lung_right" if side < 0 else "lung_left"]
        depth = float(rng.uniform(30, 62))
        level = 86 - depth * region.profile([340, 400, 470, 540, 600], [1.15, 1.0, 0.62, 0.25, 0.0])
        # The surface curves up along the wall: near the wall the fluid reaches further forward.
        rise = 16 * np.maximum(0, 1 + cavity / 18)
        fluid = (level - rise) - region.y
        keep = _with_border(lung)
        # Compressed lung in front of the fluid.
        rim = np.clip(0.5 - (fluid - 7) / 8, 0, 1)
        hu = canvas.hu[region.index]
        hu += 0.75 * lung * rim * np.maximum(-150 - hu, 0)
        canvas.paint(region, fluid, fluid_hu, keep=keep, edge_mm=2.5)
        mask[region.index] |= (fluid < 0) & lung
    return mask
