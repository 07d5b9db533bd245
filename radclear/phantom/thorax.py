"""Lungs with vessels and bronchi, diaphragm, mediastinum with heart, great vessels, trachea and esophagus.

Fields for others: ``diaphragm`` (height of the dome minus z: positive below the dome) and ``abdomen`` (inside
the cavity and below the dome).
"""

from __future__ import annotations

import numpy as np

from radclear.phantom.canvas import ORGAN_CODES, Canvas, Region
from radclear.phantom.shapes import bounds, capsule, ellipse, ellipsoid, paint_ellipsoid, paint_tube
from radclear.phantom.skeleton import SPINE_Y, SPINE_Z, spine_y
from radclear.phantom.texture import smooth_field
from radclear.phantom.tissues import Tissues

LUNG_CODES = (ORGAN_CODES["lung_right"], ORGAN_CODES["lung_left"])
HEART_CENTER = (20.0, -32.0, 436.0)
_LONG_AXIS = np.array([0.70, -0.44, -0.56])
_HILUM = {-1: (-34.0, 6.0, 490.0), 1: (38.0, 10.0, 494.0)}


def _heart_axes() -> np.ndarray:
    long = _LONG_AXIS / np.sqrt(_LONG_AXIS @ _LONG_AXIS)
    side = np.cross(long, [0.0, 0.0, 1.0])
    side /= np.sqrt(side @ side)
    return np.stack([long, side, np.cross(long, side)])


def draw_diaphragm(canvas: Canvas, rng: np.random.Generator, *, flat: bool) -> None:
    """Fill the fields ``diaphragm`` and ``abdomen``.

    Args:
        canvas: with the trunk drawn.
        rng: source of the heights.
        flat: low and flat domes, as in emphysema.
    """
    top = {-1: 418 + float(rng.normal(0, 7)), 1: 404 + float(rng.normal(0, 7))}
    if flat:
        top = {side: height - 16 for side, height in top.items()}
    fall = 58.0 if flat else 74.0
    region = canvas.region((-150, 150), (-110, 110), (230, 450))
    diaphragm = np.full(canvas.hu.shape, -500, np.float32)
    diaphragm[canvas.z[:, 0, 0] < 230] = 500
    if region is not None:
        heights = {}
        for side in (-1, 1):
            u = side * region.x - 66
            u = np.where(u > 0, u / 76, u / 130)
            v = (region.y + 4) / 92
            heights[side] = top[side] - fall * (u * u + v * v) - 26 * np.maximum(v, 0)
        weight = np.clip(0.5 + region.x / 60, 0, 1)
        dome = heights[-1] * (1 - weight) + heights[1] * weight
        diaphragm[region.index] = (dome - region.z) * 0.75
    canvas.fields["diaphragm"] = diaphragm
    canvas.fields["abdomen"] = np.maximum(canvas.fields["cavity"] + 2.5, 2.5 - diaphragm)


def _mediastinum(region: Region, heart_scale: float, ripple: np.ndarray) -> np.ndarray:
    """Everything between the lungs: central column, spine and heart."""
    width = region.profile(
        [330, 400, 450, 490, 520, 545, 575, 600, 625], [18, 22, 26, 32, 38, 36, 30, 25, 22]
    )
    taper = 1 - 0.72 * np.clip((-34 - region.y) / 42, 0, 1)
    column = np.abs(region.x - 3 - 2.5 * ripple) - width * taper + 4.0 * ripple
    y = region.y - region.profile(SPINE_Z, SPINE_Y)
    half_a = region.profile([330, 450, 600], [26, 22, 20]) + np.clip(y * 0.35, 0, 14)
    spine = np.where(y > 0, np.abs(region.x) - half_a, ellipse(region.x, y, half_a, 21))
    radii = np.array([72.0, 55.0, 52.0]) * heart_scale
    heart = ellipsoid(region, HEART_CENTER, radii, axes=_heart_axes())
    return np.minimum(np.minimum(column, spine), heart)


