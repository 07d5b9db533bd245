"""Options that every command which runs a network shares."""

from __future__ import annotations

import argparse


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
        "--batch-size", metavar="N", type=int, default=8, help="slices per forward pass (default: 8)"
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
