"""`radclear doctor`: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

LABEL_PINS = {
    "pydicom": "2.4.4",
    "pynetdicom": "2.1.1",
    "dicomweb-client": "0.59.3",
    "numpy": "1.26.4",
    "highdicom": "0.22.0",
}

# (package, version, what for): those without a pin of their own in the `label` extra.
LABEL_BOUNDS = (
    ("pandas", "<3", "MONAI Label uses what pandas 3 took away"),
    ("torchvision", "", "of the release that goes with the installed torch"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundles", metavar="DIR", help="folder that holds the bundles")


def run(args: argparse.Namespace) -> int:
    """Prints one line per check; the exit code is 1 when something needed is missing or broken."""
    broken = False
    for status, message in checks(args.bundles):
        print(f"{status:<8} {message}")
        broken = broken or status == "missing"
    return 1 if broken else 0


def checks(bundles: str | None = None) -> Iterator[tuple[str, str]]:
    """Yields (status, message): `ok`, `note` (works without) or `missing` (something asked for will fail)."""
    yield from check_python()
    yield from check_torch()
    yield from check_decoders()
    yield from check_scan()
    yield from check_server()
    yield from check_bundles(bundles)


def check_python() -> Iterator[tuple[str, str]]:
    supported = (3, 10) <= sys.version_info[:2] <= (3, 12)
    yield (
        "ok" if supported else "missing",
        f"Python {platform.python_version()}" + ("" if supported else "; radclear needs 3.10 to 3.12"),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    yield "ok" if memory >= 4 else "note", f"{os.cpu_count()} processors, {memory:.0f} GiB of memory"


def check_torch() -> Iterator[tuple[str, str]]:
    try:
        import torch

        from radclear.backbones import resolve_precision
    except ImportError as error:
        yield "missing", f"torch does not import ({error}); install it with: pip install 'torch>=2.10'"
        return
    yield "ok", f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        yield "ok", f"GPU {torch.cuda.get_device_name()}, precision {resolve_precision('auto', 'cuda')}"
    else:
        yield "note", "no GPU seen by torch: everything runs on the CPU"
    yield "ok", f"CPU precision {resolve_precision('auto', 'cpu')}"


def check_decoders() -> Iterator[tuple[str, str]]:
    try:
        import imagecodecs
    except ImportError:
        yield (
            "missing",
            "imagecodecs: compressed DICOM cannot be read; install it with: pip install imagecodecs",
        )
        return
    for codec, meaning in (
        ("JPEG8", "JPEG Lossless"),
        ("JPEG2K", "JPEG 2000"),
        ("JPEGLS", "JPEG-LS"),
        ("DICOMRLE", "RLE"),
    ):
        available = getattr(getattr(imagecodecs, codec, None), "available", False)
        yield (
            ("ok" if available else "missing"),
            f"{meaning} decoder" + ("" if available else " is not part of this imagecodecs build"),
        )


def check_scan() -> Iterator[tuple[str, str]]:
    try:
        from radclear.backbones.scan import available_scans
    except ImportError as error:
        yield "missing", f"selective scan does not import ({error})"
        return
    for tier, state in available_scans().items():
        yield ("ok" if state == "available" else "note"), f"selective scan, {tier}: {state}"


def check_server() -> Iterator[tuple[str, str]]:
    try:
        version = importlib.metadata.version("monailabel")
    except importlib.metadata.PackageNotFoundError:
        yield "note", "monailabel is not installed (only the server needs it): pip install 'radclear[label]'"
        return
    yield "ok", f"monailabel {version}"
    for package, pin in LABEL_PINS.items():
        try:
            installed = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed = "not installed"
        if installed != pin:
            yield (
                "missing",
                f"the server needs {package} {pin}, found {installed}: pip install '{package}=={pin}'",
            )
    for package, bound, reason in LABEL_BOUNDS:
        try:
            installed = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield "missing", f"the server needs {package} ({reason}): pip install '{package}{bound}'"
            continue
        if bound.startswith("<") and int(installed.split(".")[0]) >= int(bound[1:]):
            yield (
                "missing",
                f"the server needs {package}{bound} ({reason}), found {installed}: pip install "
                f"'{package}{bound}'",
            )
    app = Path(__file__).resolve().parents[2] / "monailabel_app"
    if not (app / "main.py").is_file():
        yield (
            "missing",
            f"the server's app is not in {app.parent}: it is in a checkout's folder monailabel_app",
        )
        return
    if not os.access(app, os.W_OK):
        yield (
            "missing",
            f"{app} cannot be written, and the server keeps its log there: copy it, or change rights",
        )
    yield (
        "ok",
        f"to serve: {sys.executable} -m monailabel.main start_server --app {app} --studies FOLDER "
        "--host 127.0.0.1",
    )


def check_bundles(folder: str | None) -> Iterator[tuple[str, str]]:
    from radclear.cli.catalog import BundleNotFoundError, bundles_folder, list_bundles

    try:
        bundles = list_bundles(bundles_folder(folder))
    except BundleNotFoundError as error:
        yield "missing", str(error)
        return
    for bundle in bundles:
        if bundle.has_weights:
            yield (
                "ok",
                f"bundle {bundle.name} {bundle.version}"
                + (", demonstration weights" if bundle.demonstration else ""),
            )
        else:
            yield (
                "missing",
                f"bundle {bundle.name}: no models/model.pt in {bundle.path}; download the bundle again",
            )
