"""Options that every command which runs a network shares."""

from __future__ import annotations

import argparse
import sys


def positive_int(text: str) -> int:
    """A whole number from 1, as `type` of an argparse option."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return number


def add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundles", metavar="DIR", help="folder that holds the bundles")
    parser.add_argument(
        "--backbone-bundle", metavar="DIR", help="use this backbone bundle instead of the heads' own"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default: auto)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="arithmetic of the encoder (default: bfloat16 where the machine has it, else float32)",
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=positive_int, default=8, help="slices per forward pass (default: 8)"
    )
    parser.add_argument(
        "--policy",
        choices=("warn", "strict"),
        default="warn",
        help="gaps, tilt and other geometry findings: report them or refuse the study (default: warn)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def check_input(path: str) -> None:
    """Say at once that an input is not there, before anything heavy is loaded.

    Raises:
        RadclearError: no such file or folder.
    """
    from pathlib import Path

    from radclear.errors import RadclearError

    if not Path(path).exists():
        raise RadclearError(f"{path} does not exist; expected a DICOM folder, zip, NIfTI, NRRD or MHA file")


def check_output(path: str) -> None:
    """Try the output folder, so that what cannot be written is said before anything heavy is loaded.

    Leaves nothing behind: a run that ends with a usage error made no folder.

    Raises:
        RadclearError: it cannot be made, or nothing can be written into it.
    """
    import contextlib
    import tempfile
    from pathlib import Path

    from radclear.errors import RadclearError

    folder = Path(path)
    missing = [place for place in (folder, *folder.parents) if not place.exists()]  # innermost first
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RadclearError(
            f"--output {path} cannot be written to ({error.strerror}); name a folder where you may write"
        ) from error
    finally:
        for place in missing:
            with contextlib.suppress(OSError):  # not made, or another process has put something into it
                place.rmdir()


def names_shown(args: argparse.Namespace) -> bool:
    """Whether names of studies, which often name patients, may be printed.

    Only to the person at the keyboard, or where identifiers were asked for: what goes into a file or a pipe
    is kept and passed on.
    """
    return sys.stdout.isatty() or bool(getattr(args, "identifiers", False))


def resolve_device(device: str) -> str:
    """`auto` becomes `cuda` where torch sees a GPU; anything else is checked.

    Raises:
        RadclearError: a GPU was asked for that torch does not see.
    """
    import torch

    from radclear.errors import RadclearError

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        parsed = torch.device(device)
    except RuntimeError as error:
        raise RadclearError(
            f"--device {device} is not a device; expected auto, cpu, cuda or cuda:N"
        ) from error
    if parsed.type == "cuda" and not torch.cuda.is_available():
        raise RadclearError(
            f"--device {device} asked for, but torch {torch.__version__} sees no GPU; use --device cpu"
        )
    return device
