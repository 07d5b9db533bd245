"""Implicit functions of simple shapes: negative inside, about one per millimetre at the border."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radclear.phantom.canvas import Canvas, Region

Point = Sequence[float]


def superellipse(x: np.ndarray, y: np.ndarray, a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """|x/a|^2.5 + |y/b|^2.5 = 1, the cross section of a trunk; of square roots only, no powers."""
    u, v = np.abs(x / a), np.abs(y / b)
    level = np.sqrt(u * u * np.sqrt(u) + v * v * np.sqrt(v))
    level -= 1
    level *= 0.8 * np.minimum(a, b)
    return level


def ellipse(x: np.ndarray, y: np.ndarray, a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """(x/a)² + (y/b)² = 1."""
    u, v = x / a, y / b
    return (np.sqrt(u * u + v * v) - 1) * np.minimum(a, b)


def ellipsoid(
    region: Region, center: Point, radii: Point, *, axes: Sequence[Sequence[float]] | None = None
) -> np.ndarray:
    """Ellipsoid with half-axes ``radii`` along ``axes`` (rows, orthonormal; x, y, z when omitted)."""
    dx, dy, dz = (
        region.x - np.float32(center[0]),
        region.y - np.float32(center[1]),
        region.z - np.float32(center[2]),
    )
    if axes is None:
        parts = (dx, dy, dz)
    else:
        parts = tuple(
            dx * np.float32(axis[0]) + dy * np.float32(axis[1]) + dz * np.float32(axis[2]) for axis in axes
        )
    level = sum((part * np.float32(1 / radius)) ** 2 for part, radius in zip(parts, radii, strict=True))
    return (np.sqrt(level) - 1) * np.float32(min(radii))


def capsule(region: Region, p: Point, q: Point, radius_p: float, radius_q: float) -> np.ndarray:
    """Segment from p to q, of a thickness that changes linearly."""
    p64, q64 = np.asarray(p, float), np.asarray(q, float)
    d = q64 - p64
    length2 = max(float(d @ d), 1e-6)
    dx, dy, dz = (part - np.float32(c) for part, c in zip((region.x, region.y, region.z), p64, strict=True))
    t = dx * np.float32(d[0] / length2) + dy * np.float32(d[1] / length2) + dz * np.float32(d[2] / length2)
    np.clip(t, 0, 1, out=t)
    ex, ey, ez = dx - t * np.float32(d[0]), dy - t * np.float32(d[1]), dz - t * np.float32(d[2])
    return np.sqrt(ex * ex + ey * ey + ez * ez) - (np.float32(radius_p) + t * np.float32(radius_q - radius_p))


def bounds(points: Sequence[Point], margin: float) -> tuple[tuple[float, float], ...]:
    """The x, y and z ranges of points, wider by a margin, as ``Canvas.region`` takes them."""
    array = np.asarray(points, float)
    low, high = array.min(axis=0) - margin, array.max(axis=0) + margin
    return tuple((float(lo), float(hi)) for lo, hi in zip(low, high, strict=True))


def paint_tube(
    canvas: Canvas,
    points: Sequence[Point],
    radii: Sequence[float],
    hu: float,
    *,
    organ: str | None = None,
    clip: str | None = None,
    only: Sequence[int] | None = None,
    edge_mm: float | None = None,
) -> None:
    """Paint a chain of capsules through points.

    Args:
        canvas: to paint on.
        points: at least two (x, y, z) in standard millimetres.
        radii: one per point.
        hu: of the tube.
        organ: code to give to its voxels.
        clip: name of a field of the canvas; the tube stays where that is negative.
        only: organ codes the tube may cover; all when omitted.
        edge_mm: width of the blend.
    """
    for p, q, radius_p, radius_q in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
        region = canvas.region(*bounds([p, q], max(radius_p, radius_q)))
        if region is None:
            continue
        inside = capsule(region, p, q, radius_p, radius_q)
        if clip is not None:
            np.maximum(inside, canvas.fields[clip][region.index], out=inside)
        keep = None if only is None else np.isin(canvas.organs[region.index], only).astype(np.float32)
        canvas.paint(region, inside, hu, organ=organ, keep=keep, edge_mm=edge_mm)


def paint_ellipsoid(
    canvas: Canvas,
    center: Point,
    radii: Point,
    hu: float,
    *,
    organ: str | None = None,
    axes: Sequence[Sequence[float]] | None = None,
    clip: str | None = None,
) -> None:
    """Paint an ellipsoid; arguments as of :func:`ellipsoid` and :func:`paint_tube`."""
    reach = max(radii) if axes is not None else 0.0
    box = [(c - (reach or r), c + (reach or r)) for c, r in zip(center, radii, strict=True)]
    region = canvas.region(*box)
    if region is None:
        return
    inside = ellipsoid(region, center, radii, axes=axes)
    if clip is not None:
        np.maximum(inside, canvas.fields[clip][region.index], out=inside)
    canvas.paint(region, inside, hu, organ=organ)
