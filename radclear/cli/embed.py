"""`radclear embed`: the slice embeddings of CT studies, one HDF5 file per study."""

from __future__ import annotations

import argparse
import sys

from radclear.cli.run_options import add_run_options, check_input, check_output, resolve_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("studies", metavar="STUDIES", help="one study, or a folder of many studies")
    parser.add_argument("--output", metavar="DIR", required=True, help="folder of the embedding files")
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    check_input(args.studies)
    check_output(args.output)

    from radclear.backbones import keep_freed_memory
    from radclear.bundle import load_backbone_bundle
    from radclear.cli.catalog import bundles_folder
    from radclear.cli.progress import progress_bar
    from radclear.cohort import EmbeddingStore, embed_studies
    from radclear.ct import find_studies
    from radclear.errors import RadclearError

    sources = find_studies(args.studies)
    if not sources:
        raise RadclearError(
            f"no study found in {args.studies}; expected DICOM files, or a zip, NIfTI, NRRD or MHA file"
        )
    keep_freed_memory()
    device = resolve_device(args.device)
    path = args.backbone_bundle or bundles_folder(args.bundles) / "lecl_gated_cnn"
    bundle = load_backbone_bundle(path, device=device)
    with progress_bar("studies", quiet=args.quiet) as update:
        report = embed_studies(
            sources,
            bundle.backbone,
            EmbeddingStore(args.output),
            windows=bundle.windows,
            weight_sha256=bundle.weights_sha256,
            encoder=bundle.backbone.name,
            device=device,
            precision=args.precision,
            batch_size=args.batch_size,
            policy=args.policy,
            progress=update,
        )
    print(
        f"{len(report.done)} embedded, {len(report.skipped)} there already, {len(report.failed)} failed: "
        f"{args.output}"
    )
    for key, reason in report.failed:
        print(f"failed {key}: {reason}", file=sys.stderr)
    return 1 if report.failed else 0
