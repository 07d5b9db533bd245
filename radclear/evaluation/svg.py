"""Draw the figures as inline SVG, in the colours of the page whether it is light, dark or printed."""

from __future__ import annotations

from html import escape

import numpy as np

from radclear.evaluation.estimates import Estimate
from radclear.evaluation.plots import FigurePlan, Line, Panel

_SIDE, _LEFT, _TOP, _BOTTOM, _RIGHT = 200, 48, 8, 38, 8


def panel_svg(panel: Panel, plan: FigurePlan, *, panel_id: str) -> str:
    """One panel with its axes.

    Args:
        panel: of the plan.
        plan: for titles and labels.
        panel_id: prefix for ids, unique in the page.
    """
    width, height = _LEFT + _SIDE + _RIGHT, _TOP + _SIDE + _BOTTOM
    title = f"{plan.title}: {panel.title.replace('_', ' ')}, {panel.note}"
    parts = [f'<title id="{panel_id}">{escape(title)}</title>']
    if not panel.lines:
        parts.append(f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}"/>')
        middle = f'x="{_LEFT + _SIDE / 2}" y="{_TOP + _SIDE / 2}"'
        parts.append(f'<text {middle} text-anchor="middle">not defined</text>')
    else:
        parts += _axes(panel, plan)
        clip = f"{panel_id}-clip"
        parts.append(
            f'<clipPath id="{clip}"><rect x="{_LEFT - 4}" y="{_TOP - 4}" width="{_SIDE + 8}" '
            f'height="{_SIDE + 8}"/></clipPath><g clip-path="url(#{clip})">'
        )
        for line in panel.lines:
            parts += _band(line, panel)
        for line in panel.lines:
            parts += _line(line, panel)
        parts.append("</g>")
    return (
        f'<svg class="panel" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{panel_id}">'
        + "".join(parts)
        + "</svg>"
    )


def interval_bar(entry: Estimate) -> str:
    """A dot on a track from 0 to 1 with its interval; decoration beside the numbers of a table row."""
    if entry.value is None:
        return ""
    interval = ""
    if entry.interval is not None:
        low, high = (200 * limit for limit in entry.interval)
        interval = f'<rect class="span" x="{low:.1f}" y="7.5" width="{max(high - low, 1):.1f}" height="5"/>'
    return (
        '<svg class="interval" viewBox="-4 0 208 20" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" x="0" y="9" width="200" height="2"/>'
        '<line class="half" x1="100" x2="100" y1="3" y2="17"/>'
        f'{interval}<rect class="value" x="{200 * entry.value - 1.5:.1f}" y="3" width="3" height="14"/></svg>'
    )


def _axes(panel: Panel, plan: FigurePlan) -> list[str]:
    parts = []
    bottom = _TOP + _SIDE
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = _LEFT + _SIDE * tick
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom}"/>')
        if tick in (0, 0.5, 1):
            parts.append(f'<text x="{x}" y="{bottom + 14}" text-anchor="middle">{tick:g}</text>')
    for value in _y_ticks(*panel.y_range):
        y = _y(value, panel)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _SIDE}" y1="{y:.1f}" y2="{y:.1f}"/>')
        text = f"{value:g}".replace("-", "−")
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>')
    parts.append(
        f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{_LEFT + _SIDE}"/>'
        f'<text x="{_LEFT + _SIDE / 2}" y="{bottom + 30}" text-anchor="middle">{escape(plan.x_label)}</text>'
        f'<text transform="translate(10 {_TOP + _SIDE / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(plan.y_label)}</text>"
    )
    return parts


def _band(line: Line, panel: Panel) -> list[str]:
    """A filled area; for points that stand for themselves, as bins do, a broad bar each."""
    if line.band is None:
        return []
    there = [
        (_x(x), _y(low, panel), _y(high, panel))
        for x, low, high in zip(line.band.x, line.band.low, line.band.high, strict=True)
        if not np.isnan(low)
    ]
    if line.dots:
        return [
            f'<rect class="{line.role} band" x="{x - 3.5:.1f}" y="{high:.1f}" width="7" '
            f'height="{low - high:.1f}"/>'
            for x, low, high in there
        ]
    outline = [f"{x:.1f},{high:.1f}" for x, _, high in there] + [
        f"{x:.1f},{low:.1f}" for x, low, _ in reversed(there)
    ]
    return [f'<polygon class="{line.role} band" points="{" ".join(outline)}"/>']


def _line(line: Line, panel: Panel) -> list[str]:
    parts = []
    if line.low is not None and line.high is not None:
        for x, low, high in zip(line.x, line.low, line.high, strict=True):
            parts.append(
                f'<line class="{line.role} whisker" x1="{_x(x):.1f}" x2="{_x(x):.1f}" '
                f'y1="{_y(low, panel):.1f}" y2="{_y(high, panel):.1f}"/>'
            )
    points = [f"{_x(x):.1f},{_y(y, panel):.1f}" for x, y in zip(line.x, line.y, strict=True)]
    distinct = [p for i, p in enumerate(points) if i == 0 or p != points[i - 1]]
    parts.append(f'<polyline class="{line.role}" points="{" ".join(distinct)}"/>')
    if line.dots:
        for x, y in zip(line.x, line.y, strict=True):
            parts.append(f'<circle class="{line.role}" cx="{_x(x):.1f}" cy="{_y(y, panel):.1f}" r="2.8"/>')
    return parts


def _x(value: float) -> float:
    return _LEFT + _SIDE * float(value)


def _y(value: float, panel: Panel) -> float:
    low, high = panel.y_range
    position = (high - float(value)) / (high - low)
    return _TOP + _SIDE * min(max(position, -2.0), 3.0)  # far below a decision curve's axis


def _y_ticks(low: float, high: float) -> list[float]:
    if (low, high) == (0.0, 1.0):
        return [0, 0.25, 0.5, 0.75, 1]
    rough = (high - low) / 4
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.99)
    first = int(np.ceil(low / step - 1e-9))
    return [round(i * step, 10) + 0.0 for i in range(first, int(np.floor(high / step + 1e-9)) + 1)]
