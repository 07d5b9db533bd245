"""Stomach, small bowel and colon with content and gas."""

from __future__ import annotations

import numpy as np

from radclear.phantom.canvas import ORGAN_CODES, Canvas
from radclear.phantom.shapes import ellipsoid, paint_tube
from radclear.phantom.texture import smooth_field
from radclear.phantom.tissues import Tissues

_BOWEL = [ORGAN_CODES["bowel"]]


def _gut(
    canvas, points, radii, tissues: Tissues, *, content: float, wall_mm: float, gas_level: float | None
) -> None:
    """A piece of gut: wall, content, and gas, which rises to the front of a supine patient."""
    paint_tube(canvas, points, radii, tissues.bowel_wall, organ="bowel", clip="abdomen")
    paint_tube(canvas, points, [max(1.0, r - wall_mm) for r in radii], content, clip="abdomen", edge_mm=3)
    if gas_level is None:
        return
    for p, q, radius_p, radius_q in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
        lift = 0.35 * min(radius_p, radius_q) + gas_level
        up_p, up_q = (p[0], p[1] - lift, p[2]), (q[0], q[1] - lift, q[2])
        paint_tube(
            canvas, [up_p, up_q], [0.55 * radius_p, 0.55 * radius_q], tissues.gas, clip="abdomen", only=_BOWEL
        )


def draw_colon(canvas: Canvas, tissues: Tissues, rng: np.random.Generator) -> None:
    """Draw the colon from the cecum to the rectum."""

    def wobble(points, spread: float = 5.0):
        return [tuple(np.asarray(p) + rng.normal(0, spread, 3) * (1, 1, 0.6)) for p in points]

    haustra = lambda n, r: [float(r * rng.uniform(0.78, 1.18)) for _ in range(n)]  # noqa: E731
    segments = (
        (wobble([(-88, 2, 128), (-94, 6, 160), (-96, 8, 195), (-96, 6, 230), (-90, -6, 262)]), 22, 60),
        (
            wobble(
                [
                    (-88, -22, 262),
                    (-62, -54, 246),
                    (-24, -66, 232),
                    (22, -68, 236),
                    (64, -54, 262),
                    (94, -10, 312),
                ]
            ),
            18,
            10,
        ),
        (wobble([(102, 6, 312), (104, 14, 270), (104, 14, 230), (102, 12, 190), (94, 10, 150)]), 14, 40),
        (
            wobble(
                [(94, 8, 150), (76, -6, 118), (44, -10, 104), (22, 8, 112), (10, 34, 118), (2, 48, 96)], 4.0
            ),
            14,
            40,
        ),
        ([(2, 48, 96), (0, 56, 70), (0, 58, 40), (0, 60, 5), (0, 64, -30)], 15, 35),
    )
    for points, radius, content in segments:
        radii = haustra(len(points), radius)
        gas = float(rng.uniform(-2, 4)) if rng.random() < 0.75 else None
        _gut(canvas, points, radii, tissues, content=content - 20, wall_mm=3.2, gas_level=gas)


def draw_small_bowel(canvas: Canvas, tissues: Tissues, rng: np.random.Generator) -> None:
    """Draw duodenum, loops of small bowel and the vessels of the mesentery."""
    paint_tube(
        canvas,
        [(-40, -24, 296), (-48, -12, 262), (-30, -4, 240), (8, -8, 244), (34, -18, 276)],
        [12, 12, 11, 11, 11],
        tissues.bowel_wall - 15,
        organ="bowel",
        clip="abdomen",
    )
    for _ in range(int(rng.integers(34, 46))):
        z = float(rng.uniform(92, 262))
        start = np.array([rng.uniform(-74, 76), rng.uniform(-66, 0), z])
        heading = rng.normal(0, 1, 3) * (1, 0.8, 0.5)
        heading /= np.sqrt(heading @ heading)
        points = [start]
        for _ in range(3):
            turn = rng.normal(0, 1, 3) * (1, 0.8, 0.5)
            heading = heading + 0.8 * turn
            heading /= np.sqrt(heading @ heading)
            points.append(points[-1] + 20 * heading)
        radius = float(rng.uniform(10, 15))
        gas = float(rng.uniform(0, 3)) if rng.random() < 0.22 else None
        _gut(
            canvas,
            points,
            [radius] * len(points),
            tissues,
            content=float(tissues.bowel_content + rng.uniform(-10, 25)),
            wall_mm=2.6,
            gas_level=gas,
        )
    # Vessels of the mesentery fan out in the fat.
    for _ in range(22):
        end = (float(rng.uniform(-60, 64)), float(rng.uniform(-58, -14)), float(rng.uniform(120, 260)))
        paint_tube(canvas, [(2, -34, 262), end], [3.2, 1.6], tissues.venous_blood - 10, clip="abdomen")


def draw_stomach(canvas: Canvas, tissues: Tissues, rng: np.random.Generator) -> None:
    """Draw the stomach with its air-fluid level."""
    full = float(rng.uniform(0.7, 1.05))
    shapes = [
        ((56, 14, 382), (36 * full, 38 * full, 30 * full)),
        ((54, -22, 342), (32 * full, 36 * full, 46 * full)),
        ((20, -46, 302), (46 * full, 22 * full, 20 * full)),
    ]
    region = canvas.region((-50, 110), (-100, 70), (270, 425))
    if region is None:
        return
    lumen = np.minimum.reduce([ellipsoid(region, center, radii) for center, radii in shapes])
    clip = canvas.fields["abdomen"][region.index]
    lumen = lumen + 2.0 * smooth_field(rng, lumen.shape, (2, 6, 6))
    canvas.paint(region, np.maximum(lumen, clip), tissues.bowel_wall, organ="stomach")
    inner = np.maximum(lumen + 5, clip + 4)
    canvas.paint(region, inner, tissues.bowel_content)
    level = float(rng.uniform(-48, -22))
    canvas.paint(region, np.maximum(inner, region.y - level), tissues.gas)
