"""Spine with canal, ribs, sternum, shoulder girdle with the arms up, pelvis and femoral heads."""

from __future__ import annotations

import numpy as np

from radclear.phantom.canvas import Canvas, Region
from radclear.phantom.shapes import capsule, ellipse, ellipsoid, superellipse
from radclear.phantom.tissues import Tissues
from radclear.phantom.trunk import _CAVITY_A, _CAVITY_B, _CAVITY_Y, _Z

# Vertebral column of the standard patient: y of the vertebral bodies, their half-width and half-depth.
SPINE_Z = [-30, 30, 60, 110, 165, 200, 250, 300, 350, 400, 450, 500, 550, 600, 640]
SPINE_Y = [84, 82, 80, 66, 36, 29, 29, 34, 40, 46, 50, 51, 46, 36, 26]
_BODY_A = [4, 6, 12, 34, 26, 25, 24, 22, 20, 18, 16, 15, 14, 13, 13]
_BODY_B = [3, 5, 8, 15, 18, 18, 17, 17, 16, 15, 15, 14, 12, 10, 9]
SACRUM_TOP_MM = 162.0
T12_MM = 345.0
T1_MM = 605.0
RIB_PITCH_MM = (T1_MM - T12_MM) / 11


def spine_y(z_mm: float) -> float:
    """Standard y of the centre of the vertebral bodies."""
    return float(np.interp(z_mm, SPINE_Z, SPINE_Y))


def vertebra_limits() -> np.ndarray:
    """Standard z of the lower end plates from L5 to T1 and above, increasing."""
    limits = [SACRUM_TOP_MM]
    while limits[-1] < 660:
        limits.append(limits[-1] + float(np.interp(limits[-1], [160, 330, 600], [37, 29, 19])))
    return np.array(limits)


def draw_skeleton(canvas: Canvas, tissues: Tissues) -> None:
    """Draw every bone; needs the fields of the trunk."""
    _draw_spine(canvas, tissues)
    _draw_sacrum(canvas, tissues)
    _draw_ribs(canvas, tissues)
    _draw_sternum(canvas, tissues)
    _draw_shoulders(canvas, tissues)
    _draw_pelvis(canvas, tissues)


def paint_bone(
    canvas: Canvas,
    region: Region | None,
    inside: np.ndarray,
    tissues: Tissues,
    organ: str,
    *,
    cortex_mm: float = 2.4,
) -> None:
    """Cortex around cancellous bone."""
    if region is None:
        return
    canvas.paint(region, inside, 0.62 * tissues.cortical, organ=organ)
    canvas.paint(region, inside + cortex_mm, tissues.cancellous, edge_mm=2.0)


def _draw_spine(canvas: Canvas, tissues: Tissues) -> None:
    region = canvas.region((-52, 52), (0, 125), (SACRUM_TOP_MM - 4, 640))
    if region is None:
        return
    limits = vertebra_limits()
    z = region.z[:, 0, 0].astype(np.float64)
    k = np.clip(np.searchsorted(limits, z) - 1, 0, len(limits) - 2)
    height = (limits[k + 1] - limits[k])[:, None, None].astype(np.float32)
    offset = region.z - ((limits[k] + limits[k + 1]) / 2)[:, None, None].astype(np.float32)
    half_a, half_b = region.profile(SPINE_Z, _BODY_A), region.profile(SPINE_Z, _BODY_B)
    y = region.y - region.profile(SPINE_Z, SPINE_Y)
    ax = np.abs(region.x)

    canal_y = y - half_b - 9
    canal = ellipse(region.x, canal_y, 10.5, 8.5)
    waist = 1 + 0.10 * (2 * np.abs(offset) / height) ** 2
    body = superellipse(region.x, y, half_a * waist, half_b * waist)
    body = np.maximum(body, 1.5 - canal)
    canvas.paint(region, body, tissues.disc, organ="spine")
    bone = np.maximum(body, np.abs(offset) - height / 2 + 3.0)
    canvas.paint(region, bone, 0.62 * tissues.cortical, organ="spine")
    # End plates are thin against a slice: the cortex is drawn around the body, not above and below.
    canvas.paint(region, np.maximum(bone, body + 2), tissues.cancellous, edge_mm=2.0)

    # Neural arch: ring, transverse and spinous processes; open at the level of the disc.
    arch = np.maximum(ellipse(region.x, canal_y, 16.0, 13.5), -canal)
    arch = np.maximum(arch, np.abs(offset) - height * 0.40)
    reach = region.profile([160, 300, 600], [44, 38, 32])
    transverse = np.maximum(np.abs(canal_y + 3 - 0.25 * (ax - 12)) - 4.0, np.maximum(ax - reach, 11 - ax))
    transverse = np.maximum(transverse, np.abs(offset) - height * 0.20)
    spinous = np.maximum(np.maximum(ax - 3.2, canal_y - 34), 11 - canal_y)
    spinous = np.maximum(spinous, np.abs(offset + 3) - height * 0.38)
    for part in (arch, transverse, spinous):
        paint_bone(canvas, region, part, tissues, "spine", cortex_mm=2.4)
    canvas.paint(region, canal, -20, organ="spinal_canal")
    canvas.paint(region, ellipse(region.x, canal_y, 6.5, 5.5), 38, edge_mm=2.5)


