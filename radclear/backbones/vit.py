"""Vision Transformer of MoCo-v3: fixed sin-cos positions, 12 heads at every width, optional conv stem.

Shapes: B batch, N patches (a class token comes before them), D embedding dimension, H heads, S image side.
References: Dosovitskiy et al., arXiv 2010.11929; Chen, Xie and He, arXiv 2104.02057; conv stem: Xiao et al.,
arXiv 2106.14881. Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radclear.backbones import rows
from radclear.backbones.linear import Linear, linear
from radclear.backbones.mlp import Mlp

HEADS = 12
STEM_STRIDE = 16
NORM_EPS = 1e-6


@dataclass(frozen=True)
class ViTConfig:
    """What tells one ViT from another; the number of heads is always 12."""

    embedding_dim: int
    depth: int
    conv_stem: bool = False
    mlp_ratio: float = 4.0
    patch_size: int = 16
    image_size: int = 224

    def __post_init__(self) -> None:
        if self.embedding_dim % HEADS or self.embedding_dim % 4:
            raise ValueError(f"embedding_dim must be a multiple of {HEADS} heads, got {self.embedding_dim}")
        if self.conv_stem and (self.patch_size != STEM_STRIDE or self.embedding_dim % 8):
            raise ValueError(f"the conv stem needs patch_size {STEM_STRIDE} and embedding_dim divisible by 8")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )


def sincos_position_embedding(grid: int, dim: int, *, temperature: float = 10000.0) -> Tensor:
    """Fixed 2-D position embedding, class token (zeros) first.

    The first half of the channels encodes the slow (row) axis, the second the fast (column) axis; each half
    is [sin, cos] with frequencies temperature^(-i / (dim / 4)).

    Args:
        grid: patches along each side.
        dim: channels, a multiple of 4.

    Returns:
        (1, 1 + grid², dim) float32.
    """
    frequency = temperature ** (-torch.arange(dim // 4, dtype=torch.float32) / (dim // 4))
    position = torch.arange(grid, dtype=torch.float32)
    rows = position.repeat_interleave(grid)[:, None] * frequency
    columns = position.repeat(grid)[:, None] * frequency
    patches = torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], dim=1)
    return torch.cat([patches.new_zeros(1, dim), patches])[None]


class PatchEmbed(nn.Module):
    """Image to patches, (B, 3, S, S) → (B, N, D): one strided convolution, or the five of the conv stem."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        dim = config.embedding_dim
        if config.conv_stem:
            widths = (3, dim // 8, dim // 4, dim // 2, dim)
            layers: list[nn.Module] = []
            for wide_in, wide_out in zip(widths, widths[1:], strict=False):
                layers.append(nn.Conv2d(wide_in, wide_out, 3, stride=2, padding=1, bias=False))
                layers += [nn.BatchNorm2d(wide_out), nn.ReLU(inplace=True)]
            self.proj = nn.Sequential(*layers, nn.Conv2d(dim, dim, 1))
        else:
            self.proj = nn.Conv2d(3, dim, config.patch_size, stride=config.patch_size)
            bound = math.sqrt(6.0 / (3 * config.patch_size**2 + dim))
            nn.init.uniform_(self.proj.weight, -bound, bound)
            nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √width) v of (B, H, ·, width).

    torch's fused kernel, except in 16 bit on the CPU: there it takes up to twice as long as plain products
    at a few hundred tokens, and the embeddings are hardly closer to those in float32.
    """
    if q.device.type == "cpu" and q.dtype != torch.float32 and q.dtype != torch.float64:
        weights = rows.softmax(torch.matmul(q, k.transpose(-2, -1)), q.shape[-1] ** -0.5)
        return torch.matmul(weights, v)
    return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Multi-head self-attention; with `first_only`, of the first token alone over all tokens."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.heads = HEADS
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor, first_only: bool = False) -> Tensor:
        batch, tokens, dim = x.shape
        width = dim // self.heads
        if first_only:
            weight, bias = self.qkv.weight, self.qkv.bias
            q = linear(x[:, :1], weight[:dim], bias[:dim]).view(batch, 1, self.heads, width).transpose(1, 2)
            kv = linear(x, weight[dim:], bias[dim:]).view(batch, tokens, 2, self.heads, width)
            k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
        else:
            qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, q.shape[2], dim))


class Block(nn.Module):
    """Pre-norm transformer block; with `first_only` it returns the first token alone."""

    def __init__(self, dim: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, round(dim * mlp_ratio))

    def forward(self, x: Tensor, first_only: bool = False) -> Tensor:
        mixed = self.attn(self.norm1(x), first_only)
        x = (x[:, :1] if first_only else x) + mixed
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """ViT trunk; the embedding is the class token after the final norm.

    Args:
        config: widths and depth.
        name: what provenance calls this encoder.
    """

    def __init__(self, config: ViTConfig, *, name: str = "vit") -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.embedding_dim = config.embedding_dim
        self.image_size = config.image_size
        dim = config.embedding_dim
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(
            sincos_position_embedding(config.image_size // config.patch_size, dim), requires_grad=False
        )
        self.blocks = nn.ModuleList(Block(dim, config.mlp_ratio) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self._initialize()

    def _initialize(self) -> None:
        nn.init.normal_(self.cls_token, std=1e-6)
        for key, module in self.blocks.named_modules():
            if isinstance(module, nn.Linear):
                # q, k and v are three matrices of their own for Xavier's bound, though stored as one.
                rows = module.out_features // 3 if key.endswith("qkv") else module.out_features
                bound = math.sqrt(6.0 / (rows + module.in_features))
                nn.init.uniform_(module.weight, -bound, bound)
                nn.init.zeros_(module.bias)

    def _encode(self, x: Tensor, first_only: bool) -> Tensor:
        if x.shape[2] != self.image_size or x.shape[3] != self.image_size:
            raise ValueError(f"expected images of side {self.image_size}, got {x.shape[2]} x {x.shape[3]}")
        patches = self.patch_embed(x)
        position = self.pos_embed.to(patches.dtype)
        first = (self.cls_token.to(patches.dtype) + position[:, :1]).expand(x.shape[0], -1, -1)
        x = torch.cat([first, patches + position[:, 1:]], dim=1)
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            x = block(x, first_only and index == last)
        return self.norm(x)

    @torch.jit.export
    def tokens(self, x: Tensor) -> Tensor:
        """Patch tokens after the final norm, without the class token: (B, 3, S, S) → (B, N, D)."""
        return self._encode(x, False)[:, 1:]

    @torch.jit.export
    def embed(self, x: Tensor) -> Tensor:
        """Class token after the final norm: (B, 3, S, S) → (B, D).

        Only this token leaves the last block, so only its query, projection and perceptron are computed.
        """
        return self._encode(x, True)[:, 0]

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x)
