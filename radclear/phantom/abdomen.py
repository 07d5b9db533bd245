"""Liver with vessels, gallbladder, spleen, pancreas, kidneys, psoas, bladder and pelvic organs."""

from __future__ import annotations

import numpy as np

from radclear.phantom.bowel import draw_colon, draw_small_bowel, draw_stomach
from radclear.phantom.canvas import ORGAN_CODES, Canvas
from radclear.phantom.disease import Patient
from radclear.phantom.shapes import ellipse, ellipsoid, paint_ellipsoid, paint_tube
from radclear.phantom.skeleton import SPINE_Y, SPINE_Z, spine_y
from radclear.phantom.texture import smooth_field
from radclear.phantom.tissues import Tissues


def draw_abdomen(canvas: Canvas, patient: Patient, tissues: Tissues, rng: np.random.Generator) -> None:
    """Draw the organs below the diaphragm; needs the fields ``cavity`` and ``abdomen``."""
    _draw_psoas(canvas, tissues)
    draw_small_bowel(canvas, tissues, rng)
    draw_colon(canvas, tissues, rng)
    _draw_kidneys(canvas, tissues, rng)
    _draw_spleen(canvas, tissues, rng)
    draw_stomach(canvas, tissues, rng)
    _draw_liver(canvas, tissues, rng)
    _draw_pancreas(canvas, tissues)
    _draw_pelvic_organs(canvas, patient, tissues, rng)
    _draw_abdominal_vessels(canvas, tissues)


def _draw_psoas(canvas: Canvas, tissues: Tissues) -> None:
    region = canvas.region((-110, 110), (-30, 80), (55, 325))
    if region is None:
        return
    z = [55, 80, 120, 170, 220, 270, 325]
    x0 = region.profile(z, [92, 84, 70, 54, 44, 36, 28])
    y0 = region.profile(z, [-22, -16, 0, 18, 26, 32, 36])
    a = region.profile(z, [14, 16, 18, 20, 18, 13, 5])
    b = region.profile(z, [12, 15, 17, 19, 17, 13, 6])
    psoas = ellipse(np.abs(region.x) - x0, region.y - y0, a, b)
    canvas.paint(
        region, np.maximum(psoas, canvas.fields["cavity"][region.index]), tissues.muscle, organ="muscle"
    )
    cavity = canvas.fields["cavity"][region.index]
    # Quadratus lumborum lies beside the psoas, erector spinae behind both.
    quadratus = ellipse(np.abs(region.x) - 66, region.y - 56, 18, 9)
    quadratus = np.maximum(quadratus, np.maximum(198 - region.z, region.z - 315))
    erector = ellipse(np.abs(region.x) - 28, region.y - region.profile(SPINE_Z, SPINE_Y) - 38, 25, 19)
    erector = np.maximum(erector, 150 - region.z)
    for muscle in (quadratus, erector):
        canvas.paint(region, np.maximum(muscle, cavity), tissues.muscle, organ="muscle")
    # Iliacus lines the inside of the iliac wing.
    a, b = region.profile([60, 130, 205], [90, 98, 116]), region.profile([60, 130, 205], [58, 62, 62])
    iliacus = np.abs(ellipse(region.x, region.y - 14, a, b)) - region.profile(
        [55, 90, 150, 205], [3, 7, 7, 3]
    )
    iliacus = np.maximum(iliacus, np.maximum(np.abs(region.y - 10) - 40, np.abs(region.z - 130) - 72))
    iliacus = np.maximum(iliacus, np.maximum(45 - np.abs(region.x), cavity))
    canvas.paint(region, iliacus, tissues.muscle, organ="muscle")


