"""`radclear evaluate`: anybody's prediction table in; figures with intervals, curves and a report out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from radclear.cli.run_options import check_output, positive_int

if TYPE_CHECKING:
    from rich.table import Table

    from radclear.evaluation import EvaluationRun

TASKS = {
    "tumor_location": ("multilabel", "LOCATION_CLASSES", "Tumor location"),
    "lung_disease": ("multilabel", "DISEASE_CLASSES", "Lung disease"),
    "staging": ("ordinal", "STAGE_CLASSES", "Stage"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "predictions",
        metavar="PREDICTIONS.csv",
        help="study, patient, probability_<class> columns, and label_<class> columns, or label or stage",
    )
    parser.add_argument(
        "--output", metavar="DIR", required=True, help="folder for figures, tables and report"
    )
    parser.add_argument(
        "--labels", metavar="CSV", help="table with the labels, where they are not in the first"
    )
    parser.add_argument(
        "--compare",
        metavar="OTHER.csv",
        help="a second prediction table on the same studies, tested in pairs",
    )
    parser.add_argument(
        "--boxes",
        metavar="CSV",
        help="annotated slices (study, slice, kind), for hit rates of the table's key_slices column",
    )
    parser.add_argument(
        "--box-kind",
        metavar="KIND",
        action="append",
        default=[],
        help="only boxes of this kind count; may be repeated",
    )
    parser.add_argument(
        "--task", choices=sorted(TASKS), help="the table must have this task's classes; staging is ordinal"
    )
    parser.add_argument(
        "--kind",
        choices=("multilabel", "multiclass", "ordinal"),
        help="what the classes are (default: by the label columns, see the documentation)",
    )
    parser.add_argument("--split", metavar="NAME", help="use only studies of this split")
    parser.add_argument(
        "--bootstrap", metavar="N", type=positive_int, default=2000, help="resamples (default: 2000)"
    )
    parser.add_argument("--seed", metavar="S", type=_seed, default=0, help="of the bootstrap (default: 0)")
    parser.add_argument(
        "--specificity",
        metavar="X",
        type=float,
        action="append",
        help="report sensitivity at this specificity; may be repeated (default: 0.9 and 0.95)",
    )
    parser.add_argument(
        "--bins",
        metavar="N",
        type=positive_int,
        default=10,
        help="bins of the calibration error (default: 10)",
    )
    parser.add_argument(
        "--threshold",
        metavar="CLASS=X",
        type=_threshold,
        action="append",
        default=[],
        help="multilabel: call a class from this probability; may be repeated (default: 0.5)",
    )
    parser.add_argument(
        "--operating-points",
        metavar="JSON",
        help="multilabel: call classes from the head's own thresholds, in the <task>_metrics.json that its "
        "evaluate.json wrote beside the predictions; --threshold counts more",
    )
    parser.add_argument("--title", help="heading of the report (default: the task, else the file's name)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    from radclear.errors import RadclearError

    if args.box_kind and not args.boxes:
        raise RadclearError("--box-kind chooses among the rows of --boxes CSV; give that too")
    kind, classes, title = args.kind, None, args.title
    if args.task:
        from radclear.phantom import labels

        task_kind, constant, task_title = TASKS[args.task]
        if kind not in (None, task_kind):
            raise RadclearError(f"--task {args.task} is {task_kind}, --kind says {kind}; leave out --kind")
        kind, classes, title = task_kind, getattr(labels, constant), title or task_title
    from radclear.evaluation import MetricSettings, evaluate_predictions, read_operating_points

    own = read_operating_points(args.operating_points) if args.operating_points else {}
    thresholds = {**own, **dict(args.threshold)}
    specificities = tuple(dict.fromkeys(sorted(args.specificity))) if args.specificity else (0.90, 0.95)
    settings = MetricSettings(
        specificities=specificities, n_bins=args.bins, thresholds=tuple(thresholds.items())
    )
    check_output(args.output)

    from rich.console import Console

    from radclear.cli.progress import progress_bar

    with progress_bar("evaluate", quiet=args.quiet) as update:
        done = evaluate_predictions(
            args.predictions,
            args.output,
            labels=args.labels,
            other=args.compare,
            boxes=args.boxes,
            box_kinds=args.box_kind,
            kind=kind,
            classes=classes,
            split=args.split,
            title=title,
            settings=settings,
            n_resamples=args.bootstrap,
            seed=args.seed,
            progress=update,
        )
    console = Console()
    console.print(summary_table(done))
    for warning in done.evaluation.warnings:
        console.print(f"note: {warning}", markup=False, highlight=False)
    for hit in done.key_slices.hits if done.key_slices else ():
        share = f"{100 * hit.n_studies / done.key_slices.n_studies:.0f} % of the studies"
        of = f"of kind {', '.join(done.key_slices.kinds)}" if done.key_slices.kinds else "of any kind"
        annotated = (
            f"{hit.n_studies} studies of {hit.n_patients} patients with annotated slices {of} ({share})"
        )
        print(f"hit@{hit.k}: {hit.n_hit} of {annotated}")
    print(f"report in {done.files[0]}")
    return 0


def summary_table(done: EvaluationRun) -> Table:
    """AUROC of every class and their mean, whole in 80 columns."""
    from rich.markup import escape
    from rich.table import Table

    evaluation, comparison = done.evaluation, done.comparison
    title = f"{evaluation.table.n_patients} patients, {evaluation.table.n_studies} studies"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("class")
    for column in ("positive", "AUROC", f"{100 * evaluation.level:g} % interval"):
        table.add_column(column, justify="right", no_wrap=True)
    if comparison:
        table.add_column("difference", justify="right", no_wrap=True)
        table.add_column("p Holm", justify="right", no_wrap=True)
    for name, metrics in evaluation.estimates.items():
        entry, counts = metrics["auroc"], evaluation.counts.get(name)
        interval = "{:.3f} – {:.3f}".format(*entry.interval) if entry.interval else "-"
        cells = [
            escape(name.replace("_", " ")) if counts else "mean",
            f"{counts.n_positive} ({100 * counts.prevalence:.0f} %)" if counts else "",
            "not defined" if entry.value is None else f"{entry.value:.3f}",
            interval,
        ]
        if comparison:
            difference, p = comparison.differences[name]["auroc"].value, comparison.p_holm.get(name)
            p_text = "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
            cells += ["-" if difference is None else f"{difference:+.3f}", p_text]
        table.add_row(*cells, style=None if counts else "bold")
    return table


def _seed(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _threshold(text: str) -> tuple[str, float]:
    name, separator, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not separator or not name or not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not CLASS=X with X from 0 to 1")
    return name, number
