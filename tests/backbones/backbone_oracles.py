"""The three encoders written a second time, plainly and in float64, from their formulas and a state dict."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def weights_of(module: torch.nn.Module) -> Weights:
    return {key: value.detach().double() for key, value in module.state_dict().items()}


def part(weights: Weights, prefix: str) -> Weights:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def layer_norm(x: Tensor, weights: Weights, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred**2).mean(-1, keepdim=True)
    return centred / (variance + eps).sqrt() * weights["weight"] + weights["bias"]


def linear(x: Tensor, weights: Weights) -> Tensor:
    y = torch.einsum("...i,oi->...o", x, weights["weight"])
    return y + weights["bias"] if "bias" in weights else y


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def mlp(x: Tensor, weights: Weights) -> Tensor:
    return linear(gelu(linear(x, part(weights, "fc1."))), part(weights, "fc2."))


def convolve(x: Tensor, weights: Weights, **options: int) -> Tensor:
    """Channels-last in and out."""
    y = F.conv2d(x.permute(0, 3, 1, 2), weights["weight"], weights.get("bias"), **options)
    return y.permute(0, 2, 3, 1)


def vit_tokens(x: Tensor, weights: Weights, *, depth: int, heads: int = 12) -> Tensor:
    """All tokens after the final norm, class token first."""
    x = x.permute(0, 2, 3, 1)
    if "patch_embed.proj.weight" in weights:
        patch = weights["patch_embed.proj.weight"].shape[-1]
        x = convolve(x, part(weights, "patch_embed.proj."), stride=patch)
    else:
        for index in (0, 3, 6, 9):
            x = convolve(x, part(weights, f"patch_embed.proj.{index}."), stride=2, padding=1)
            norm = part(weights, f"patch_embed.proj.{index + 1}.")
            x = (x - norm["running_mean"]) / (norm["running_var"] + 1e-5).sqrt() * norm["weight"] + norm[
                "bias"
            ]
            x = x.clamp(min=0)
        x = convolve(x, part(weights, "patch_embed.proj.12."))
    x = (
        torch.cat([weights["cls_token"].expand(len(x), -1, -1), x.flatten(1, 2)], dim=1)
        + weights["pos_embed"]
    )
    dim = x.shape[-1]
    for index in range(depth):
        block = part(weights, f"blocks.{index}.")
        q, k, v = linear(layer_norm(x, part(block, "norm1."), 1e-6), part(block, "attn.qkv.")).chunk(
            3, dim=-1
        )
        mixed = []
        for head in range(heads):
            own = slice(head * dim // heads, (head + 1) * dim // heads)
            scores = torch.einsum("bic,bjc->bij", q[..., own], k[..., own]) / math.sqrt(dim // heads)
            weight = scores.exp() / scores.exp().sum(-1, keepdim=True)
            mixed.append(torch.einsum("bij,bjc->bic", weight, v[..., own]))
        x = x + linear(torch.cat(mixed, dim=-1), part(block, "attn.proj."))
        x = x + mlp(layer_norm(x, part(block, "norm2."), 1e-6), part(block, "mlp."))
    return layer_norm(x, part(weights, "norm."), 1e-6)


def mambaout_map(x: Tensor, weights: Weights, *, depths: tuple[int, ...]) -> Tensor:
    """Last map, (B, H, W, C), not normed."""
    x = x.permute(0, 2, 3, 1)
    for stage, depth in enumerate(depths):
        down = part(weights, f"downsample_layers.{stage}.")
        if stage == 0:
            x = layer_norm(convolve(x, part(down, "conv1."), stride=2, padding=1), part(down, "norm1."), 1e-6)
            x = layer_norm(
                convolve(gelu(x), part(down, "conv2."), stride=2, padding=1), part(down, "norm2."), 1e-6
            )
        else:
            x = layer_norm(convolve(x, part(down, "conv."), stride=2, padding=1), part(down, "norm."), 1e-6)
        dim = x.shape[-1]
        hidden = int(8 / 3 * dim)
        for index in range(depth):
            block = part(weights, f"stages.{stage}.{index}.")
            wide = linear(layer_norm(x, part(block, "norm."), 1e-6), part(block, "fc1."))
            g, i, c = wide[..., :hidden], wide[..., hidden : 2 * hidden - dim], wide[..., 2 * hidden - dim :]
            c = convolve(c, part(block, "conv."), padding=3, groups=dim)
            x = x + linear(gelu(g) * torch.cat([i, c], dim=-1), part(block, "fc2."))
    return x


def pixel_orders(height: int, width: int) -> list[list[tuple[int, int]]]:
    rows = [(i, j) for i in range(height) for j in range(width)]
    columns = [(i, j) for j in range(width) for i in range(height)]
    return [rows, columns, rows[::-1], columns[::-1]]


def ss2d(x: Tensor, weights: Weights) -> Tensor:
    """The SS2D operator, one pixel after the other."""
    batch, height, width, _ = x.shape
    inner, states = weights["out_norm.weight"].shape[0], weights["A_logs"].shape[1]
    rank = weights["dt_projs_weight"].shape[2]
    projected = linear(x, part(weights, "in_proj."))
    x, gate = projected[..., :inner], projected[..., inner:]
    x = silu(convolve(x, part(weights, "conv2d."), padding=1, groups=inner))
    A = -weights["A_logs"].exp().view(4, inner, states)
    D = weights["Ds"].view(4, inner)
    y = torch.zeros_like(x)
    for k, order in enumerate(pixel_orders(height, width)):
        state = x.new_zeros(batch, inner, states)
        for i, j in order:
            u = x[:, i, j]
            low, B, C = (u @ weights["x_proj_weight"][k].T).split([rank, states, states], dim=-1)
            raw = low @ weights["dt_projs_weight"][k].T + weights["dt_projs_bias"][k]
            dt = torch.log1p(raw.exp())
            state = (dt[..., None] * A[k]).exp() * state + (dt * u)[..., None] * B[:, None]
            y[:, i, j] += (state * C[:, None]).sum(-1) + D[k] * u
    y = layer_norm(y, part(weights, "out_norm."), 1e-5)
    return linear(y * silu(gate) if gate.shape[-1] else y, part(weights, "out_proj."))


def vssm_tokens(x: Tensor, weights: Weights, *, depths: tuple[int, ...]) -> Tensor:
    """Normed last map, (B, H, W, C)."""
    x = x.permute(0, 2, 3, 1)
    if "patch_embed.5.weight" in weights:
        x = layer_norm(
            convolve(x, part(weights, "patch_embed.0."), stride=2, padding=1),
            part(weights, "patch_embed.2."),
            1e-5,
        )
        x = convolve(gelu(x), part(weights, "patch_embed.5."), stride=2, padding=1)
        x = layer_norm(x, part(weights, "patch_embed.7."), 1e-5)
    else:
        x = layer_norm(
            convolve(x, part(weights, "patch_embed.0."), stride=4), part(weights, "patch_embed.2."), 1e-5
        )
    for stage, depth in enumerate(depths):
        for index in range(depth):
            block = part(weights, f"layers.{stage}.blocks.{index}.")
            x = x + ss2d(layer_norm(x, part(block, "norm."), 1e-5), part(block, "op."))
            if "norm2.weight" in block:
                x = x + mlp(layer_norm(x, part(block, "norm2."), 1e-5), part(block, "mlp."))
        down = part(weights, f"layers.{stage}.downsample.")
        if "reduction.weight" in down:
            corners = [x[:, i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
            x = linear(
                layer_norm(torch.cat(corners, dim=-1), part(down, "norm."), 1e-5), part(down, "reduction.")
            )
        elif down:
            padding = 1 if down["1.weight"].shape[-1] == 3 else 0
            x = layer_norm(convolve(x, part(down, "1."), stride=2, padding=padding), part(down, "3."), 1e-5)
    return layer_norm(x, part(weights, "classifier.norm."), 1e-5)
