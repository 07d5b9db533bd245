"""MambaOut: gated convolution blocks, a state-space block without the state space.

Shapes: B batch, H and W map sides, C channels; maps are (B, H, W, C) throughout, so that every norm and every
1x1 convolution works on the last, contiguous dimension and the convolutions see channels-last memory.
Reference: Yu and Wang, arXiv 2405.07992. Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radclear.backbones import rows
from radclear.backbones.channels_last import ChannelsLastConv2d
from radclear.backbones.linear import Linear

EXPANSION = 8 / 3
KERNEL = 7
NORM_EPS = 1e-6


@dataclass(frozen=True)
class GatedCNNConfig:
    """Channels and number of blocks of each stage."""

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    image_size: int = 224

    def __post_init__(self) -> None:
        if len(self.dims) != len(self.depths) or not self.dims:
            raise ValueError(
                f"dims and depths must have one entry a stage, got {self.dims} and {self.depths}"
            )


class Stem(nn.Module):
    """Two strided convolutions, (B, 3, H, W) → (B, H/4, W/4, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ChannelsLastConv2d(3, dim // 2, 3, stride=2, padding=1)
        self.norm1 = nn.LayerNorm(dim // 2, eps=NORM_EPS)
        self.conv2 = ChannelsLastConv2d(dim // 2, dim, 3, stride=2, padding=1)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        x = F.gelu(self.norm1(self.conv1(x)))
        return self.norm2(self.conv2(x))


class Downsample(nn.Module):
    """Strided convolution and norm between two stages."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.conv = ChannelsLastConv2d(dim_in, dim_out, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim_out, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class GatedConvBlock(nn.Module):
    """x + fc2(gelu(g) · [i, dwconv(c)]) with [g, i, c] = fc1(norm(x)) of widths (h, h - C, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.hidden = int(EXPANSION * dim)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.fc1 = Linear(dim, 2 * self.hidden)
        self.conv = ChannelsLastConv2d(dim, dim, KERNEL, padding=KERNEL // 2, groups=dim)
        self.fc2 = Linear(self.hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.fc1(self.norm(x))
        local = self.conv(mixed[..., -self.dim :])
        return x + self.fc2(rows.gate(mixed, local))


class GatedCNN(nn.Module):
    """MambaOut trunk; the embedding is the norm of the mean of the last map (pooled first, then normed).

    Args:
        config: widths and depths.
        name: what provenance calls this encoder.
    """

    def __init__(self, config: GatedCNNConfig, *, name: str = "mambaout") -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.embedding_dim = config.dims[-1]
        self.image_size = config.image_size
        self.downsample_layers = nn.ModuleList([Stem(config.dims[0])])
        for dim_in, dim_out in zip(config.dims, config.dims[1:], strict=False):
            self.downsample_layers.append(Downsample(dim_in, dim_out))
        self.stages = nn.ModuleList(
            nn.Sequential(*(GatedConvBlock(dim) for _ in range(depth)))
            for dim, depth in zip(config.dims, config.depths, strict=True)
        )
        self.norm = nn.LayerNorm(config.dims[-1], eps=NORM_EPS)
        self.apply(_initialize)

    @torch.jit.export
    def tokens(self, x: Tensor) -> Tensor:
        """Last map, not normed: (B, 3, S, S) → (B, N, C); `embed` is `norm(tokens.mean(1))`."""
        for downsample, stage in zip(self.downsample_layers, self.stages):  # noqa: B905 - TorchScript has no strict
            x = stage(downsample(x))
        return x.flatten(1, 2)

    @torch.jit.export
    def embed(self, x: Tensor) -> Tensor:
        """Norm of the mean token: (B, 3, S, S) → (B, C)."""
        return self.norm(self.tokens(x).mean(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
