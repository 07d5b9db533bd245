"""The drawings of the results page as inline SVG: probability bars and the attention curve."""

from __future__ import annotations

from html import escape

import numpy as np

from radclear.results.thumbnails import Picture
from radclear.results.wording import format_mm, format_score

_HEIGHT = 250  # of the z axis, in SVG units
_TOP = 34
_AXIS_WIDTH = 78
_PLOT_WIDTH = 170
_PLOT_WIDTH_ALONE = 360  # where there is no overview beside the curve
_LABEL_WIDTH = 122
_LABEL_GAP = 17
_MAX_OVERVIEW_WIDTH = 360


def bar(probability: float, operating_point: float | None) -> str:
    """A bar from 0 to 1 with a line at the operating point; decoration beside the numbers of a table row."""
    mark = ""
    if operating_point is not None:
        x = 200 * operating_point
        mark = f'<line class="point" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="20"/>'
    return (
        '<svg class="bar" viewBox="0 0 200 20" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" x="0" y="5" width="200" height="10"/>'
        f'<rect class="fill" x="0" y="5" width="{200 * probability:.1f}" height="10"/>{mark}</svg>'
    )


def attention_chart(task: dict, z_mm: list[float], *, overview: Picture | None, chart_id: str) -> str:
    """Attention over slice position, head up, beside the overview of the study where there is one.

    Args:
        task: an entry of ``result["tasks"]``.
        z_mm: z of each slice in millimetres, foot to head.
        overview: the study from the front on the same z axis, or None.
        chart_id: prefix for ids, unique in the page.

    Returns:
        An ``svg`` element. Its ``data-plot`` is left, top, width and height of the plot in the drawing's
        units, and the attention at the plot's right edge, for whoever draws a cursor over it.
    """
    attention = task["attention"]
    low, high = min(z_mm), max(z_mm)

    def y_of(z: float) -> float:
        return _TOP + (_HEIGHT * (high - z) / (high - low) if high > low else _HEIGHT / 2)

    picture, left = _overview(overview)
    peak = max(attention)
    top_value = _round_up(peak)
    plot_left = left + _AXIS_WIDTH
    plot_width = _PLOT_WIDTH if overview else _PLOT_WIDTH_ALONE

    def x_of(value: float) -> float:
        return plot_left + plot_width * value / top_value

    width, height = plot_left + plot_width + _LABEL_WIDTH, _TOP + _HEIGHT + 44
    bottom = _TOP + _HEIGHT
    parts = [picture]
    for z in _ticks(low, high):
        y = y_of(z)
        parts.append(
            f'<line class="grid" x1="{plot_left}" x2="{plot_left + plot_width}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(
            f'<text x="{plot_left - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{format_mm(z).removesuffix('.0')} mm</text>"
        )
    for value in (0, top_value / 2, top_value):
        parts.append(f'<text x="{x_of(value):.1f}" y="{bottom + 17}" text-anchor="middle">{value:g}</text>')
    centre = plot_left + plot_width / 2
    parts.append(f'<text x="{centre:.1f}" y="{bottom + 36}" text-anchor="middle">attention per slice</text>')
    parts.append(f'<text class="end" x="{plot_left - 8}" y="16" text-anchor="end">Head</text>')
    parts.append(f'<text class="end" x="{plot_left - 8}" y="{bottom + 17}" text-anchor="end">Foot</text>')
    even = x_of(1 / len(attention))
    parts.append(f'<line class="even" x1="{even:.1f}" x2="{even:.1f}" y1="{_TOP}" y2="{bottom}"/>')
    points = " ".join(f"{x_of(a):.1f},{y_of(z):.1f}" for z, a in zip(z_mm, attention, strict=True))
    first, last = y_of(z_mm[0]), y_of(z_mm[-1])
    parts.append(
        f'<polygon class="area" points="{plot_left:.1f},{first:.1f} {points} {plot_left:.1f},{last:.1f}"/>'
    )
    parts.append(f'<polyline class="curve" points="{points}"/>')
    parts.append(f'<line class="axis" x1="{plot_left}" x2="{plot_left}" y1="{_TOP}" y2="{bottom}"/>')
    # The lines leave the gap between overview and plot to the numbers of the axis.
    spans = [(0, left)] * bool(overview) + [(plot_left, plot_left + plot_width)]
    parts += _key_marks(task, x_of=x_of, y_of=y_of, spans=spans)
    strongest = task["key_slices"][0]
    words = (
        f"Attention over {len(attention)} slices from z {format_mm(low)} mm (foot) to {format_mm(high)} "
        f"mm (head). First key slice: slice {strongest['number']} at z {format_mm(strongest['z_mm'])} mm, "
        f"attention {format_score(strongest['attention'])}. Even attention: {1 / len(attention):.3f}."
    )
    return (
        f'<svg class="attention" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'data-plot="{plot_left:.1f} {_TOP} {plot_width} {_HEIGHT} {top_value:g}" '
        f'role="img" aria-labelledby="{chart_id}-title {chart_id}-words">'
        f'<title id="{chart_id}-title">Attention curve: {escape(task["question"])}</title>'
        f'<desc id="{chart_id}-words">{escape(words)}</desc>' + "".join(parts) + "</svg>"
    )