def _draw_liver(canvas: Canvas, tissues: Tissues, rng: np.random.Generator) -> None:
    size = float(np.clip(rng.normal(1.0, 0.06), 0.88, 1.14))
    region = canvas.region((-150, 110), (-110, 110), (225, 440))
    if region is None:
        return
    right = ellipsoid(region, (-70, 6, 350), (76 * size, 88 * size, 104 * size))
    # The lower tip lies lateral; the visceral face is hollowed by kidney, gallbladder and duodenum.
    medial = (region.x + 24) - 0.45 * np.maximum(region.z - 330, 0) + 0.35 * np.maximum(330 - region.z, 0)
    right = np.maximum(right, np.where(region.y > -20, medial, -50))
    left = ellipsoid(region, (2, -52, 372), (86 * size, 40 * size, 44 * size))
    liver = np.minimum(right, left)
    kidney_bed = ellipsoid(region, (-58, 44, 284), (36, 34, 66))
    fossa = ellipsoid(region, (-30, -44, 306), (20, 26, 40))
    hilum = ellipsoid(region, (-14, 0, 338), (26, 22, 34))
    for hollow in (kidney_bed, fossa, hilum):
        liver = np.maximum(liver, -hollow)
    fissure = np.maximum(
        np.abs(region.x + 10 - 0.2 * region.y) - 2.5, np.maximum(region.y + 30, region.z - 365)
    )
    liver = np.maximum(liver, -np.maximum(fissure, -90 - region.y))
    liver = np.maximum(liver, canvas.fields["abdomen"][region.index])
    mottle = smooth_field(rng, liver.shape, (1, 6, 6))
    canvas.paint(region, liver, tissues.liver + 3 * mottle, organ="liver")

    code = [ORGAN_CODES["liver"]]
    k, j, i = np.nonzero(canvas.organs[region.index][:, ::4, ::4] == code[0])
    if len(k) == 0:
        return
    inner = (region.x[k, 4 * j, 4 * i], region.y[k, 4 * j, 4 * i], region.z[k, 0, 0])
    points = np.stack(inner, axis=1).astype(np.float64)
    for root, hu, counts in (
        (np.array([-18.0, -6.0, 334.0]), tissues.liver + 38, (4, 10, 22)),
        (np.array([-22.0, 10.0, 392.0]), tissues.liver + 28, (3, 8, 16)),
    ):
        parents = root[None]
        radii = (6.5, 4.6, 3.2, 1.6)
        for level, n in enumerate(counts):
            ends = points[rng.integers(0, len(points), n)]
            ends = root + (0.35, 0.65, 0.9)[level] * (ends - root)
            nearest = ((ends[:, None] - parents[None]) ** 2).sum(-1).argmin(1)
            for end, parent in zip(ends, parents[nearest], strict=True):
                paint_tube(canvas, [parent, end], [radii[level], radii[level + 1]], hu, only=code)
            parents = ends
    if rng.random() < 0.85:
        paint_ellipsoid(
            canvas, (-32, -48, 300), (13, 18, 30), tissues.water, organ="gallbladder", clip="abdomen"
        )


def _draw_spleen(canvas: Canvas, tissues: Tissues, rng: np.random.Generator) -> None:
    region = canvas.region((40, 145), (-30, 105), (290, 430))
    if region is None:
        return
    size = float(np.clip(rng.normal(1.0, 0.09), 0.8, 1.25))
    spleen = ellipsoid(region, (100, 40, 358), (34 * size, 48 * size, 52 * size))
    spleen = np.maximum(spleen, -ellipsoid(region, (58, 18, 350), (38, 42, 60)))
    spleen = np.maximum(spleen, canvas.fields["abdomen"][region.index])
    canvas.paint(region, spleen, tissues.spleen, organ="spleen")


def _draw_kidneys(canvas: Canvas, tissues: Tissues, rng: np.random.Generator) -> None:
    for side, z, name in ((-1, 276.0, "kidney_right"), (1, 290.0, "kidney_left")):
        size = float(np.clip(rng.normal(1.0, 0.06), 0.88, 1.15))
        z += float(rng.normal(0, 5))
        center = (side * 60, 36, z)
        region = canvas.region((center[0] - 50, center[0] + 50), (-10, 90), (z - 70, z + 70))
        if region is None:
            continue
        # Upper pole towards the spine and the back.
        long = np.array([-side * 0.26, 0.16, 0.95])
        long /= np.sqrt(long @ long)
        lateral = np.array([side * 0.80, 0.55, 0.0])
        lateral -= (lateral @ long) * long
        lateral /= np.sqrt(lateral @ lateral)
        axes = np.stack([lateral, np.cross(long, lateral), long])
        kidney = ellipsoid(region, center, (29 * size, 26 * size, 57 * size), axes=axes)
        clip = canvas.fields["abdomen"][region.index]
        # Fat of the capsule pushes other organs away.
        canvas.paint(region, np.maximum(kidney - 7, clip), tissues.visceral_fat, organ="abdominal_cavity")
        canvas.paint(region, np.maximum(kidney, clip), tissues.kidney, organ=name)
        medulla = np.abs(smooth_field(rng, kidney.shape, (1, 7, 7))) * 9 - 3.5
        canvas.paint(region, np.maximum(medulla, kidney + 8), tissues.kidney - 45, edge_mm=4)
        hilum = np.asarray(center) - 11 * lateral
        sinus = ellipsoid(region, hilum, (15 * size, 10 * size, 30 * size), axes=axes)
        canvas.paint(region, np.maximum(sinus, clip), tissues.visceral_fat, organ=name)
        pelvis = ellipsoid(region, np.asarray(center) - 15 * lateral, (9, 6, 12), axes=axes)
        canvas.paint(region, np.maximum(pelvis, clip), tissues.urine + 8)
        vein = [tuple(np.asarray(center) - 14 * lateral), (-side * 2.0 + 6 * (side > 0), 6, z + 8)]
        paint_tube(canvas, vein, [5.5, 5.5], tissues.venous_blood, organ="great_vessels")
        y = spine_y(345) - 14
        adrenal = [(side * 26, y - 6, 338), (side * 38, y + 6, 342), (side * 46, y + 20, 340)]
        paint_tube(canvas, adrenal, [3.2, 3, 2.2], 70)


