"""`radclear predict`: CT studies in; three answers, a report and a table out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from radclear.cli.run_options import add_run_options, check_input, check_output, names_shown, resolve_device

if TYPE_CHECKING:
    from radclear.bundle import RunReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "study",
        metavar="STUDY",
        help="a DICOM folder, zip, NIfTI, NRRD or MHA file; or a folder of many such studies",
    )
    parser.add_argument(
        "--output", metavar="OUT", required=True, help="folder for results: one subfolder per study"
    )
    parser.add_argument(
        "--task",
        action="append",
        choices=("tumor_location", "lung_disease", "staging"),
        help="answer only this question; may be repeated (default: all three)",
    )
    parser.add_argument(
        "--identifiers",
        action="store_true",
        help="show names of studies, and write UIDs and source paths into the results (default: only hashes)",
    )
    parser.add_argument("--series", metavar="UID", help="SeriesInstanceUID to read where a study has several")
    parser.add_argument("--no-resume", dest="resume", action="store_false", help="do finished studies again")
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    check_input(args.study)
    check_output(args.output)

    from pathlib import Path

    from rich.console import Console
    from rich.markup import escape

    from radclear.backbones import keep_freed_memory
    from radclear.bundle import load_heads, predict_folder
    from radclear.cli.answer_table import answer_tables, input_warnings
    from radclear.cli.catalog import bundles_folder, head_paths
    from radclear.cli.progress import progress_bar

    keep_freed_memory()
    device = resolve_device(args.device)
    heads = load_heads(
        head_paths(bundles_folder(args.bundles), args.task),
        backbone_bundle=args.backbone_bundle,
        device=device,
    )
    with progress_bar("studies", quiet=args.quiet) as update:
        report = predict_folder(
            args.study,
            args.output,
            heads,
            device=device,
            precision=args.precision,
            batch_size=args.batch_size,
            policy=args.policy,
            series=args.series,
            resume=args.resume,
            identifiers=args.identifiers,
            progress=update,
        )
    console = Console()
    names = names_shown(args)
    for table in answer_tables(report, names=names):
        console.print(table)
    for key, message in input_warnings(report):
        console.print(
            f"[yellow]warning[/yellow] {escape(f'{key}: {message}')}", highlight=False, soft_wrap=True
        )
    for study in report.failed:
        name = f" ({study.name})" if names else ""
        reason = (_unknown_series(args, report) if names else None) or study.reason
        console.print(
            f"[red]failed[/red] {escape(f'{study.key}{name}: {reason}')}", highlight=False, soft_wrap=True
        )
    if report.demonstration and (report.done or report.skipped):
        print("Demonstration weights: these answers show how the software works; they are not for diagnosis.")
    for study in (*report.done, *report.skipped):
        print(f"report: {Path(args.output) / study.key / 'report.html'}")
    print(f"table:  {Path(args.output) / 'summary.csv'}")
    return report.exit_code


def _unknown_series(args: argparse.Namespace, report: RunReport) -> str | None:
    """With the UIDs to choose from, why a single study has no series `--series`; None where that is not why.

    The reason in the report withholds UIDs.
    """
    if args.series is None or report.done or report.skipped or len(report.failed) != 1:
        return None
    from radclear.ct import CTInputError, read_study

    try:
        read_study(args.study, series=args.series, policy=args.policy)
    except CTInputError as error:
        return str(error) if error.code == "series_not_found" else None
    return None
