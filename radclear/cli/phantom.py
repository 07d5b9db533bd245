"""`radclear phantom`: synthetic torso CT studies with known lesions, disease and stage."""

from __future__ import annotations

import argparse

from radclear.cli.run_options import check_output, positive_int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", metavar="DIR", required=True, help="folder to write studies/, labels.csv and boxes.csv to"
    )
    parser.add_argument(
        "--studies", metavar="N", type=positive_int, default=1, help="how many studies (default: 1)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed writes the same studies (default: 0)"
    )
    parser.add_argument(
        "--slices", metavar="N", type=positive_int, default=64, help="axial slices of a study (default: 64)"
    )
    parser.add_argument(
        "--size",
        metavar="PIXELS",
        type=positive_int,
        default=256,
        help="rows and columns of a slice (default: 256)",
    )
    parser.add_argument(
        "--splits",
        nargs=3,
        type=float,
        metavar=("TRAIN", "VAL", "TEST"),
        default=(0.6, 0.2, 0.2),
        help="shares of the splits in labels.csv (default: 0.6 0.2 0.2)",
    )
    parser.add_argument(
        "--format", choices=("dicom", "nifti"), default="dicom", help="file format (default: dicom)"
    )
    parser.add_argument(
        "--crowded",
        action="store_true",
        help="some forty lesions in every patient, to train encoders on (default: as the disease model says)",
    )
    parser.add_argument(
        "--twins",
        action="store_true",
        help="studies in pairs that differ in their lesions alone, some twenty in each, to train encoders on",
    )
    parser.add_argument("--workers", metavar="N", type=positive_int, default=1, help="processes (default: 1)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    check_output(args.output)

    from pathlib import Path

    from radclear.cli.progress import progress_bar
    from radclear.errors import RadclearError
    from radclear.phantom import write_cohort

    try:
        with progress_bar("phantom studies", quiet=args.quiet) as update:
            write_cohort(
                args.output,
                n_studies=args.studies,
                seed=args.seed,
                n_slices=args.slices,
                size=args.size,
                splits=tuple(args.splits),
                format=args.format,
                crowded=args.crowded,
                twins=args.twins,
                workers=args.workers,
                progress=update,
            )
    except ValueError as error:  # an option out of range, or a folder made with other options
        raise RadclearError(str(error)) from error
    print(
        f"{args.studies} phantom studies in {Path(args.output) / 'studies'}, "
        f"labels in {Path(args.output) / 'labels.csv'}"
    )
    return 0
