"""`radclear crossval`: labels and embeddings in; out-of-fold predictions and an ensemble to deploy out."""

from __future__ import annotations

import argparse
import sys

from radclear.cli.run_options import check_output, positive_int

TASKS = {"location": "tumor_location", "disease": "lung_disease", "staging": "staging"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--embeddings", metavar="DIR", required=True, help="folder that radclear embed wrote")
    parser.add_argument(
        "--labels",
        metavar="TABLE",
        required=True,
        help="CSV or Parquet: study, patient, label columns; split, if any, says what is held out",
    )
    parser.add_argument("--task", required=True, choices=(*TASKS, *list(TASKS.values())[:2]))
    parser.add_argument(
        "--output", metavar="DIR", required=True, help="folder of the folds; the same command goes on there"
    )
    parser.add_argument(
        "--output-bundle",
        "--output_bundle",
        metavar="DIR",
        help="make a head bundle of all folds here, for radclear predict",
    )
    parser.add_argument("--folds", metavar="N", type=positive_int, default=5, help="3 or more (default: 5)")
    parser.add_argument(
        "--seed", metavar="S", type=_seed, default=0, help="of folds and training (default: 0)"
    )
    parser.add_argument(
        "--group", metavar="COLUMN", default="patient", help="studies alike in it share a fold (patient)"
    )
    parser.add_argument(
        "--held-out",
        metavar="SPLIT",
        action="append",
        help="studies of this split take no part; may be repeated; 'none' for no split (default: test)",
    )
    parser.add_argument(
        "--seen-patients",
        choices=("refuse", "report"),
        default="refuse",
        help="what to do with patients that the encoder was trained on (default: refuse)",
    )
    parser.add_argument("--aggregator", choices=("attention", "gated", "mean_pool", "multi_branch"))
    parser.add_argument(
        "--kind", choices=("multilabel", "multiclass", "ordinal"), help="staging may be ordinal"
    )
    parser.add_argument("--max-epochs", metavar="N", type=positive_int)
    parser.add_argument("--learning-rate", metavar="X", type=_positive)
    parser.add_argument(
        "--average-decay", metavar="X", type=_share, help="keep a running mean of the weights (0: do not)"
    )
    parser.add_argument("--patience", metavar="N", type=positive_int, help="validations without a lower loss")
    parser.add_argument("--bags-per-batch", metavar="N", type=positive_int)
    parser.add_argument("--max-instances", metavar="N", type=positive_int)
    parser.add_argument(
        "--balance",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="weigh rare classes more in the loss",
    )
    parser.add_argument(
        "--calibration",
        choices=("temperature", "isotonic"),
        help="what is fitted on the out-of-fold predictions (default: as train.json says, temperature)",
    )
    parser.add_argument(
        "--demonstration",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="say of the ensemble that it only shows how the software works",
    )
    parser.add_argument("--bundles", metavar="DIR", help="folder that holds the bundles")
    parser.add_argument("--backbone-bundle", metavar="DIR", help="the backbone that made the embeddings")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default: auto)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    check_output(args.output)

    from radclear.bundle.crossval import run_crossval
    from radclear.bundle.crossval_settings import TrainingChoices
    from radclear.bundle.deployment import check_target, store_ensemble
    from radclear.cli.catalog import bundles_folder, head_paths
    from radclear.cli.progress import progress_bar
    from radclear.cli.run_options import resolve_device

    (bundle,) = head_paths(bundles_folder(args.bundles), [TASKS.get(args.task, args.task)])
    if args.output_bundle:
        check_target(None, args.output_bundle)
    choices = TrainingChoices(
        n_folds=args.folds,
        seed=args.seed,
        aggregator=args.aggregator,
        kind=args.kind,
        max_epochs=args.max_epochs,
        learning_rate=args.learning_rate,
        average_decay=args.average_decay,
        patience=args.patience,
        bags_per_batch=args.bags_per_batch,
        max_instances=args.max_instances,
        balance=args.balance,
        calibration=args.calibration,
    )
    with progress_bar("folds", quiet=args.quiet) as update:
        done = run_crossval(
            bundle,
            args.output,
            embeddings=args.embeddings,
            labels=args.labels,
            choices=choices,
            backbone_bundle=args.backbone_bundle,
            held_out=[] if args.held_out == ["none"] else args.held_out,
            group=args.group,
            device=resolve_device(args.device),
            seen_patients=args.seen_patients,
            progress=update,
            before_training=(
                (lambda run: check_target(run.settings_sha256, args.output_bundle, method=run.method))
                if args.output_bundle
                else None
            ),
        )
    table = done.table
    patients = len({study.patient for study in table.studies})
    print(f"{len(table.studies)} studies of {patients} patients; {len(table.excluded)} excluded")
    for reason, count in _reasons(table.excluded):
        print(f"  {count} {reason}")
    for note in done.notes:
        print(f"note: {note}")
    print(f"folds: {len(done.trained)} trained, {len(done.skipped)} there already, {len(done.failed)} failed")
    for fold, reason in done.failed:
        print(f"failed fold {fold}: {reason}", file=sys.stderr)
    if not done.complete:
        return 1
    print(f"predictions: {done.predictions}")
    if args.output_bundle:
        report = store_ensemble(done, args.output_bundle, demonstration=args.demonstration)
        print(f"ensemble: {args.output_bundle}, equal to its folds to {report['largest_difference']:.1g}")
    return 0


def _reasons(excluded: tuple[tuple[str, str], ...]) -> list[tuple[str, int]]:
    from collections import Counter

    return Counter(reason for _, reason in excluded).most_common()


def _seed(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to below 1")
    return number
