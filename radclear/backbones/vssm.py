"""VSSM (VMamba): four selective scans over the image in every block.

Shapes: B batch, H and W map sides, L = H·W, D block width, C = ssm_ratio·D inner width, N states, R = ⌈D/16⌉
rank of the step sizes, K = 4 scan orders. Maps are (B, H, W, ·) throughout.
Reference: Liu et al., arXiv 2401.10166. Parameter names are those of the published checkpoints; where those
differ in layout only (norms on channels-first maps, 1x1 convolutions) the computation is the same as here.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radclear.backbones import rows
from radclear.backbones.linear import Linear, linear
from radclear.backbones.mlp import Mlp
from radclear.backbones.scan import (
    selective_scan_2d,
    selective_scan_2d_factors,
    selective_scan_2d_torch,
    takes_factors,
)

ORDERS = 4
STEP_RANGE = (1e-3, 1e-1)
STEP_FLOOR = 1e-4


@dataclass(frozen=True)
class VSSMConfig:
    """What tells one VMamba configuration from another; the defaults are the ones CLEAR used.

    Attributes:
        dims, depths: channels and blocks of each stage.
        d_state: states N of each channel in the scan.
        ssm_ratio: inner width C over block width D.
        gated: whether a second branch multiplies the scan's output ("z" in the originals).
        conv_bias: whether the depthwise convolution has a bias.
        mlp_ratio: hidden width of the perceptron over D; 0 leaves the perceptron out.
        stem: "v1" one 4x4 convolution of stride 4, "v2" two 3x3 convolutions of stride 2.
        downsample: "v1" patch merging, "v2" 2x2 convolution, "v3" 3x3 convolution.
    """

    dims: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (2, 2, 9, 2)
    d_state: int = 16
    ssm_ratio: float = 2.0
    gated: bool = True
    conv_bias: bool = True
    mlp_ratio: float = 4.0
    stem: str = "v1"
    downsample: str = "v2"
    image_size: int = 224

    def __post_init__(self) -> None:
        if len(self.dims) != len(self.depths) or not self.dims:
            raise ValueError(
                f"dims and depths must have one entry a stage, got {self.dims} and {self.depths}"
            )
        if self.stem not in ("v1", "v2") or self.downsample not in ("v1", "v2", "v3"):
            raise ValueError(
                f"unknown stem {self.stem!r} (v1, v2) or downsample {self.downsample!r} (v1, v2, v3)"
            )


class ChannelsLast(nn.Module):
    """(B, C, H, W) → (B, H, W, C), a view."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class ChannelsFirst(nn.Module):
    """(B, H, W, C) → (B, C, H, W), a view."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class PatchMerging(nn.Module):
    """Four neighbours side by side (rows first), norm, linear; odd sides get a margin of zeros."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.reduction = Linear(4 * dim_in, dim_out, bias=False)
        self.norm = nn.LayerNorm(4 * dim_in)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % 2 or x.shape[2] % 2:
            x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


def make_stem(version: str, dim: int) -> nn.Sequential:
    """(B, 3, H, W) → (B, H/4, W/4, D); the positions in the sequence are those of the published keys."""
    if version == "v1":
        return nn.Sequential(nn.Conv2d(3, dim, 4, stride=4), ChannelsLast(), nn.LayerNorm(dim))
    half = dim // 2
    return nn.Sequential(
        nn.Conv2d(3, half, 3, stride=2, padding=1),
        ChannelsLast(),
        nn.LayerNorm(half),
        ChannelsFirst(),
        nn.GELU(),
        nn.Conv2d(half, dim, 3, stride=2, padding=1),
        ChannelsLast(),
        nn.LayerNorm(dim),
    )


def make_downsample(version: str, dim_in: int, dim_out: int) -> nn.Module:
    """(B, H, W, D) → (B, H/2, W/2, D')."""
    if version == "v1":
        return PatchMerging(dim_in, dim_out)
    kernel, padding = (2, 0) if version == "v2" else (3, 1)
    convolution = nn.Conv2d(dim_in, dim_out, kernel, stride=2, padding=padding)
    return nn.Sequential(ChannelsFirst(), convolution, ChannelsLast(), nn.LayerNorm(dim_out))


def step_sizes(low_rank: Tensor, weight: Tensor) -> Tensor:
    """Step sizes before bias and softplus, from their factors.

    Args:
        low_rank: (B, L, K, R).
        weight: (K, C, R).

    Returns:
        (K, B, L, C) in the type of a matrix product.
    """
    batch, length, orders, rank = low_rank.shape
    low_rank = low_rank.permute(2, 0, 1, 3).reshape(orders, batch * length, rank)
    return torch.bmm(low_rank, weight.transpose(1, 2)).view(orders, batch, length, -1)


def scan(
    x: Tensor, projection: Tensor, weight: Tensor, A: Tensor, D: Tensor, bias: Tensor, height: int, width: int
) -> Tensor:
    """The selective scan of this process: pure torch in TorchScript, a shape alone on the meta device.

    Args:
        x: (B, L, C).
        projection: (B, L, K, R + 2N), of each order the steps' factors, B, C.
        weight: (K, C, R) of the step sizes.
        A, D, bias, height, width: see `radclear.backbones.scan.selective_scan_2d`.

    Returns:
        (B, L, C) float32.
    """
    if not torch.jit.is_scripting():
        if takes_factors(x, projection, weight):
            return selective_scan_2d_factors(x, projection, weight, A, D, bias, height, width)
    rank = weight.shape[2]
    dts, bc = step_sizes(projection[..., :rank], weight), projection[..., rank:]
    if torch.jit.is_scripting():
        return selective_scan_2d_torch(x, dts, bc, A, D, bias, height, width)
    if x.is_meta:
        return torch.empty_like(x, dtype=torch.float32)
    return selective_scan_2d(x, dts, bc, A, D, bias, height, width)


