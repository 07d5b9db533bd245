"""Which architecture a table of parameter names and shapes describes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from radclear.backbones.errors import BackboneCheckpointError
from radclear.backbones.gated_cnn import GatedCNNConfig
from radclear.backbones.registry import Config
from radclear.backbones.vit import STEM_STRIDE, ViTConfig
from radclear.backbones.vssm import VSSMConfig

Shapes = Mapping[str, tuple[int, ...]]

# A family is recognised by any one of its characteristic keys, so that a missing key is reported as missing.
FAMILY_MARKS = {
    "vit": re.compile(r"blocks\.\d+\.attn\.(qkv|proj)\."),
    "vssm": re.compile(r"layers\.\d+\.blocks\.\d+\.op\."),
    "mambaout": re.compile(r"downsample_layers\.\d+\.conv|stages\.\d+\.\d+\.fc[12]\."),
}


def infer_config(shapes: Shapes) -> Config:
    """The configuration whose parameters have these names and shapes, as far as they tell.

    Args:
        shapes: parameter name → shape, published names without prefixes.

    Raises:
        BackboneCheckpointError: no family has such keys, or a key that decides the configuration is missing.
    """
    families = [family for family, mark in FAMILY_MARKS.items() if any(mark.match(key) for key in shapes)]
    if len(families) != 1:
        sample = ", ".join(list(shapes)[:5]) or "no keys at all"
        raise BackboneCheckpointError(
            f"the checkpoint's keys are those of {' and '.join(families) or 'no backbone known here'} (known:"
            f" MoCo-v3's ViT, VMamba, MambaOut); its first keys: {sample}. Pass an encoder's own state dict.",
            unexpected=list(shapes),
        )
    infer = {"vit": _infer_vit, "vssm": _infer_vssm, "mambaout": _infer_gated_cnn}[families[0]]
    try:
        return infer(shapes)
    except ValueError as error:
        if isinstance(error, BackboneCheckpointError):
            raise
        raise BackboneCheckpointError(f"the checkpoint's shapes fit no {families[0]}: {error}") from error


def _shape(shapes: Shapes, *candidates: tuple[str, int]) -> tuple[int, ...]:
    """Shape of the first candidate (pattern, dimensions) present with that many dimensions."""
    for pattern, dimensions in candidates:
        for key, shape in shapes.items():
            if re.fullmatch(pattern, key) and len(shape) == dimensions:
                return shape
    missing = dict.fromkeys(pattern.replace(r"\d+", "0").replace("\\", "") for pattern, _ in candidates)
    raise BackboneCheckpointError("the checkpoint lacks the keys that tell its size", missing=list(missing))


def _norm_width(shapes: Shapes, block: str) -> int:
    """Channels of the first norm of the blocks matched by `block`."""
    return _shape(shapes, (block + r"norm\.weight", 1), (block + r"norm\.bias", 1))[0]


def _count(shapes: Shapes, prefix: str) -> int:
    """One more than the highest index after `prefix`, 0 where there is none."""
    found = (re.match(prefix + r"(\d+)\.", key) for key in shapes)
    return max((int(match.group(1)) + 1 for match in found if match), default=0)


def _any(shapes: Shapes, pattern: str) -> bool:
    return any(re.match(pattern, key) for key in shapes)


def _infer_vit(shapes: Shapes) -> ViTConfig:
    dim = _shape(shapes, (r"norm\.weight", 1), (r"norm\.bias", 1))[-1]
    hidden = _shape(shapes, (r"blocks\.\d+\.mlp\.fc1\.bias", 1), (r"blocks\.\d+\.mlp\.fc1\.weight", 2))[0]
    conv_stem = _any(shapes, r"patch_embed\.proj\.\d+\.")
    patch = STEM_STRIDE if conv_stem else 16
    if not conv_stem and len(shapes.get("patch_embed.proj.weight", ())) == 4:
        patch = shapes["patch_embed.proj.weight"][-1]
    positions = shapes.get("pos_embed", ())
    grid = math.isqrt(positions[1] - 1) if len(positions) == 3 and positions[1] > 1 else 224 // patch
    return ViTConfig(
        embedding_dim=dim,
        depth=_count(shapes, r"blocks\."),
        conv_stem=conv_stem,
        mlp_ratio=hidden / dim,
        patch_size=patch,
        image_size=grid * patch,
    )


def _infer_gated_cnn(shapes: Shapes) -> GatedCNNConfig:
    stages = _count(shapes, r"stages\.")
    return GatedCNNConfig(
        dims=tuple(_norm_width(shapes, rf"stages\.{i}\.\d+\.") for i in range(stages)),
        depths=tuple(_count(shapes, rf"stages\.{i}\.") for i in range(stages)),
    )


def _infer_vssm(shapes: Shapes) -> VSSMConfig:
    stages = _count(shapes, r"layers\.")
    op = r"layers\.0\.blocks\.\d+\.op\."
    dims = tuple(_norm_width(shapes, rf"layers\.{i}\.blocks\.\d+\.") for i in range(stages))
    inner = _shape(shapes, (op + r"out_norm\.weight", 1), (op + r"out_norm\.bias", 1))[0]
    states = _shape(shapes, (op + r"A_logs", 2), (r"layers\.\d+\.blocks\.\d+\.op\.A_logs", 2))[1]
    rows = _shape(shapes, (op + r"in_proj\.weight", 2), (op + r"in_proj\.weight", 4))[0]
    hidden = 0
    if _any(shapes, r"layers\.\d+\.blocks\.\d+\.mlp\."):
        hidden = _shape(
            shapes,
            (r"layers\.0\.blocks\.\d+\.mlp\.fc1\.bias", 1),
            (r"layers\.0\.blocks\.\d+\.mlp\.fc1\.weight", 2),
            (r"layers\.0\.blocks\.\d+\.mlp\.fc1\.weight", 4),
        )[0]
    return VSSMConfig(
        dims=dims,
        depths=tuple(_count(shapes, rf"layers\.{i}\.blocks\.") for i in range(stages)),
        d_state=states,
        ssm_ratio=inner / dims[0],
        gated=rows != inner,
        conv_bias=_any(shapes, r"layers\.\d+\.blocks\.\d+\.op\.conv2d\.bias"),
        mlp_ratio=hidden / dims[0],
        stem="v2" if _any(shapes, r"patch_embed\.[57]\.") else "v1",
        downsample=_infer_downsample(shapes),
    )


def _infer_downsample(shapes: Shapes) -> str:
    if _any(shapes, r"layers\.\d+\.downsample\.(reduction|norm)\."):
        return "v1"
    kernels = [
        shape[-1] for key, shape in shapes.items() if key.endswith("downsample.1.weight") and len(shape) == 4
    ]
    return "v3" if kernels and kernels[0] == 3 else "v2"