def draw_lungs(canvas: Canvas, tissues: Tissues, rng: np.random.Generator) -> None:
    """Draw the parenchyma of both lungs and mark the mediastinum between them."""
    region = canvas.region((-145, 145), (-115, 115), (300, 622))
    if region is None:
        return
    canvas.fields["heart_scale"] = np.float32(np.clip(rng.normal(1.0, 0.05), 0.9, 1.14))
    ripple = smooth_field(rng, region.x.shape, (3, 13, 13))
    mediastinum = _mediastinum(region, float(canvas.fields["heart_scale"]), ripple)
    cavity = canvas.fields["cavity"][region.index]
    thorax = np.maximum(cavity, canvas.fields["diaphragm"][region.index])
    canvas.organs[region.index][(thorax < 0) & (mediastinum < 2)] = ORGAN_CODES["mediastinum"]
    behind = region.y - region.profile(SPINE_Z, SPINE_Y)
    beside_spine = np.maximum(np.maximum(thorax, mediastinum), 8 - behind)
    canvas.paint(region, beside_spine, tissues.muscle - 5)
    lung = np.maximum(np.maximum(thorax + 2.0, -mediastinum), region.z - 606)
    gravity = 0.32 * region.y + 0.05 * (480 - region.z)
    mottle = smooth_field(rng, lung.shape, (1, 4, 4))
    hu = tissues.lung + gravity + 11 * mottle
    for side, name in ((-1, "lung_right"), (1, "lung_left")):
        canvas.paint(region, np.maximum(lung, -side * region.x), hu, organ=name)


def draw_heart_and_vessels(canvas: Canvas, tissues: Tissues, rng: np.random.Generator) -> None:
    """Draw heart chambers, aorta, pulmonary arteries, veins, airways and esophagus."""
    scale = float(canvas.fields["heart_scale"])
    axes = _heart_axes()
    cx, cy, cz = HEART_CENTER
    heart = np.array([66.0, 48.0, 46.0]) * scale
    paint_ellipsoid(canvas, HEART_CENTER, heart, tissues.myocardium, organ="heart", axes=axes)
    long, side, up = axes
    center = np.array(HEART_CENTER)

    def at(along: float, across: float, above: float) -> np.ndarray:
        return center + scale * (along * long + across * side + above * up)

    # across < 0 is towards the left back (left chambers), > 0 towards the right front.
    sign = 1.0 if side[0] < 0 else -1.0
    for offset, radii, hu in (
        ((16, -16, 2), (36, 17, 21), tissues.blood),  # left ventricle
        ((10, 24, 4), (38, 14, 26), tissues.venous_blood),  # right ventricle
        ((-42, -16, 8), (19, 24, 20), tissues.blood),  # left atrium
        ((-38, 26, 4), (20, 18, 24), tissues.venous_blood),  # right atrium
    ):
        paint_ellipsoid(
            canvas,
            at(offset[0], sign * offset[1], offset[2]),
            np.array(radii) * scale,
            hu,
            organ="heart",
            axes=axes,
        )

    wide = float(np.clip(rng.normal(1.0, 0.08), 0.85, 1.25))
    blood, veins = tissues.blood, tissues.venous_blood
    descending = [(22, 30, 520)] + [
        (18 - 14 * (500 - z) / 300, spine_y(z) - 27, z) for z in (500, 450, 400, 350)
    ]
    descending += [(5, spine_y(z) - 27, z) for z in (300, 250, 206)]
    tubes = (
        (
            [(-2, -20, 452), (-13, -34, 490), (-14, -36, 525), (-2, -22, 541), (16, 8, 539), (22, 30, 520)],
            [13, 15, 15, 13.5, 13, 12.5],
            blood,
            "aorta",
        ),
        (descending, [12.5, 12, 11.5, 11, 10.5, 9.5, 9, 8.5], blood, "aorta"),
        (
            [(14, -44, 470), (16, -34, 500), (26, -6, 508), (44, 8, 502)],
            [13, 14, 12, 9],
            veins,
            "great_vessels",
        ),
        ([(14, -28, 500), (-12, -8, 497), (-40, 2, 492)], [12, 10, 9], veins, "great_vessels"),
        ([(-26, -18, 450), (-28, -20, 520), (-28, -26, 560)], [10, 9, 8], veins, "great_vessels"),
        (
            [(-28, -26, 560), (-2, -44, 556), (34, -38, 572), (52, -30, 592)],
            [8, 6.5, 6.5, 6],
            veins,
            "great_vessels",
        ),
        ([(-28, -26, 560), (-44, -26, 590)], [8, 6], veins, "great_vessels"),
        ([(-10, -28, 541), (-20, -22, 572), (-22, -14, 640)], [6.5, 6, 4], blood, "great_vessels"),
        ([(4, -16, 541), (14, -12, 580), (20, -10, 640)], [4.5, 4, 3.5], blood, "great_vessels"),
        ([(16, 4, 540), (26, 6, 580), (52, -4, 604)], [5.5, 5, 4.5], blood, "great_vessels"),
        (
            [(-20, 4, 440), (-22, 8, 400), (-22, 12, 372), (-20, 8, 300), (-17, 6, 205)],
            [13, 12, 12, 10.5, 10],
            veins - 10,
            "great_vessels",
        ),
        ([(-22, 12, 462), (-46, 16, 452)], [6, 5], blood, "great_vessels"),
        ([(14, 8, 464), (46, 18, 456)], [6, 5], blood, "great_vessels"),
    )
    for points, radii, hu, organ in tubes:
        paint_tube(canvas, points, [wide * r for r in radii], hu, organ=organ)

    esophagus = [
        (1, 18, 640),
        (4, 24, 560),
        (6, spine_y(500) - 22, 490),
        (9, spine_y(440) - 22, 440),
        (14, 6, 392),
    ]
    paint_tube(canvas, esophagus, [6, 6.5, 7, 7, 8], 48, organ="esophagus")
    paint_tube(canvas, esophagus[:4], [1.4, 1.6, 1.2, 1.2], -300, edge_mm=3)
    carina = (-1, 10, 506)
    airways = (
        ([(0, -2, 650), (0, 2, 590), carina], [8.8, 8.8, 8.8]),
        ([carina, (-20, 14, 494), (-38, 16, 484)], [7.5, 7, 5.5]),
        ([carina, (24, 16, 490), (46, 20, 478)], [7.2, 6.2, 5.2]),
    )
    for points, radii in airways:
        paint_tube(canvas, points, [r + 2 for r in radii], 40, organ="airway")
    for points, radii in airways:
        paint_tube(canvas, points, radii, -985)


