"""What the four figures show, before anything is drawn: the same for PNG files and for the page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radclear.evaluation.assessment import Evaluation
from radclear.evaluation.bands import Band, CurveBands, curve_bands
from radclear.evaluation.comparison import Comparison
from radclear.evaluation.curves import (
    decision_curve,
    precision_recall_curve,
    reliability_curve,
    roc_curve,
)
from radclear.evaluation.table import PredictionTable

FIGURES = ("roc", "precision_recall", "reliability", "decision")
_MAX_POINTS = 600


@dataclass(frozen=True)
class Line:
    """A polyline of a panel.

    Attributes:
        role: `"first"` and `"second"` table, `"reference"` (dotted) or `"alternative"` (thin).
        x, y: points.
        low, high: ends of an interval at each point, None for lines without.
        dots: whether the points are marked; they then stand for themselves, and so does their band.
        band: bootstrap intervals, None for lines without.
    """

    role: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    dots: bool = False
    band: Band | None = None


@dataclass(frozen=True)
class Panel:
    """One class of a figure.

    Attributes:
        title: the class.
        note: what it rests on, or why there is nothing.
        lines: to be drawn in this order; empty where nothing is defined.
        y_range: lower and upper end of the y axis; x always goes from 0 to 1.
    """

    title: str
    note: str
    lines: tuple[Line, ...]
    y_range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class FigurePlan:
    """One of the four figures.

    Attributes:
        name: one of `FIGURES`; also the file name without suffix.
        title: for people.
        x_label, y_label: of the axes.
        meaning: how to read it.
        legend: role → what it stands for; `"band"` is the shaded part.
        panels: one per class.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    meaning: str
    legend: dict[str, str]
    panels: tuple[Panel, ...]


def plan_figures(evaluation: Evaluation, comparison: Comparison | None = None) -> tuple[FigurePlan, ...]:
    """The four figures of an evaluation, with both tables in each where two are compared."""
    tables = [evaluation.table] if comparison is None else [comparison.first, comparison.second]
    bands = [curve_bands(evaluation, table) for table in tables]
    roles = {role: table.name or role for role, table in zip(("first", "second"), tables, strict=False)}
    level = f"{100 * evaluation.level:g} %"
    band = {"band": f"{level} bootstrap interval"}
    shaded = (
        f" Shaded: at each point the {level} interval over the bootstrap resamples of patients that the "
        "intervals of the tables are made from"
    )
    texts = {
        "roc": (
            "ROC curves",
            "1 − specificity",
            "sensitivity",
            f"Further up and left is better; the dotted diagonal is chance.{shaded}.",
            {"reference": "chance", **band},
        ),
        "precision_recall": (
            "Precision and recall",
            "recall (sensitivity)",
            "precision",
            "Further up and right is better; the dotted line is the prevalence, which chance would reach."
            f"{shaded}.",
            {"reference": "prevalence", **band},
        ),
        "reliability": (
            "Reliability",
            "mean probability",
            "share of positives",
            f"On the dotted diagonal, probabilities mean what they say. {evaluation.settings.n_bins} bins of "
            "equal width, empty ones left out; thin bars are 95 % Wilson intervals (studies as independent)."
            f"{shaded}; bins of only positives or only negatives have none.",
            {"reference": "perfect", **band},
        ),
        "decision": (
            "Decision curves",
            "threshold probability",
            "net benefit",
            "Where the curve lies above both others, acting on the model at that threshold is better than "
            f"acting on every patient or on none; it assumes calibrated probabilities.{shaded}, for the "
            "model alone.",
            {"alternative": "call all", "reference": "call none", **band},
        ),
    }
    return tuple(
        FigurePlan(
            name=name,
            title=title,
            x_label=x_label,
            y_label=y_label,
            meaning=meaning,
            legend={**roles, **legend},
            panels=tuple(
                _panel(name, c, tables, bands, evaluation) for c in range(len(evaluation.table.classes))
            ),
        )
        for name, (title, x_label, y_label, meaning, legend) in texts.items()
    )


def _panel(
    figure: str,
    c: int,
    tables: list[PredictionTable],
    bands: list[dict[str, CurveBands]],
    evaluation: Evaluation,
) -> Panel:
    name = evaluation.table.classes[c]
    counts = evaluation.counts[name]
    if counts.missing:
        return Panel(name, f"not defined: {counts.missing} of {counts.n_studies}", ())
    truth = evaluation.table.labels()[:, c]
    lines = []
    for role, table, band in zip(("first", "second"), tables, bands, strict=False):
        scores = table.probabilities[:, c]
        lines += _curve_lines(figure, role, scores, truth, band[name], evaluation.settings.n_bins)
    y_range = (0.0, 1.0)
    if figure == "decision":
        if len(tables) > 1:  # calling all is the same line for both
            lines = [lines[0], *(line for line in lines if line.role != "alternative")]
        ends = [float(np.nanmax(line.band.high)) for line in lines if line.band is not None]
        top = max([counts.prevalence, *ends])  # the prevalence is the most that a model can reach
        y_range = (-0.25 * top, 1.08 * top)
    reference = {
        "roc": Line("reference", np.array([0.0, 1.0]), np.array([0.0, 1.0])),
        "reliability": Line("reference", np.array([0.0, 1.0]), np.array([0.0, 1.0])),
        "precision_recall": Line("reference", np.array([0.0, 1.0]), np.full(2, counts.prevalence)),
        "decision": Line("reference", np.array([0.0, 1.0]), np.zeros(2)),
    }[figure]
    note = f"{counts.n_positive} positive of {counts.n_studies} studies, {counts.n_patients} patients"
    return Panel(name, note, (reference, *lines), y_range)


def _curve_lines(
    figure: str, role: str, scores: np.ndarray, truth: np.ndarray, bands: CurveBands, n_bins: int
) -> list[Line]:
    if figure == "roc":
        curve = roc_curve(scores, truth)
        return [Line(role, *_thinned(curve.x, curve.y), band=bands.roc)]
    if figure == "precision_recall":
        curve = precision_recall_curve(scores, truth)
        steps_x = np.repeat(curve.x, 2)[:-1]  # precision holds from the recall before up to its own
        steps_y = np.repeat(curve.y, 2)[1:]
        return [Line(role, *_thinned(steps_x, steps_y), band=bands.precision_recall)]
    if figure == "reliability":
        bins = reliability_curve(scores, truth, n_bins=n_bins)
        ends = (bins.low, bins.high)
        return [Line(role, bins.predicted, bins.observed, *ends, dots=True, band=bands.reliability)]
    curve = decision_curve(scores, truth)
    return [
        Line("alternative", curve.threshold, curve.call_all),
        Line(role, curve.threshold, curve.model, band=bands.decision),
    ]


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most about `_MAX_POINTS` points, ends kept: more cannot be told apart in a small panel."""
    if len(x) <= _MAX_POINTS:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, _MAX_POINTS).round().astype(int))
    return x[kept], y[kept]
