"""What every training puts on record by itself: how long it took, and which software made the weights."""

from __future__ import annotations

from typing import Any

import torch

import radclear


def training_record(seconds: float | None) -> dict[str, Any]:
    """Entries for the metadata of trained weights.

    Args:
        seconds: wall time of the training; None where it is not known, and then not on record.

    Returns:
        `made_with`, the versions of radclear and torch, and `seconds`, to a tenth.
    """
    versions = {"radclear": radclear.__version__, "torch": str(torch.__version__)}
    return ({} if seconds is None else {"seconds": round(float(seconds), 1)}) | {"made_with": versions}
