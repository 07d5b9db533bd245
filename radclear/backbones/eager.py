"""Whether kernels of one's own may take a tensor from torch."""

from __future__ import annotations

import torch
from torch import Tensor


def infers_on_cpu(x: Tensor) -> bool:
    """Whether x is a plain CPU tensor with values, and nobody wants gradients or a graph of what follows."""
    if x.device.type != "cpu" or x.numel() == 0 or torch.is_grad_enabled() or type(x) is not Tensor:
        return False
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing())
