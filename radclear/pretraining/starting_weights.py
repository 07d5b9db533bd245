"""Weights to start pre-training from: a file with a published checkpoint, or a model of timm by name."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from radclear.backbones import load_backbone
from radclear.backbones.vit import HEADS
from radclear.errors import MissingDependencyError
from radclear.pretraining.errors import PretrainingError

TIMM = "timm:"


def start_backbone(network: nn.Module, weights: str | Path | None) -> nn.Module:
    """The network with weights to start from, loaded strictly; as it is where `weights` is None.

    Args:
        network: backbone as `radclear.backbones.build` returned it.
        weights: file that `radclear.backbones.load_backbone` understands (a bundle's `model.pt`, or a MoCo-v3
            ViT, VMamba or MambaOut as published); or `timm:NAME`, which is downloaded.

    Returns:
        The same network.

    Raises:
        PretrainingError: no such file or model, or weights of another architecture.
        MissingDependencyError: a model of timm, and timm is not installed.
        BackboneCheckpointError: no encoder inside, or tensors that do not fit.
    """
    if weights is None:
        return network
    text = str(weights)
    state = _from_timm(text.removeprefix(TIMM)) if text.startswith(TIMM) else _from_file(Path(weights))
    loaded = load_backbone(state)
    if loaded.config != network.config:
        raise PretrainingError(
            f"{weights} holds a {loaded.name} ({loaded.config}), and network_def builds a {network.name} "
            f"({network.config}); set network_def to the same architecture"
        )
    network.load_state_dict(loaded.state_dict())
    return network


def weights_identity(weights: str | Path | None) -> str | None:
    """What a record calls the weights that training started from, which gives no folder away.

    Returns:
        None where training started from none, `timm:NAME` as it is, else `sha256:` and that of the file.

    Raises:
        PretrainingError: no such file.
    """
    if weights is None or str(weights).startswith(TIMM):
        return weights
    path = Path(weights)
    if not path.is_file():
        raise PretrainingError(
            f"initial_weights {path} does not exist; expected a checkpoint file, or timm:NAME"
        )
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def _from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise PretrainingError(
            f"initial_weights {path} does not exist; expected a checkpoint file, or timm:NAME"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise PretrainingError(f"initial_weights {path} is not a file of tensors: {error}") from error


def _from_timm(name: str) -> dict[str, Any]:
    try:
        import timm
    except ImportError as error:
        raise MissingDependencyError("timm", purpose=f"download the weights {name}") from error
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # the download's errors are of many kinds
        raise PretrainingError(
            f"timm could not provide {name} ({type(error).__name__}: {error}). Without network, download the "
            "checkpoint elsewhere and give its path as initial_weights"
        ) from error
    heads = {block.attn.num_heads for block in getattr(model, "blocks", ()) if hasattr(block, "attn")}
    if heads - {HEADS}:  # the tensors do not tell
        raise PretrainingError(
            f"{name} has {', '.join(map(str, sorted(heads)))} attention heads, and every ViT here has "
            f"{HEADS}: with the same tensors it would be another network; take a model of {HEADS} heads, as "
            "timm:vit_base_patch16_224"
        )
    return model.state_dict()