def _draw_pancreas(canvas: Canvas, tissues: Tissues) -> None:
    chain = [(-34, -10, 268), (-28, -22, 284), (-4, -28, 300), (22, -18, 312), (48, 4, 326), (76, 22, 336)]
    paint_tube(
        canvas,
        chain,
        [13, 13, 10, 10.5, 10, 7.5],
        tissues.pancreas,
        organ="pancreas",
        clip="abdomen",
        edge_mm=3,
    )
    splenic = [(-20, -12, 306), (4, -14, 310), (40, 6, 322), (84, 30, 348)]
    paint_tube(canvas, splenic, [5.5, 4.5, 4.2, 4], tissues.venous_blood, organ="great_vessels")
    paint_tube(canvas, [(-20, -12, 306), (-18, -6, 334)], [7, 7], tissues.venous_blood, organ="great_vessels")
    paint_tube(
        canvas, [(-4, -32, 300), (0, -34, 240)], [5.5, 4.5], tissues.venous_blood, organ="great_vessels"
    )
    paint_tube(canvas, [(10, -20, 300), (12, -30, 240)], [3.8, 3.2], tissues.blood, organ="great_vessels")


def _draw_pelvic_organs(canvas: Canvas, patient: Patient, tissues: Tissues, rng: np.random.Generator) -> None:
    full = float(rng.uniform(0.65, 1.15))
    center, radii = (0.0, -22.0, 46 + 20 * full), (40 * full, 30 * full, 30 * full)
    if patient.sex == "F":
        tilt = float(rng.normal(0, 8))
        paint_tube(
            canvas,
            [(0, 26, 34), (tilt / 2, 24, 58), (tilt, 6, 92)],
            [14, 18, 22],
            92,
            organ="pelvic_organs",
            edge_mm=3,
        )
        for side in (-1, 1):
            paint_ellipsoid(canvas, (side * 48, 14, 92), (13, 11, 12), 45, organ="pelvic_organs")
    else:
        paint_ellipsoid(canvas, (0, -4, 18), (23, 18, 18), 78, organ="pelvic_organs")
        for side in (-1, 1):
            paint_ellipsoid(canvas, (side * 20, 20, 38), (17, 6, 9), 45, organ="pelvic_organs")
    paint_ellipsoid(canvas, center, [r + 3 for r in radii], 45, organ="bladder", clip="cavity")
    paint_ellipsoid(canvas, center, radii, tissues.urine, organ="bladder", clip="cavity")
    # Pelvic floor and obturator muscles.
    region = canvas.region((-95, 95), (-50, 75), (-30, 85))
    if region is None:
        return
    inner = region.profile([-30, 0, 30, 60, 85], [26, 44, 62, 78, 86])
    obturator = np.abs(np.abs(region.x) - inner - 7) - 7
    obturator = np.maximum(obturator, np.maximum(np.abs(region.y - 4) - 34, region.z - 78))
    inside = np.maximum(obturator, canvas.fields["cavity"][region.index])
    free = (canvas.organs[region.index] == ORGAN_CODES["pelvic_cavity"]).astype(np.float32)
    canvas.paint(region, inside, tissues.muscle, organ="muscle", keep=free, edge_mm=3)


def _draw_abdominal_vessels(canvas: Canvas, tissues: Tissues) -> None:
    y = float(np.interp(206, SPINE_Z, SPINE_Y)) - 27
    for side in (-1, 1):
        common = (side * 32, 16, 160)
        paint_tube(canvas, [(5, y, 206), common], [7.5, 6.5], tissues.blood, organ="great_vessels")
        outer = [
            common,
            (side * 58, 4, 120),
            (side * 72, -32, 75),
            (side * 78, -58, 35),
            (side * 84, -70, -30),
        ]
        paint_tube(canvas, outer, [6.5, 6, 5.5, 5.5, 5], tissues.blood, organ="great_vessels")
        veins = [(p[0] - 3, p[1] + 12, p[2]) for p in outer]
        paint_tube(canvas, [(-17, 6, 205), *veins], [9, 8, 7.5, 7, 7, 6], tissues.venous_blood - 20,
                   organ="great_vessels")  # fmt: skip
        paint_tube(canvas, [common, (side * 52, 44, 112), (side * 58, 52, 80)], [5.5, 5, 4], tissues.blood,
                   organ="great_vessels")  # fmt: skip