def _overview(overview: Picture | None) -> tuple[str, float]:
    """The picture as an SVG image with its side letters, and the width it takes."""
    if overview is None:
        return "", 0
    width = min(_MAX_OVERVIEW_WIDTH, _HEIGHT * overview.width_mm / overview.height_mm)
    return (
        f'<image href="{overview.data_uri}" x="0" y="{_TOP}" width="{width:.1f}" '
        f'height="{_HEIGHT}" preserveAspectRatio="none"/>'
        f'<text class="end" x="0" y="{_TOP + _HEIGHT + 17}">R</text>'
        f'<text class="end" x="{width:.1f}" y="{_TOP + _HEIGHT + 17}" text-anchor="end">L</text>'
        f'<text x="{width / 2:.1f}" y="{_TOP + _HEIGHT + 36}" text-anchor="middle">'
        "overview from the front</text>"
    ), width


def _key_marks(task: dict, *, x_of, y_of, spans: list[tuple[float, float]]) -> list[str]:
    """A line through each key slice, a dot on the curve and a label at the right; labels never overlap."""
    keys = sorted(task["key_slices"], key=lambda key: y_of(key["z_mm"]))
    label_y: list[float] = []
    for key in keys:
        y = y_of(key["z_mm"])
        label_y.append(max(y, label_y[-1] + _LABEL_GAP) if label_y else y)
    overflow = max(0.0, label_y[-1] - (_TOP + _HEIGHT))
    lowest = _TOP + _HEIGHT
    if overflow:
        for position in range(len(label_y) - 1, -1, -1):
            label_y[position] = min(label_y[position], lowest)
            lowest = label_y[position] - _LABEL_GAP
    parts, right = [], spans[-1][1]
    for key, label in zip(keys, label_y, strict=True):
        y = y_of(key["z_mm"])
        for start, end in spans:
            parts.append(f'<line class="key" x1="{start:.1f}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<line class="leader" x1="{right}" x2="{right + 10}" y1="{y:.1f}" y2="{label:.1f}"/>')
        parts.append(f'<circle class="dot" cx="{x_of(key["attention"]):.1f}" cy="{y:.1f}" r="4"/>')
        parts.append(
            f'<text class="keylabel" x="{right + 14}" y="{label + 4:.1f}">'
            f"#{key['rank']} slice {key['number']}</text>"
        )
    return parts


def _ticks(low: float, high: float, *, about: int = 6) -> list[float]:
    """Round z positions inside the range."""
    if high <= low:
        return [low]
    step = _round_up((high - low) / about)
    return [float(z) for z in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]


def _round_up(value: float) -> float:
    """The next 1, 2, 4, 5 or 10 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(factor * power for factor in (1, 2, 4, 5, 10) if factor * power >= value * (1 - 1e-9)))