def _draw_sacrum(canvas: Canvas, tissues: Tissues) -> None:
    region = canvas.region((-62, 62), (20, 115), (10, SACRUM_TOP_MM + 2))
    if region is None:
        return
    y = region.y - region.profile(SPINE_Z, SPINE_Y)
    width = region.profile([10, 50, 80, 110, 140, 165], [8, 16, 34, 50, 56, 52])
    depth = region.profile([10, 50, 80, 110, 140, 165], [5, 8, 14, 20, 23, 20])
    # A triangle in cross section, wide at the front.
    body = ellipse(region.x, y + 2, width * (1 - 0.25 * np.clip(y / depth, -1, 1)), depth)
    top = region.z - SACRUM_TOP_MM
    sacrum = np.maximum(body, top)
    paint_bone(canvas, region, sacrum, tissues, "spine", cortex_mm=2.2)
    ax = np.abs(region.x)
    foramina = np.maximum(ellipse(ax - 24, y - 1, 4.5, 4.5), 70 - region.z)
    canvas.paint(region, np.maximum(foramina, body + 4), -20)
    canal = np.maximum(ellipse(region.x, y - depth * 0.55, 10, 5), 75 - region.z)
    canvas.paint(region, np.maximum(canal, body + 2), 5, organ="spinal_canal")


def _draw_ribs(canvas: Canvas, tissues: Tissues) -> None:
    region = canvas.region((-165, 165), (-125, 125), (255, 628))
    if region is None:
        return
    outside = canvas.fields["cavity"][region.index]
    a, b = region.profile(_Z, _CAVITY_A), region.profile(_Z, _CAVITY_B)
    y = (region.y - region.profile(_Z, _CAVITY_Y)) / b
    drop = 46 * (1 - np.clip(y, -1.15, 1.0))
    number = (T1_MM + 4 - (region.z + drop)) * np.float32(1 / RIB_PITCH_MM) + 1  # 1 to 12 on a rib
    nearest = np.clip(np.rint(number), 1, 12)
    dz = (number - nearest) * np.float32(RIB_PITCH_MM)
    rib = ellipse(outside - 6.0, dz, 4.2, 6.5)
    ax = np.abs(region.x)
    # Ribs 8 to 10 end in the costal arch, 11 and 12 float; none crosses the spine or the sternum.
    end = np.where(nearest >= 11, 0.15, np.where(nearest >= 8, -0.55 - 0.15 * (10 - nearest), -1.3))
    rib = np.maximum(rib, (end - y) * 60)
    rib = np.maximum(rib, 24 - ax)
    cartilage = (y < -0.80) & (ax < 0.80 * a)
    canvas.paint(region, np.where(cartilage, rib, 50), tissues.cartilage, organ="ribs")
    paint_bone(canvas, region, np.where(cartilage, 50, rib), tissues, "ribs", cortex_mm=2.2)


def _draw_sternum(canvas: Canvas, tissues: Tissues) -> None:
    region = canvas.region((-36, 36), (-120, -30), (425, 585))
    if region is None:
        return
    front = region.profile(_Z, _CAVITY_Y) - region.profile(_Z, _CAVITY_B)
    width = region.profile([425, 440, 520, 540, 575, 590], [4, 15, 16, 28, 30, 10])
    sternum = superellipse(region.x, region.y - front + 5, width, 7.0)
    sternum = np.maximum(sternum, np.abs(region.z - 505) - 78)
    paint_bone(canvas, region, sternum, tissues, "sternum", cortex_mm=1.8)