class SS2D(nn.Module):
    """Depthwise convolution, four selective scans, norm and gate between two projections."""

    def __init__(self, dim: int, config: VSSMConfig) -> None:
        super().__init__()
        inner = round(config.ssm_ratio * dim)
        self.inner, self.rank, self.orders, self.gated = inner, math.ceil(dim / 16), ORDERS, config.gated
        rows = self.rank + 2 * config.d_state
        self.in_proj = Linear(dim, 2 * inner if config.gated else inner, bias=False)
        # Holds the weights under their published names; `rows.convolve_and_silu` computes.
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=config.conv_bias)
        self.x_proj_weight = nn.Parameter(torch.empty(ORDERS, rows, inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(ORDERS, inner, self.rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(ORDERS, inner))
        self.A_logs = nn.Parameter(torch.empty(ORDERS * inner, config.d_state))
        self.Ds = nn.Parameter(torch.ones(ORDERS * inner))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = Linear(inner, dim, bias=False)
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        # As Mamba does: step sizes log-uniform in STEP_RANGE through the softplus, A = -1 ... -N.
        nn.init.uniform_(self.x_proj_weight, -(self.inner**-0.5), self.inner**-0.5)
        nn.init.uniform_(self.dt_projs_weight, -(self.rank**-0.5), self.rank**-0.5)
        low, high = math.log(STEP_RANGE[0]), math.log(STEP_RANGE[1])
        step = (torch.rand(self.dt_projs_bias.shape) * (high - low) + low).exp().clamp(min=STEP_FLOOR)
        self.dt_projs_bias.copy_(step + torch.log(-torch.expm1(-step)))
        self.A_logs.copy_(torch.arange(1, self.A_logs.shape[1] + 1).log().expand_as(self.A_logs))

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        length, inner = height * width, self.inner
        projected = self.in_proj(x)
        x = rows.convolve_and_silu(projected[..., :inner], self.conv2d.weight, self.conv2d.bias)
        x = x.reshape(batch, length, inner)

        # The projection is pointwise: one product serves all four orders, before any of them is walked.
        projection = linear(x, self.x_proj_weight, None).view(batch, length, self.orders, -1)
        A = -torch.exp(self.A_logs.float()).view(self.orders, inner, -1)
        D = self.Ds.float().view(self.orders, inner)
        bias = self.dt_projs_bias.float()
        y = scan(x, projection, self.dt_projs_weight, A, D, bias, height, width)

        y = y.view(batch, height, width, inner)
        if self.gated:
            norm = self.out_norm
            return self.out_proj(
                rows.norm_and_gate(y, norm.weight, norm.bias, norm.eps, projected[..., inner:])
            )
        return self.out_proj(self.out_norm(y).to(x.dtype))


class VSSBlock(nn.Module):
    """x + op(norm(x)), then x + mlp(norm2(x)) where there is a perceptron."""

    def __init__(self, dim: int, config: VSSMConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.op = SS2D(dim, config)
        self.has_mlp = config.mlp_ratio > 0
        if self.has_mlp:
            self.norm2 = nn.LayerNorm(dim)
            self.mlp = Mlp(dim, round(dim * config.mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.op(self.norm(x))
        if self.has_mlp:
            x = x + self.mlp(self.norm2(x))
        return x


class VSSM(nn.Module):
    """VMamba trunk; the embedding is the mean of the normed last map (normed first, then pooled).

    Args:
        config: widths, depths and variants.
        name: what provenance calls this encoder.
    """

    def __init__(self, config: VSSMConfig, *, name: str = "vssm") -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.embedding_dim = config.dims[-1]
        self.image_size = config.image_size
        self.patch_embed = make_stem(config.stem, config.dims[0])
        self.layers = nn.ModuleList()
        for stage, (dim, depth) in enumerate(zip(config.dims, config.depths, strict=True)):
            parts = OrderedDict(blocks=nn.Sequential(*(VSSBlock(dim, config) for _ in range(depth))))
            if stage + 1 < len(config.dims):
                parts["downsample"] = make_downsample(config.downsample, dim, config.dims[stage + 1])
            self.layers.append(nn.Sequential(parts))
        self.classifier = nn.Sequential(OrderedDict(norm=nn.LayerNorm(config.dims[-1])))
        self.apply(_initialize_linear)

    @torch.jit.export
    def tokens(self, x: Tensor) -> Tensor:
        """Normed last map: (B, 3, S, S) → (B, N, D); `embed` is `tokens.mean(1)`."""
        x = self.patch_embed(x.contiguous(memory_format=torch.channels_last))
        for layer in self.layers:
            x = layer(x)
        return self.classifier(x).flatten(1, 2)

    @torch.jit.export
    def embed(self, x: Tensor) -> Tensor:
        """Mean of the normed tokens: (B, 3, S, S) → (B, D)."""
        return self.tokens(x).mean(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x)


def _initialize_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
