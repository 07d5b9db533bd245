"""The tables of the report as HTML; each says how many patients and studies, and the prevalence."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from radclear.evaluation.annotations import KeySliceHits
from radclear.evaluation.assessment import MACRO, ClassCounts, Evaluation
from radclear.evaluation.comparison import Comparison
from radclear.evaluation.estimates import Estimate
from radclear.evaluation.panel import sensitivity_name
from radclear.evaluation.svg import interval_bar

_TITLES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "brier": "Brier score",
    "ece": "ECE",
    "ece_by_chance": "ECE by chance",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "balanced_accuracy": "balanced accuracy",
    "quadratic_kappa": "quadratic kappa",
    "macro": "mean over classes",
    "auroc_delong_interval": "DeLong interval",
}


def metric_title(metric: str) -> str:
    """A metric's name for people."""
    prefix = sensitivity_name(0.5).removesuffix("0.5")
    if metric.startswith(prefix):
        return f"sensitivity at {100 * float(metric.removeprefix(prefix)):g} % specificity"
    return _TITLES[metric]


def with_interval(entry: Estimate) -> tuple[str, str]:
    """Value and interval, or in place of them the reason why there is none."""
    if entry.value is None:
        return "–", escape(entry.reason)
    value = f"{entry.value:.3f}".replace("-", "−")
    if entry.interval is None:
        return value, escape(f"no interval: {entry.reason}")
    low, high = (f"{limit:.3f}".replace("-", "−") for limit in entry.interval)
    return value, f"[{low}, {high}]"


def ranking_table(evaluation: Evaluation) -> str:
    """AUROC, AUPRC and sensitivities."""
    metrics = ("auroc", "auprc", *(sensitivity_name(s) for s in evaluation.settings.specificities))
    rows = []
    for name in (*evaluation.table.classes, MACRO):
        entries = evaluation.estimates[name]
        delong = evaluation.delong_intervals.get(name)
        cells = [f'<td class="bars">{interval_bar(entries["auroc"])}</td>']
        for metric in metrics:
            extra = ""
            if metric == "auroc" and delong is not None:
                extra = f"<small>DeLong [{delong[0]:.3f}, {delong[1]:.3f}]</small>"
            cells.append(_value_cell(entries[metric], extra))
        rows.append(_row(name, evaluation, cells))
    heads = ['<th scope="col"><span class="hidden">AUROC on a scale from 0 to 1</span></th>']
    heads += [f'<th scope="col" class="number">{escape(metric_title(m))}</th>' for m in metrics]
    return _table(evaluation, heads, rows, "The bar shows AUROC from 0 to 1, chance in its middle.")


def calibration_table(evaluation: Evaluation) -> str:
    """Brier, calibration error, what calls are right and, for ordered classes, kappa."""
    settings, kind = evaluation.settings, evaluation.table.kind
    metrics = ["brier", "ece", "sensitivity", "specificity", "balanced_accuracy"]
    if kind == "ordinal":
        metrics.append("quadratic_kappa")
    at = metrics.index("sensitivity")
    rows = []
    for name in (*evaluation.table.classes, MACRO):
        entries = evaluation.estimates[name]
        chance = evaluation.ece_by_chance.get(name)
        by_chance = "" if chance is None else f"<small>by chance {chance:.3f}</small>"
        cells = [
            _value_cell(entries[m], by_chance if m == "ece" else "") if m in entries else "<td></td>"
            for m in metrics
        ]
        if kind == "multilabel":
            cells.insert(at, "<td></td>" if name == MACRO else _plain_cell(settings.threshold(name)))
        rows.append(_row(name, evaluation, cells))
    heads = []
    for metric in metrics:
        bins = f" ({settings.n_bins} bins)" if metric == "ece" else ""
        heads.append(f'<th scope="col" class="number">{escape(metric_title(metric) + bins)}</th>')
    calls = "Called is the most probable class."
    if kind == "multilabel":
        heads.insert(at, '<th scope="col" class="number">called from</th>')
        calls = "A class counts as called from the probability that its row gives."
    words = (
        "Brier score and ECE: lower is better. ECE by chance is what a calibrated model would have on so "
        f"many studies; chance lifts the interval too, which can lie above the value. {calls}"
    )
    return _table(evaluation, heads, rows, words)