def _draw_shoulders(canvas: Canvas, tissues: Tissues) -> None:
    """Scapulae, clavicles, and humeral heads beside the apex because the arms are raised."""
    region = canvas.region((-190, 190), (-40, 115), (462, 612))
    if region is not None:
        outside = canvas.fields["cavity"][region.index]
        b = region.profile(_Z, _CAVITY_B)
        y = (region.y - region.profile(_Z, _CAVITY_Y)) / b
        ax = np.abs(region.x)
        inner = region.profile([462, 500, 560, 612], [105, 84, 78, 96])
        lateral = region.profile([462, 500, 560, 612], [118, 134, 146, 158])
        blade = np.maximum(np.abs(outside - 20) - 2.6, np.maximum(inner - ax, ax - lateral))
        blade = np.maximum(blade, (0.05 - y) * 60)
        paint_bone(canvas, region, blade, tissues, "shoulder_girdle", cortex_mm=1.6)
    for side in (-1, 1):
        for p, q, radius_p, radius_q in (
            ((side * 14, -54, 574), (side * 70, -52, 592), 7, 5.5),
            ((side * 70, -52, 592), (side * 138, -14, 618), 5.5, 6.5),
            ((side * 150, 12, 590), (side * 142, 30, 560), 12, 8),
            ((side * 168, 2, 618), (side * 172, 0, 660), 23, 17),
        ):
            _paint_long_bone(canvas, p, q, radius_p, radius_q, tissues, "shoulder_girdle")


def _paint_long_bone(canvas, p, q, radius_p, radius_q, tissues: Tissues, organ: str) -> None:
    reach = max(radius_p, radius_q)
    region = canvas.region(*(((min(u, v) - reach), (max(u, v) + reach)) for u, v in zip(p, q, strict=True)))
    if region is not None:
        paint_bone(canvas, region, capsule(region, p, q, radius_p, radius_q), tissues, organ)


def _round_max(f: np.ndarray, g: np.ndarray, radius: float) -> np.ndarray:
    """Intersection of two shapes with a rounded edge."""
    u, v = np.maximum(f + radius, 0), np.maximum(g + radius, 0)
    return np.minimum(np.maximum(f, g), -radius) + np.sqrt(u * u + v * v)


def _draw_pelvis(canvas: Canvas, tissues: Tissues) -> None:
    region = canvas.region((-155, 155), (-75, 105), (-30, 215))
    if region is None:
        return
    ax = np.abs(region.x)
    # Iliac wing: a curved plate from the sacroiliac joint to the front, thick behind and above the hip joint.
    a = region.profile([60, 90, 130, 170, 205], [98, 100, 108, 122, 130])
    b = region.profile([60, 90, 130, 170, 205], [66, 68, 72, 74, 70])
    plate = ellipse(region.x, region.y - 16, a, b)
    thick = 3.6 + 4.5 * np.clip((region.y - 25) / 40, 0, 1) + region.profile([60, 85, 105], [7, 4, 0])
    wing = np.abs(plate - 2) - thick
    front = region.profile([60, 90, 130, 170, 205], [-8, -22, -34, -34, -4])
    back = region.profile([60, 85, 105, 170, 205], [42, 58, 90, 86, 52])
    wing = _round_max(wing, np.maximum(front - region.y, region.y - back), 8.0)
    wing = np.maximum(wing, np.maximum(44 - ax, np.maximum(62 - region.z, region.z - 203)))
    paint_bone(canvas, region, wing, tissues, "pelvic_bone", cortex_mm=2.4)

    for side in (-1, 1):
        head = (side * 92, 2, 44)
        cup = ellipsoid(region, head, (36, 34, 35))
        cup = np.maximum(cup, -ellipsoid(region, head, (27, 27, 27)))
        cup = np.maximum(cup, (side * region.x - 92) - 4 - 0.5 * np.maximum(region.z - 44, 0))
        ischium = capsule(region, (side * 80, 34, 40), (side * 62, 44, -8), 14, 13)
        pubis = np.minimum(
            capsule(region, (side * 78, -18, 48), (side * 14, -48, 30), 10, 11),
            capsule(region, (side * 14, -48, 26), (side * 58, 20, -10), 8, 8),
        )
        for part in (cup, ischium, pubis):
            paint_bone(canvas, region, part, tissues, "pelvic_bone")
        femur = np.minimum(
            ellipsoid(region, head, (23.5, 23.5, 23.5)),
            np.minimum(
                capsule(region, head, (side * 128, 10, 16), 14, 15),
                capsule(region, (side * 134, 10, 28), (side * 130, 6, -60), 15, 14),
            ),
        )
        paint_bone(canvas, region, femur, tissues, "femur")
