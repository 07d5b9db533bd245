"""Linear layers whose weights are cast once an embedding and whose bias costs no pass of its own.

In inference mode autocast casts every weight at every call, which at batches of 8 slices takes a sixth of the
time. And torch's bfloat16 product with a bias first copies the bias to every row of the result.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radclear.backbones.eager import infers_on_cpu

_local = threading.local()  # .casts: parameter's id → (parameter, its cast), while casts are kept


@contextmanager
def keep_casts() -> Iterator[None]:
    """Inside, in this thread, every parameter is cast once. Weights must not change inside."""
    before = getattr(_local, "casts", None)
    _local.casts = {}
    try:
        yield
    finally:
        _local.casts = before


def cast(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """A parameter in another type, from the casts that are kept if there are any."""
    if parameter.dtype == dtype:
        return parameter
    casts = getattr(_local, "casts", None)
    if casts is None or not isinstance(parameter, nn.Parameter):
        return parameter.to(dtype)
    kept = casts.get(id(parameter))
    if kept is None or kept[1].dtype != dtype:
        kept = casts[id(parameter)] = (parameter, parameter.detach().to(dtype))
    return kept[1]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear`; in bfloat16 on a CPU without gradients, oneDNN adds the bias within the product.

    Args:
        x: (..., D).
        weight: (..., D) parameter; D' is the product of what comes before D.
        bias: (D',) parameter or None.

    Returns:
        (..., D').
    """
    if not torch.jit.is_scripting():
        if _in_bfloat16(x):
            weight = cast(weight, torch.bfloat16).flatten(0, -2)
            bias = bias if bias is None else cast(bias, torch.bfloat16)
            return torch.ops.mkldnn._linear_pointwise(x.bfloat16(), weight, bias, "none", [], "")
    return F.linear(x, weight.flatten(0, -2), bias)


class Linear(nn.Linear):
    """`nn.Linear` by way of :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def _in_bfloat16(x: Tensor) -> bool:
    """Whether a product of x is computed in bfloat16, on a CPU, with nobody but the caller watching."""
    if not infers_on_cpu(x) or not _has_onednn() or not torch.is_autocast_enabled("cpu"):
        return False
    return torch.get_autocast_dtype("cpu") == torch.bfloat16 and x.dtype in (torch.float32, torch.bfloat16)


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