def comparison_section(comparison: Comparison, evaluation: Evaluation) -> str:
    """Differences between two tables with paired tests."""
    first, second = comparison.first.name or "first", comparison.second.name or "second"
    rows = []
    for name in (*comparison.first.classes, MACRO):
        difference = comparison.differences[name]["auroc"]
        one = evaluation.estimates[name]["auroc"].value
        two = None if one is None or difference.value is None else one - difference.value
        test = comparison.tests.get(name)
        z, p = (test.z, test.p_value) if test else (None, None)
        why = comparison.reasons.get(name, "")
        cells = [
            _plain_cell(one),
            _plain_cell(two),
            _value_cell(difference, signed=True),
            f'<td class="number">{_p(comparison.p_bootstrap[name]["auroc"])}</td>',
        ]
        if name == MACRO:
            cells.append('<td class="number absent" colspan="3">DeLong is for single classes</td>')
        elif p is None:
            cells.append(f'<td class="absent" colspan="3">{escape(why)}</td>')
        else:
            z_text = f"{z:.2f}".replace("-", "−")
            cells += [
                f'<td class="number">{text}</td>' for text in (z_text, _p(p), _p(comparison.p_holm[name]))
            ]
        rows.append(_row(name, evaluation, cells))
    heads = [
        f'<th scope="col" class="number">{escape(text)}</th>'
        for text in ("AUROC first", "AUROC second", "difference", "p bootstrap", "z", "p DeLong", "p Holm")
    ]
    tested = sum(p is not None for p in comparison.p_holm.values())
    words = f"First: {first}; second: {second}. Holm’s correction is over {tested} classes."
    return (
        '<section aria-labelledby="comparison"><h2 id="comparison">Compared with another table</h2>'
        + _table(evaluation, heads, rows, words)
        + _other_differences(comparison, evaluation)
        + '<p class="meaning">Differences are first minus second on the same studies; the bootstrap draws '
        "the same patients for both. Only the Holm p-values allow for testing several classes.</p></section>"
    )


def folds_section(evaluation: Evaluation) -> str:
    """AUROC of every fold by itself; empty where there are no folds."""
    if not evaluation.by_fold:
        return ""
    table = evaluation.table
    rows = []
    for fold, areas in evaluation.by_fold.items():
        held = [i for i, name in enumerate(table.folds) if name == fold]
        patients = len({table.patients[i] for i in held})
        cells = "".join(_plain_cell(areas[name], "not defined") for name in (*table.classes, MACRO))
        rows.append(
            f'<tr><th scope="row">{escape(fold)}</th><td class="number">{patients}</td>'
            f'<td class="number">{len(held)}</td>{cells}</tr>'
        )
    names = [name.replace("_", " ") for name in table.classes]
    heads = "".join(
        f'<th scope="col" class="number">{escape(text)}</th>'
        for text in ("patients", "studies", *names, "mean")
    )
    prevalence = ", ".join(
        f"{name} {100 * evaluation.counts[key].prevalence:.1f} %"
        for name, key in zip(names, table.classes, strict=True)
    )
    return (
        '<section aria-labelledby="folds"><h2 id="folds">AUROC per fold</h2><div class="scroll">'
        f'<table class="figures-table"><caption>{table.n_patients} patients, {table.n_studies} studies; '
        f"prevalence over all folds: {escape(prevalence)}.</caption>"
        f'<thead><tr><th scope="col">Fold</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div></section>"
    )