def lung_points(canvas: Canvas, side: int, rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 3) standard coordinates of random voxels of one lung (side -1 right, 1 left), if there are any."""
    code = ORGAN_CODES["lung_right" if side < 0 else "lung_left"]
    k, j, i = np.nonzero(canvas.organs[:, ::4, ::4] == code)
    if len(k) == 0:
        return np.zeros((0, 3))
    pick = rng.integers(0, len(k), n)
    k, j, i = k[pick], 4 * j[pick], 4 * i[pick]
    return np.stack([canvas.x[k, j, i], canvas.y[k, j, i], canvas.z[k, 0, 0]], axis=1).astype(np.float64)


def draw_lung_vessels(canvas: Canvas, rng: np.random.Generator, *, density: float) -> None:
    """Draw a vessel tree from the hilum to the periphery of each lung, with bronchi beside large branches.

    Args:
        canvas: with the lungs drawn.
        rng: source of the trees.
        density: 1 for a normal lung, less where emphysema has pruned the vessels.
    """
    for side, hilum in _HILUM.items():
        twigs: list[tuple] = []
        bronchi: list[tuple] = []
        parents = np.array([hilum])
        radii = (5.0, 3.2, 2.1, 1.4, 0.9)
        shrink = (0.30, 0.55, 0.78, 0.98)
        counts = (7, 22, int(70 * density), int(170 * density))
        for level in range(4):
            ends = lung_points(canvas, side, rng, counts[level])
            if len(ends) == 0:
                break
            ends = np.asarray(hilum) + shrink[level] * (ends - np.asarray(hilum))
            nearest = ((ends[:, None, :] - parents[None, :, :]) ** 2).sum(-1).argmin(1)
            for end, parent in zip(ends, parents[nearest], strict=True):
                thick = float(rng.uniform(0.8, 1.2))
                twigs.append((parent, end, radii[level] * thick, radii[level + 1] * thick))
                if level < 2 and rng.random() < 0.75:
                    shift = rng.normal(0, 1, 3)
                    shift *= (radii[level] + 2.5) / np.sqrt(shift @ shift)
                    bronchi.append(
                        (parent + shift, end + shift, radii[level] * 0.75, radii[level + 1] * 0.75)
                    )
            parents = ends
        for p, q, radius_p, radius_q in twigs:
            _paint_in_lung(canvas, p, q, radius_p, radius_q, 70.0)
        for p, q, radius_p, radius_q in bronchi:
            _paint_in_lung(canvas, p, q, radius_p + 1.2, radius_q + 1.0, -100.0)
        for p, q, radius_p, radius_q in bronchi:
            _paint_in_lung(canvas, p, q, radius_p, radius_q, -960.0)


def _paint_in_lung(canvas: Canvas, p, q, radius_p: float, radius_q: float, hu: float) -> None:
    region = canvas.region(*bounds([p, q], max(radius_p, radius_q) + 0.5 * canvas.pixel_mm))
    if region is None:
        return
    # A vessel thinner than a pixel keeps its area: wider and fainter.
    floor = 0.55 * canvas.pixel_mm
    strength = min(1.0, (max(radius_p, radius_q) / floor) ** 2)
    organs = canvas.organs[region.index]
    keep = ((organs == LUNG_CODES[0]) | (organs == LUNG_CODES[1])).astype(np.float32) * np.float32(strength)
    if not keep.any():
        return
    inside = capsule(region, p, q, max(radius_p, floor), max(radius_q, floor))
    canvas.paint(region, inside, hu, keep=keep)
