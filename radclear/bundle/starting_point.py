"""What a training starts from, looked at before its first step: the file may be another one when it ends."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from radclear.bundle.location import BundleError
from radclear.bundle.seen_patients import record_of


@dataclass(frozen=True)
class StartedFrom:
    """Weights that a training starts from.

    Attributes:
        weights: a file, or a name such as `timm:NAME`.
        sha256: of the file; None of a name.
        patients: `radclear.bundle.seen_patients.record_of` them.
    """

    weights: str | Path
    sha256: str | None
    patients: Mapping[str, Any]


def started_from(weights: str | Path | None) -> StartedFrom | None:
    """What there is to know of weights to start from now; None where there are none."""
    if weights is None:
        return None
    path = Path(weights)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    return StartedFrom(weights, sha256, record_of(weights))


def start_from(network: nn.Module, weights: StartedFrom | None) -> nn.Module:
    """The network with weights to go on from, loaded strictly; as it is where `weights` is None.

    Raises:
        BundleError: no such file, or weights of another network.
    """
    if weights is not None:
        if weights.sha256 is None:
            raise BundleError(f"{weights.weights} does not exist; expected the model.pt to start from")
        try:
            network.load_state_dict(torch.load(weights.weights, map_location="cpu", weights_only=True))
        except RuntimeError as error:
            raise BundleError(f"{weights.weights} does not fit this network: {error}") from error
    return network
