"""`radclear pack`: a bundle with the library and its backbone inside, ready for `monai.bundle download`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="a bundle's folder, or its name in the bundles folder"
    )
    parser.add_argument(
        "--output", metavar="DIR", default="dist", help="where the zip is written (default: dist)"
    )
    parser.add_argument("--bundles", metavar="DIR", help="folder that holds the bundles")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from radclear.bundle import pack_bundle
    from radclear.cli.catalog import bundles_folder

    path = Path(args.bundle)
    if not (path / "configs" / "metadata.json").is_file():
        path = bundles_folder(args.bundles) / args.bundle
    print(pack_bundle(path, args.output))
    return 0
