"""`radclear predict`: CT studies in; three answers, a report and a table out."""

from __future__ import annotations

import argparse

from radclear.cli.run_options import add_run_options, check_input, resolve_device


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
        help="write UIDs and source paths into the results (default: only hashes, no identifiers)",
    )
    parser.add_argument("--series", metavar="UID", help="SeriesInstanceUID to read where a study has several")
    parser.add_argument("--no-resume", dest="resume", action="store_false", help="do finished studies again")
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    check_input(args.study)

    from pathlib import Path

    from rich.console import Console

    from radclear.backbones import keep_freed_memory
    from radclear.bundle import load_head, predict_folder
    from radclear.cli.answer_table import answer_table
    from radclear.cli.catalog import bundles_folder, head_paths
    from radclear.cli.progress import progress_bar

    keep_freed_memory()
    device = resolve_device(args.device)
    heads = [
        load_head(path, backbone_bundle=args.backbone_bundle, device=device)
        for path in head_paths(bundles_folder(args.bundles), args.task)
    ]
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
    console.print(answer_table(report))
    for study in report.failed:
        console.print(f"[red]failed[/red] {study.name}: {study.reason}", highlight=False)
    if report.demonstration:
        console.print(
            "Demonstration weights: these answers show how the software works; they are not for diagnosis."
        )
    for study in (*report.done, *report.skipped):
        console.print(
            f"report: {Path(args.output) / study.key / 'report.html'}", highlight=False, soft_wrap=True
        )
    console.print(f"table:  {Path(args.output) / 'summary.csv'}", highlight=False, soft_wrap=True)
    return report.exit_code
