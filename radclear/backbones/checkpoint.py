"""Published and self-trained checkpoints into a backbone, key for key."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from radclear.backbones.architecture import infer_config
from radclear.backbones.errors import BackboneCheckpointError
from radclear.backbones.registry import from_config
from radclear.backbones.vit import VisionTransformer, sincos_position_embedding

logger = logging.getLogger(__name__)

WRAPPERS = ("state_dict", "model", "model_ema")
OTHER_NETWORKS = ("momentum_encoder.", "predictor.")
HEADS = ("head.", "classifier.head.")
# VMamba's names before its 2024 rewrite; "norm" and "head" are renamed only in its checkpoints.
OLD_VMAMBA_NAMES = (
    (re.compile(r"^patch_embed\.proj\."), "patch_embed.0."),
    (re.compile(r"^patch_embed\.norm\."), "patch_embed.2."),
    (re.compile(r"^(layers\.\d+\.blocks\.\d+\.)ln_1\."), r"\1norm."),
    (re.compile(r"^(layers\.\d+\.blocks\.\d+\.)self_attention\."), r"\1op."),
    (re.compile(r"^norm\."), "classifier.norm."),
)
# MambaOut as timm names it; the norm before its classifier is the encoder's.
TIMM_MAMBAOUT_NAMES = (
    (re.compile(r"^stem\."), "downsample_layers.0."),
    (re.compile(r"^stages\.(\d+)\.downsample\."), r"downsample_layers.\1."),
    (re.compile(r"^stages\.(\d+)\.blocks\."), r"stages.\1."),
    (re.compile(r"^head\.norm\."), "norm."),
)


def load_backbone(state_dict: Mapping[str, Any]) -> nn.Module:
    """Build the backbone that a checkpoint describes and load it strictly.

    Unwraps `state_dict`, `model` or `model_ema`; strips `module.`; takes `base_encoder.` of a contrastive
    checkpoint and leaves its momentum encoder and predictor; leaves classification and projection heads;
    renames the keys of old VMamba and of timm's MambaOut; turns 1x1 convolutions into matrices where the
    backbone has a linear layer. Weights become float32 copies.

    Args:
        state_dict: what `torch.load(path, weights_only=True)` returned.

    Returns:
        Backbone in evaluation mode, as from `build`.

    Raises:
        BackboneCheckpointError: not a backbone, or keys or shapes differ; lists them.
    """
    tensors = trunk_tensors(state_dict)
    config = infer_config({key: tuple(tensor.shape) for key, tensor in tensors.items()})
    with torch.device("meta"):
        backbone = from_config(config)
    wanted = backbone.state_dict()
    tensors = {key: _as_matrix(tensor, wanted.get(key)) for key, tensor in tensors.items()}

    missing = [key for key in wanted if key not in tensors]
    unexpected = [key for key in tensors if key not in wanted]
    mismatched = [
        (key, tuple(tensors[key].shape), tuple(wanted[key].shape))
        for key in wanted
        if key in tensors and tensors[key].shape != wanted[key].shape
    ]
    if missing or unexpected or mismatched:
        raise BackboneCheckpointError(
            f"the checkpoint looks like {backbone.name} ({config}) but does not match it",
            missing=missing,
            unexpected=unexpected,
            mismatched=mismatched,
        )
    copies = {key: tensor.detach().to(wanted[key].dtype, copy=True) for key, tensor in tensors.items()}
    backbone.load_state_dict(copies, strict=True, assign=True)
    if isinstance(backbone, VisionTransformer):
        _note_learned_positions(backbone)
    return backbone.eval()


def trunk_tensors(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The encoder's tensors under the names of this package, without wrappers, prefixes and heads.

    Raises:
        BackboneCheckpointError: something else than tensors, or no encoder inside.
    """
    if not isinstance(checkpoint, Mapping):
        raise BackboneCheckpointError(
            f"expected a state dict (names to tensors), found {type(checkpoint).__name__}; "
            "save a checkpoint with torch.save(module.state_dict(), path)"
        )
    wrapped = [key for key in WRAPPERS if isinstance(checkpoint.get(key), Mapping)]
    if wrapped:
        if len(wrapped) > 1:
            logger.warning("checkpoint holds %s; taking %r", " and ".join(wrapped), wrapped[0])
        checkpoint = checkpoint[wrapped[0]]
    strange = [
        f"{key} ({type(value).__name__})"
        for key, value in checkpoint.items()
        if not isinstance(value, Tensor)
    ]
    if strange:
        raise BackboneCheckpointError("the checkpoint holds something else than tensors", unexpected=strange)

    tensors = {key.removeprefix("module."): value for key, value in checkpoint.items()}
    if any(key.startswith("base_encoder.") for key in tensors):
        tensors = {
            key.removeprefix("base_encoder."): value
            for key, value in tensors.items()
            if not key.startswith(OTHER_NETWORKS)
        }
    if any(re.match(r"stages\.\d+\.blocks\.\d+\.", key) for key in tensors):
        tensors = _renamed(tensors, TIMM_MAMBAOUT_NAMES)
    heads = [key for key in tensors if key.startswith(HEADS)]
    if heads:
        logger.info("leaving %d tensors of the head: %s", len(heads), ", ".join(heads))
    trunk = {key: value for key, value in tensors.items() if key not in set(heads)}
    if any(re.match(r"layers\.\d+\.blocks\.\d+\.", key) for key in trunk):
        trunk = _renamed(trunk, OLD_VMAMBA_NAMES)
    return trunk


def _renamed(tensors: dict[str, Tensor], names: tuple[tuple[re.Pattern[str], str], ...]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        new = key
        for pattern, replacement in names:
            new = pattern.sub(replacement, new)
        if new in renamed or (new != key and new in tensors):
            raise BackboneCheckpointError(f"{new} is there under its old and its new name", unexpected=[key])
        renamed[new] = value
    return renamed


def _as_matrix(tensor: Tensor, wanted: Tensor | None) -> Tensor:
    """(o, i, 1, 1) → (o, i) where the backbone has a matrix; everything else unchanged."""
    if wanted is not None and wanted.ndim == 2 and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
        return tensor.flatten(1)
    return tensor


def _note_learned_positions(backbone: VisionTransformer) -> None:
    """Warn where the positions are not the fixed ones: such a ViT may have another number of heads."""
    positions = backbone.pos_embed
    if positions.is_meta:
        return
    fixed = sincos_position_embedding(
        backbone.image_size // backbone.config.patch_size, backbone.embedding_dim
    ).to(positions.device)
    if not torch.allclose(positions, fixed, atol=1e-3):
        logger.warning(
            "position embedding differs from the fixed one of MoCo-v3: a checkpoint does not tell its number "
            "of attention heads, so make sure that it was trained with 12"
        )
