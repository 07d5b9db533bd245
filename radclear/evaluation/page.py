"""The evaluation report: one self-contained HTML page, without scripts and outside references."""

from __future__ import annotations

from html import escape
from importlib import resources
from string import Template

from radclear.evaluation.annotations import KeySliceHits
from radclear.evaluation.assessment import MACRO, Evaluation
from radclear.evaluation.comparison import Comparison
from radclear.evaluation.document import definitions
from radclear.evaluation.page_tables import (
    calibration_table,
    comparison_section,
    folds_section,
    key_slices_section,
    metric_title,
    ranking_table,
    with_interval,
)
from radclear.evaluation.plots import FigurePlan
from radclear.evaluation.svg import panel_svg

_KINDS = {
    "multilabel": "several classes may hold at once",
    "multiclass": "one of the classes holds",
    "ordinal": "one of the ordered classes holds",
}


def render_page(
    evaluation: Evaluation,
    plans: tuple[FigurePlan, ...],
    *,
    title: str,
    comparison: Comparison | None = None,
    key_slices: KeySliceHits | None = None,
    provenance: dict[str, str],
) -> str:
    """Draw the page.

    Args:
        evaluation: what it is about.
        plans: the figures, see :func:`radclear.evaluation.plots.plan_figures`.
        title: heading of the page.
        comparison: with another table, if there is one.
        key_slices: hits of annotated slices, if there are annotations.
        provenance: item → value, shown at the end.

    Returns:
        The text of an HTML file that follows the reader's light or dark setting and prints.
    """
    table = evaluation.table
    split = f", split {table.split}" if table.split else ""
    style = (resources.files("radclear.results") / "templates" / "style.css").read_text(encoding="utf-8")
    return Template(_template("evaluation.html")).substitute(
        style=style,
        extra_style=_template("evaluation.css"),
        title=escape(title),
        subtitle=escape(
            f"{table.n_studies} studies of {table.n_patients} patients{split}; {len(table.classes)} classes, "
            f"{_KINDS[table.kind]}"
        ),
        banners=_banner(evaluation),
        tiles=_tiles(evaluation),
        glance_meaning=escape(_interval_meaning(evaluation)),
        comparison="" if comparison is None else comparison_section(comparison, evaluation),
        ranking=ranking_table(evaluation),
        calibration=calibration_table(evaluation),
        key_slices="" if key_slices is None else key_slices_section(key_slices),
        folds=folds_section(evaluation),
        figures="".join(_figure(plan) for plan in plans),
        methods=_methods(evaluation),
        provenance="".join(
            f'<tr><th scope="row">{escape(item)}</th><td>{escape(value)}</td></tr>'
            for item, value in provenance.items()
        ),
        footer=escape("Made by radclear evaluate. Research use only."),
    )


def _template(name: str) -> str:
    return (resources.files("radclear.evaluation") / "templates" / name).read_text(encoding="utf-8")


def _banner(evaluation: Evaluation) -> str:
    if not evaluation.warnings:
        return ""
    items = "".join(f"<li>{escape(text.replace('_', ' '))}</li>" for text in evaluation.warnings)
    heading = "<strong>Before reading the figures</strong>"
    return f'<div class="banner note" role="note">{heading}<ul>{items}</ul></div>'


def _tiles(evaluation: Evaluation) -> str:
    table = evaluation.table
    tiles = [("patients", str(table.n_patients), ""), ("studies", str(table.n_studies), "")]
    shown = ["quadratic_kappa"] if table.kind == "ordinal" else []
    for metric in ("auroc", "auprc", *shown, "balanced_accuracy", "ece"):
        entry = evaluation.estimates[MACRO][metric]
        name = metric_title(metric) if metric == "quadratic_kappa" else f"mean {metric_title(metric)}"
        value, interval = with_interval(entry)
        tiles.append((name, value, interval))
    return "".join(
        f"<div><dt>{escape(name)}</dt><dd>{value}{f'<small>{below}</small>' if below else ''}</dd></div>"
        for name, value, below in tiles
    )


def _interval_meaning(evaluation: Evaluation) -> str:
    resamples = evaluation.resamples
    return (
        f"In brackets: {100 * evaluation.level:g} % percentile intervals over {resamples.n_resamples} "
        "bootstrap "
        f"resamples of the {evaluation.table.n_patients} patients, each with all of their studies, drawn "
        f"within {len(resamples.strata)} strata of labels (seed {resamples.seed})."
    )


def _figure(plan: FigurePlan) -> str:
    lines = [line for panel in plan.panels for line in panel.lines]
    drawn = {line.role for line in lines} | {"band" for line in lines if line.band is not None}
    legend = "".join(
        f'<li><svg viewBox="0 0 30 10" aria-hidden="true">{_sample(role)}</svg>{escape(text)}</li>'
        for role, text in plan.legend.items()
        if role in drawn
    )
    panels = "".join(
        f"<figure><figcaption>{escape(panel.title.replace('_', ' '))}<small>{escape(panel.note)}</small>"
        f"</figcaption>{panel_svg(panel, plan, panel_id=f'{plan.name}-{i}')}</figure>"
        for i, panel in enumerate(plan.panels)
    )
    return (
        f'<section class="figure" aria-labelledby="figure-{plan.name}"><h2 id="figure-{plan.name}">'
        f'{escape(plan.title)}</h2><ul class="legend">{legend}</ul><div class="panels">{panels}</div>'
        f'<p class="meaning">{escape(plan.meaning)}</p></section>'
    )


def _sample(role: str) -> str:
    """What a line of this role looks like, for the legend."""
    if role == "band":
        return '<rect class="first band" width="30" height="10"/>'
    return f'<polyline class="{role}" points="0,5 30,5"/>'


def _methods(evaluation: Evaluation) -> str:
    items = "".join(
        f"<dt>{escape(metric_title(name))}</dt><dd>{escape(text.replace('_', ' '))}</dd>"
        for name, text in definitions(evaluation).items()
    )
    strata = ", ".join(str(len(stratum)) for stratum in evaluation.resamples.strata)
    return (
        f'<dl class="definitions">{items}<dt>Strata of the bootstrap</dt><dd>{strata} patients: a patient '
        "belongs to the rarest class that any of their studies has; strata of fewer than 5 join the "
        "next.</dd></dl>"
    )
