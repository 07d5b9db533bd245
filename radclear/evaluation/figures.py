"""Draw the figures as PNG files with matplotlib, without a display and without its global state."""

from __future__ import annotations

import io
import math

from radclear.errors import MissingDependencyError
from radclear.evaluation.plots import FigurePlan, Line, Panel

_COLOURS = {"first": "#1c5b9e", "second": "#a8480b", "reference": "#6b7683", "alternative": "#6b7683"}
_STYLES = {"first": "-", "second": (0, (5, 2)), "reference": (0, (1, 2)), "alternative": "-"}
_WIDTHS = {"first": 1.8, "second": 1.8, "reference": 1.2, "alternative": 1.0}
_SHADE = 0.18
_COLUMNS, _SIDE_INCHES = 4, 2.7


def draw_png(plan: FigurePlan, *, dpi: int = 160) -> bytes:
    """A figure as the bytes of a PNG file, a square panel per class.

    Args:
        plan: see :func:`radclear.evaluation.plots.plan_figures`.
        dpi: dots per inch; a panel is 2.7 inches wide.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", purpose="draw figures as PNG") from error
    columns = min(_COLUMNS, len(plan.panels))
    rows = math.ceil(len(plan.panels) / columns)
    figure = Figure(figsize=(max(columns * _SIDE_INCHES, 4.2), rows * (_SIDE_INCHES + 0.25) + 0.7))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    figure.suptitle(plan.title, fontsize=11, fontweight="bold")
    grid = figure.subplots(rows, columns, squeeze=False)
    handles = {}
    for index, axes in enumerate(grid.flat):
        if index >= len(plan.panels):
            axes.set_visible(False)
            continue
        handles |= _draw_panel(axes, plan.panels[index])
        if index + columns >= len(plan.panels) and plan.panels[index].lines:
            axes.set_xlabel(plan.x_label, fontsize=8)
        if index % columns == 0 and plan.panels[index].lines:
            axes.set_ylabel(plan.y_label, fontsize=8)
    shown = [role for role in plan.legend if role in handles]
    if shown:
        figure.legend(
            [handles[role] for role in shown],
            [plan.legend[role] for role in shown],
            loc="outside lower center",
            ncols=len(shown),
            fontsize=8,
            frameon=False,
        )
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi, metadata={"Software": "radclear", "Title": plan.title})
    return content.getvalue()


def _draw_panel(axes, panel: Panel) -> dict:
    """Draws into the axes; returns role → a handle for the legend."""
    axes.set_title(f"{panel.title.replace('_', ' ')}\n{panel.note}", fontsize=7.5)
    axes.set_xlim(0, 1)
    axes.set_ylim(*panel.y_range)
    axes.set_box_aspect(1)
    axes.tick_params(labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if not panel.lines:
        axes.text(0.5, 0.5, "not defined", ha="center", va="center", fontsize=9, color="#6b7683")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        return {}
    axes.grid(color="#e3e7eb", linewidth=0.6)
    handles = {}
    for line in panel.lines:
        if line.band is not None:
            handles.setdefault("band", _draw_band(axes, line))
    return handles | {line.role: _draw_line(axes, line) for line in panel.lines}


def _draw_band(axes, line: Line):
    """A filled area; for points that stand for themselves, as bins do, a broad bar each."""
    band, colour = line.band, _COLOURS[line.role]
    if line.dots:
        return axes.vlines(band.x, band.low, band.high, color=colour, linewidth=6, alpha=_SHADE)
    return axes.fill_between(band.x, band.low, band.high, color=colour, alpha=_SHADE, linewidth=0)


def _draw_line(axes, line: Line):
    colour = _COLOURS[line.role]
    if line.low is not None and line.high is not None:
        axes.vlines(line.x, line.low, line.high, color=colour, linewidth=1, alpha=0.55)
    (handle,) = axes.plot(
        line.x,
        line.y,
        color=colour,
        linestyle=_STYLES[line.role],
        linewidth=_WIDTHS[line.role],
        marker="o" if line.dots else None,
        markersize=3.5,
        clip_on=not line.dots,
    )
    return handle