def key_slices_section(found: KeySliceHits) -> str:
    """How often the slices with most attention show an annotated lesion."""
    rows = []
    for hit in found.hits:
        chance = "–" if hit.chance is None else f"{hit.chance:.3f}"
        rows.append(
            f'<tr><th scope="row">hit@{hit.k}</th>{_value_cell(hit.rate)}'
            f'<td class="number">{hit.n_hit} of {hit.n_studies}</td><td class="number">{chance}</td></tr>'
        )
    first = found.hits[0]
    share = 100 * first.n_studies / found.n_studies
    of = f" of kind {', '.join(found.kinds)}" if found.kinds else " of any kind"
    words = (
        f"{first.n_patients} patients, {first.n_studies} studies with annotated slices{of}; prevalence: "
        f"{share:.1f} % of the {found.n_studies} evaluated studies. {' '.join(found.warnings)}"
    )
    return (
        '<section aria-labelledby="key-slices"><h2 id="key-slices">Whether attention finds the lesion</h2>'
        f'<div class="scroll"><table class="figures-table"><caption>{escape(words)}</caption>'
        '<thead><tr><th scope="col">First key slices</th><th scope="col" class="number">hit rate</th>'
        '<th scope="col" class="number">studies hit</th><th scope="col" class="number">by chance</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="meaning">hit@k: at least one of the k slices with most attention is an annotated one. By '
        "chance: k slices drawn at random.</p></section>"
    )


def _other_differences(comparison: Comparison, evaluation: Evaluation) -> str:
    elsewhere = ("auroc", "quadratic_kappa", "sensitivity", "specificity")  # more columns do not fit a page
    metrics = [m for m in comparison.differences[MACRO] if m not in elsewhere]
    rows = []
    for name in (*comparison.first.classes, MACRO):
        cells = [_value_cell(comparison.differences[name][m], signed=True) for m in metrics]
        rows.append(_row(name, evaluation, cells))
    heads = [f'<th scope="col" class="number">{escape(metric_title(m))}</th>' for m in metrics]
    words = "Differences of other metrics, first minus second; those of sensitivity and specificity are in "
    words += "comparison.csv."
    if "quadratic_kappa" in comparison.differences[MACRO]:
        value, interval = with_interval(comparison.differences[MACRO]["quadratic_kappa"])
        words += f" Quadratic kappa: {value} {interval}."
    return _table(evaluation, heads, rows, words)


def _table(evaluation: Evaluation, heads: Sequence[str], rows: Sequence[str], words: str) -> str:
    table = evaluation.table
    return (
        '<div class="scroll"><table class="figures-table">'
        f"<caption>{table.n_patients} patients, {table.n_studies} studies. {escape(words)}</caption>"
        '<thead><tr><th scope="col">Class</th><th scope="col" class="number">positive studies</th>'
        f'<th scope="col" class="number">prevalence</th>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(name: str, evaluation: Evaluation, cells: Sequence[str]) -> str:
    if name == MACRO:
        n = len(evaluation.table.classes) - len(evaluation.undefined)
        words = f"mean of {n} class{'es' if n != 1 else ''}"
        return f'<tr class="all"><th scope="row" colspan="3">{words}</th>{"".join(cells)}</tr>'
    counts: ClassCounts = evaluation.counts[name]
    return (
        f'<tr><th scope="row">{escape(name.replace("_", " "))}</th><td class="number">{counts.n_positive}'
        f"<small>{counts.n_positive_patients} patients</small></td>"
        f'<td class="number">{100 * counts.prevalence:.1f} %</td>{"".join(cells)}</tr>'
    )


def _value_cell(entry: Estimate, extra: str = "", *, signed: bool = False) -> str:
    value, interval = with_interval(entry)
    if entry.value is None:
        return f'<td class="number absent">– <small class="why">{interval}</small></td>'
    sign = "+" if signed and entry.value > 0 else ""
    style = ' class="why"' if entry.interval is None else ""
    return f'<td class="number">{sign}{value}<small{style}>{interval}</small>{extra}</td>'


def _plain_cell(value: float | None, absent: str = "–") -> str:
    return f'<td class="number">{absent if value is None else f"{value:.3f}"}</td>'


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"
