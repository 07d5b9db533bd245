"""The backbones by name: published configurations, CLEAR's, and one small size of each family."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from radclear.backbones.errors import BackboneNameError
from radclear.backbones.gated_cnn import GatedCNN, GatedCNNConfig
from radclear.backbones.vit import VisionTransformer, ViTConfig
from radclear.backbones.vssm import VSSM, VSSMConfig

Config = ViTConfig | VSSMConfig | GatedCNNConfig

MODULES: dict[type, type[nn.Module]] = {
    ViTConfig: VisionTransformer,
    VSSMConfig: VSSM,
    GatedCNNConfig: GatedCNN,
}


def _vanilla(base_dim: int, middle: int) -> VSSMConfig:
    return VSSMConfig(dims=_doubling(base_dim), depths=(2, 2, middle, 2), mlp_ratio=0.0, downsample="v1")


def _vmamba(base_dim: int, middle: int, ssm_ratio: float) -> VSSMConfig:
    return VSSMConfig(
        dims=_doubling(base_dim),
        depths=(2, 2, middle, 2),
        d_state=1,
        ssm_ratio=ssm_ratio,
        gated=False,
        conv_bias=False,
        stem="v2",
        downsample="v3",
    )


def _doubling(dim: int) -> tuple[int, ...]:
    return (dim, 2 * dim, 4 * dim, 8 * dim)


CONFIGS: dict[str, Config] = {
    "vit_small": ViTConfig(384, 12),
    "vit_base": ViTConfig(768, 12),
    "vit_conv_small": ViTConfig(384, 11, conv_stem=True),
    "vit_conv_base": ViTConfig(768, 11, conv_stem=True),
    "vssm_clear": VSSMConfig(),
    "vanilla_vmamba_tiny": _vanilla(96, 9),
    "vanilla_vmamba_small": _vanilla(96, 27),
    "vanilla_vmamba_base": _vanilla(128, 27),
    "vmamba_tiny_s2l5": _vmamba(96, 5, 2.0),
    "vmamba_small_s2l15": _vmamba(96, 15, 2.0),
    "vmamba_base_s2l15": _vmamba(128, 15, 2.0),
    "vmamba_tiny_s1l8": _vmamba(96, 8, 1.0),
    "vmamba_small_s1l20": _vmamba(96, 20, 1.0),
    "vmamba_base_s1l20": _vmamba(128, 20, 1.0),
    "mambaout_femto": GatedCNNConfig((48, 96, 192, 288), (3, 3, 9, 3)),
    "mambaout_kobe": GatedCNNConfig((48, 96, 192, 288), (3, 3, 15, 3)),
    "mambaout_tiny": GatedCNNConfig((96, 192, 384, 576), (3, 3, 9, 3)),
    "mambaout_small": GatedCNNConfig((96, 192, 384, 576), (3, 4, 27, 3)),
    "mambaout_base": GatedCNNConfig((128, 256, 512, 768), (3, 4, 27, 3)),
    "vit_nano": ViTConfig(192, 4, conv_stem=True),
    "vssm_nano": dataclasses.replace(_vmamba(32, 3, 1.0), depths=(1, 1, 3, 1), mlp_ratio=2.0),
    "mambaout_nano": GatedCNNConfig((24, 48, 120, 240), (1, 1, 3, 1)),
}


def names() -> tuple[str, ...]:
    """Every name that `build` knows."""
    return tuple(CONFIGS)


def build(name: str, **options: Any) -> nn.Module:
    """A backbone with fresh weights, drawn from torch's global generator.

    Args:
        name: one of `names()`.
        options: fields of the family's configuration to change, e.g. `image_size=256`.

    Returns:
        Module with attributes `name`, `embedding_dim`, `image_size` and methods `tokens` (B, N, d) and
        `embed` (B, d); calling it is `embed`.

    Raises:
        BackboneNameError: unknown name, unknown option, or an impossible value.
    """
    if name not in CONFIGS:
        raise BackboneNameError(f"no backbone called {name!r}; choose one of: {', '.join(CONFIGS)}")
    config = CONFIGS[name]
    known = [field.name for field in dataclasses.fields(config)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise BackboneNameError(
            f"{name} has no option {', '.join(unknown)}; its options are: {', '.join(known)}"
        )
    try:
        chosen = dataclasses.replace(config, **options)
    except ValueError as error:
        raise BackboneNameError(f"{name} cannot be built with {options}: {error}") from error
    return from_config(chosen, name=name if chosen == config else None)


def from_config(config: Config, *, name: str | None = None) -> nn.Module:
    """The module of a configuration, called `name`, else as registered, else as its family with "custom"."""
    module = MODULES[type(config)]
    registered = (known for known, candidate in CONFIGS.items() if candidate == config)
    family = {ViTConfig: "vit", VSSMConfig: "vssm", GatedCNNConfig: "mambaout"}[type(config)]
    return module(config, name=name or next(registered, f"{family}_custom"))
