"""The body outline: skin, subcutaneous fat, muscle wall, the cavity inside the ribs, and the table below.

The fields that other organs need: ``cavity`` (inner surface of the ribs and of the abdominal wall) and
``wall`` (outer surface of the muscles).
"""

from __future__ import annotations

import numpy as np

from radclear.phantom.canvas import ORGAN_CODES, Canvas
from radclear.phantom.disease import Patient
from radclear.phantom.shapes import ellipsoid, superellipse
from radclear.phantom.texture import smooth_field
from radclear.phantom.tissues import Tissues

# Cross sections of the standard patient over z, in millimetres.
_Z = [-30, 0, 30, 70, 110, 150, 200, 250, 300, 350, 400, 450, 500, 550, 580, 605, 630]
_WALL_A = [150, 164, 172, 170, 160, 150, 140, 138, 142, 148, 154, 160, 166, 170, 174, 184, 188]
_WALL_B = [88, 92, 96, 96, 94, 91, 89, 89, 94, 100, 105, 107, 104, 96, 88, 78, 70]
_CAVITY_A = [60, 92, 102, 106, 112, 118, 122, 124, 128, 132, 134, 133, 127, 112, 92, 66, 30]
_CAVITY_B = [40, 56, 62, 68, 70, 70, 72, 75, 81, 87, 91, 91, 86, 74, 60, 42, 24]
_CAVITY_Y = [0, 4, 6, 2, -4, -9, -11, -10, -8, -6, -5, -4, -3, 2, 8, 14, 18]
# Subcutaneous fat of a patient of fatness 1: lateral, anterior, posterior.
_FAT_LATERAL = [44, 46, 46, 44, 44, 46, 48, 42, 34, 26, 22, 20, 20, 18, 16, 12, 10]
_FAT_ANTERIOR = [30, 34, 38, 44, 50, 54, 54, 50, 42, 32, 24, 18, 14, 12, 10, 8, 7]
_FAT_POSTERIOR = [44, 46, 46, 44, 42, 40, 36, 30, 24, 20, 18, 18, 18, 20, 22, 22, 20]

PELVIS_TOP_MM = 150.0
DIAPHRAGM_TOP_MM = 425.0


def body_half_width_mm(patient: Patient) -> float:
    """Largest true half-width of the body, from which the field of view follows."""
    widths = [a + fat * (0.15 + 0.85 * patient.fatness) for a, fat in zip(_WALL_A, _FAT_LATERAL, strict=True)]
    return max(widths) * patient.scale[0]


def draw_trunk(canvas: Canvas, patient: Patient, tissues: Tissues, rng: np.random.Generator) -> None:
    """Draw table, skin, fat, muscles and the fat of the cavity; fills the fields ``wall`` and ``cavity``."""
    region = canvas.region((-260, 260), (-190, 190), (-100, 700))
    thickness = np.float32(0.15 + 0.85 * patient.fatness)
    wall_a, wall_b = region.profile(_Z, _WALL_A), region.profile(_Z, _WALL_B)
    fat_a = region.profile(_Z, _FAT_LATERAL) * thickness
    fat_front = region.profile(_Z, _FAT_ANTERIOR) * thickness
    fat_back = region.profile(_Z, _FAT_POSTERIOR) * thickness

    skin_b = wall_b + (fat_front + fat_back) / 2
    skin_y = region.y - (fat_back - fat_front) / 2
    skin = superellipse(region.x, skin_y, wall_a + fat_a, skin_b)
    if patient.sex == "F":
        size = float(rng.uniform(26, 40)) * (0.75 + 0.5 * patient.fatness)
        for side in (-1, 1):
            breast = ellipsoid(region, (side * 78, -104, 462), (58, size, 52))
            skin = _soft_min(skin, breast, 14.0)
    canvas.paint(region, skin, tissues.skin, organ="subcutaneous_fat")
    septa = smooth_field(rng, skin.shape, (1, 5, 5))
    canvas.paint(region, skin + 2.2, tissues.fat + 9 * np.maximum(septa, 0) ** 2)
    if patient.sex == "F":
        for side in (-1, 1):
            gland = ellipsoid(region, (side * 78, -112, 460), (36, size * 0.55, 32)) + 5 * septa
            canvas.paint(region, np.maximum(gland, skin + 8), 32, edge_mm=6.0)

    wall = superellipse(region.x, region.y, wall_a, wall_b)
    # The furrow over the spine and between the buttocks.
    furrow = 10 * np.maximum(0, 1 - np.abs(region.x) / 26) * (region.y > 40)
    wall += furrow
    canvas.paint(region, wall, tissues.muscle, organ="muscle")

    cavity = superellipse(
        region.x,
        region.y - region.profile(_Z, _CAVITY_Y),
        region.profile(_Z, _CAVITY_A),
        region.profile(_Z, _CAVITY_B),
    )
    _draw_muscle_planes(canvas, region, wall, cavity, tissues, rng)
    canvas.paint(region, cavity, tissues.visceral_fat)
    inside = cavity < 0
    organs = canvas.organs[region.index]
    z = np.broadcast_to(region.z, inside.shape)
    organs[inside] = ORGAN_CODES["abdominal_cavity"]
    organs[inside & (z < PELVIS_TOP_MM)] = ORGAN_CODES["pelvic_cavity"]
    for name, level in (("wall", wall), ("cavity", cavity), ("skin", skin)):
        full = np.full(canvas.hu.shape, 500, np.float32)
        full[region.index] = level
        canvas.fields[name] = full
    _draw_table(canvas, patient)


def _draw_muscle_planes(canvas, region, wall, cavity, tissues: Tissues, rng: np.random.Generator) -> None:
    """Fat between the layers of the wall, and the streaks of fat inside muscle."""
    texture = smooth_field(rng, wall.shape, (2, 7, 7))
    in_wall = np.maximum(wall + 3, 5 - cavity)
    depth = wall / np.minimum(wall - cavity, -6)  # 0 at the outside, 1 at the cavity
    plane = np.abs(depth - 0.45 - 0.06 * texture) * 22 - 0.9
    canvas.paint(region, np.maximum(plane, in_wall), -70, edge_mm=2.5)
    streak = np.abs(texture) * 8 - 0.55
    canvas.paint(region, np.maximum(streak, in_wall), -25, edge_mm=2.5)


def _soft_min(f: np.ndarray, g: np.ndarray, width: float) -> np.ndarray:
    """Union of two shapes with a rounded seam (polynomial smooth minimum)."""
    h = np.maximum(width - np.abs(f - g), 0) / width
    return np.minimum(f, g) - h * h * (width / 4)


def _draw_table(canvas: Canvas, patient: Patient) -> None:
    """A curved carbon-fibre table with a mattress, on the unwarped grid below the back."""
    x, y = canvas.x_axis[None, :], canvas.y_axis[:, None]
    back = max(b + f * (0.15 + 0.85 * patient.fatness) for b, f in zip(_WALL_B, _FAT_POSTERIOR, strict=True))
    top = np.float32(back + 4) - x * x * np.float32(1 / 900)
    outside_body = canvas.organs == 0
    for low, high, hu in ((0, 9, -930.0), (9, 11.5, -250.0), (11.5, 26, -960.0), (26, 28.5, -250.0)):
        layer = np.maximum(np.maximum(top + low - y, y - top - high), np.abs(x) - 205)
        coverage = np.clip(0.5 - layer / np.float32(canvas.pixel_mm), 0, 1) * outside_body
        canvas.hu += coverage * (np.float32(hu) - canvas.hu)
