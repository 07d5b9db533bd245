"""Floating-point operations of one embedding: matrix products and convolutions, nothing else."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from radclear.backbones.registry import build


def count_flops(module: nn.Module, image_size: int | None = None) -> int:
    """FLOPs of embedding one slice, two per multiply-add, counted on the products that are really computed.

    Attention's two products count; norms, activations and the selective scan do not. Nothing is computed: the
    count runs on shapes alone.

    Args:
        module: backbone with `image_size`.
        image_size: side of the slice; the backbone's own when omitted.
    """
    side = image_size or module.image_size
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = {key: torch.empty_like(tensor, device="meta") for key, tensor in tensors.items()}
    x = torch.empty(1, 3, side, side, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        torch.func.functional_call(module, shapes, (x,))
    return counter.get_total_flops()


def flops(name: str) -> int:
    """`count_flops` of a backbone by name, without making its weights."""
    with torch.device("meta"):
        return count_flops(build(name))
