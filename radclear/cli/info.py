"""`radclear info`: versions and bundles, in a blink and without importing torch."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform

from radclear import __version__
from radclear.cli.catalog import BundleNotFoundError, bundles_folder, list_bundles

PACKAGES = (
    "torch",
    "monai",
    "monailabel",
    "pydicom",
    "highdicom",
    "itk-io",
    "imagecodecs",
    "numpy",
    "h5py",
    "numba",
    "mamba-ssm",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--bundles", metavar="DIR", help="folder that holds the bundles")


def package_versions() -> dict[str, str | None]:
    """Installed versions of what radclear works with; None where not installed."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def run(args: argparse.Namespace) -> int:
    try:
        folder = bundles_folder(args.bundles)
        bundles = list_bundles(folder)
    except BundleNotFoundError:
        if args.bundles:
            raise
        folder, bundles = None, []
    if args.json:
        print(
            json.dumps(
                {
                    "radclear": __version__,
                    "python": platform.python_version(),
                    "packages": package_versions(),
                    "bundles_folder": str(folder) if folder else None,
                    "bundles": [
                        {
                            "name": b.name,
                            "version": b.version,
                            "path": str(b.path),
                            "has_weights": b.has_weights,
                            "demonstration": b.demonstration,
                        }
                        for b in bundles
                    ],
                },
                indent=2,
            )
        )
        return 0
    print(f"radclear {__version__}, Python {platform.python_version()}")
    for package, version in package_versions().items():
        print(f"  {package:<14} {version or 'not installed'}")
    print(f"bundles in {folder}" if folder else "bundles: none found (see --bundles)")
    for bundle in bundles:
        weights = (
            "no weights"
            if not bundle.has_weights
            else "demonstration weights"
            if bundle.demonstration
            else "weights"
        )
        print(f"  {bundle.name:<32} {bundle.version:<8} {weights}")
    return 0
