"""Selective scan of an image in four orders: the core of the VSSM backbones.

Legend: B batch, H height, W width, L = H * W pixels, C channels, N states, 4 orders (rows, columns, both
reversed).

For each order, over its pixels t = 1 ... L and for each channel (Gu and Dao 2023; the four orders: Liu et
al. 2024)::

    d_t = softplus(dts_t + bias)
    h_t = exp(d_t A) h_{t-1} + d_t B_t x_t        N states
    y_t = C_t h_t + D x_t                         summed over the orders at each pixel

One interface, several tiers with the same numbers: a compiled C++ kernel, numba and plain torch ("slab") on
the CPU; Triton, mamba-ssm's kernel and slab on CUDA. See :mod:`radclear.backbones.scan.dispatch`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from radclear.backbones.eager import infers_on_cpu
from radclear.backbones.scan import dispatch, slab
from radclear.backbones.scan.dispatch import available_scans
from radclear.backbones.scan.errors import ScanUnavailableError
from radclear.backbones.scan.operator import scan_forward

__all__ = [
    "ScanUnavailableError",
    "available_scans",
    "selective_scan_2d",
    "selective_scan_2d_factors",
    "selective_scan_2d_torch",
    "takes_factors",
]


def selective_scan_2d(
    x: Tensor,
    dts: Tensor,
    bc: Tensor,
    A: Tensor,
    D: Tensor,
    bias: Tensor,
    height: int,
    width: int,
) -> Tensor:
    """Scan an image in four orders and sum the results at each pixel; float32 whatever the input.

    Args:
        x: (B, L, C) input, channels last, pixels row by row.
        dts: (4, B, L, C) time steps of each order before bias and softplus.
        bc: (B, L, 4, 2N), of each order B, then C. A slice of a wider projection is not copied in float32.
        A: (4, C, N), negative.
        D: (4, C) weight of the input in the output.
        bias: (4, C) of the time steps.
        height: H.
        width: W.

    Returns:
        (B, L, C) float32, differentiable once in all six tensors.

    Raises:
        ValueError: shapes do not fit together.
        ScanUnavailableError: RADCLEAR_SCAN forces a tier that cannot run here.
    """
    _check_shapes(x, dts, bc, A, D, bias, height, width)
    keep_states = torch.is_grad_enabled() and any(t.requires_grad for t in (x, dts, bc, A, D, bias))
    tensors = tuple(tensor.float() for tensor in (x, dts, bc, A, D, bias))
    if keep_states and not torch.compiler.is_compiling():
        keep_states = dispatch.choose(x.device.type).KEEPS_STATES
    return scan_forward(*tensors, height, width, keep_states)[0]


def takes_factors(x: Tensor, projection: Tensor, weight: Tensor) -> bool:
    """Whether :func:`selective_scan_2d_factors` runs on these tensors here and now.

    It does where the C kernel scans, they are bfloat16, and nobody wants gradients or a graph.
    """
    if not infers_on_cpu(x):
        return False
    tier = dispatch.choose("cpu")
    return hasattr(tier, "takes_factors") and tier.takes_factors(x, projection, weight)


def selective_scan_2d_factors(
    x: Tensor,
    projection: Tensor,
    weight: Tensor,
    A: Tensor,
    D: Tensor,
    bias: Tensor,
    height: int,
    width: int,
) -> Tensor:
    """:func:`selective_scan_2d` with dts = weight · low rank, computed where the scan needs them.

    For inference, where :func:`takes_factors`. The time steps are the largest array of a block; here they
    are neither written nor read.

    Args:
        x: (B, L, C) bfloat16.
        projection: (B, L, 4, R + 2N) bfloat16, of each order the steps' R factors, B, C. May be strided.
        weight: (4, C, R) of the time steps.
        A, D, bias, height, width: as in :func:`selective_scan_2d`.

    Returns:
        (B, L, C) float32.

    Raises:
        ValueError: shapes do not fit together.
        TypeError: x or the projection is not bfloat16.
        ScanUnavailableError: another tier than the C kernel scans here.
    """
    batch, length, _ = x.shape
    orders, channels, rank = weight.shape
    expected = (batch, length, 4, rank + 2 * A.shape[2])
    if tuple(projection.shape) != expected or orders != 4:
        raise ValueError(
            f"projection must have shape {expected} next to x {tuple(x.shape)}, weight {tuple(weight.shape)} "
            f"(4, C, R) and A {tuple(A.shape)}, got {tuple(projection.shape)}"
        )
    dts = weight.new_empty(()).expand(4, batch, length, channels)  # a shape alone
    _check_shapes(x, dts, projection[..., rank:], A, D, bias, height, width)
    tier = dispatch.choose(x.device.type)
    if not hasattr(tier, "forward_factors"):
        raise ScanUnavailableError("time steps from factors are the C kernel's; ask takes_factors first")
    return tier.forward_factors(x, projection, weight, A, D, bias, height, width)


def selective_scan_2d_torch(
    x: Tensor,
    dts: Tensor,
    bc: Tensor,
    A: Tensor,
    D: Tensor,
    bias: Tensor,
    height: int,
    width: int,
) -> Tensor:
    """The same scan in torch operations only, for torch.jit.script; the result carries no gradient.

    Args and Returns as :func:`selective_scan_2d`.
    """
    y, _ = slab.forward(
        x.detach().float(),
        dts.detach().float(),
        bc.detach().float(),
        A.detach().float(),
        D.detach().float(),
        bias.detach().float(),
        height,
        width,
        False,
    )
    return y


def _check_shapes(
    x: Tensor, dts: Tensor, bc: Tensor, A: Tensor, D: Tensor, bias: Tensor, height: int, width: int
) -> None:
    if x.dim() != 3 or A.dim() != 3:
        raise ValueError(f"x must be (B, L, C) and A (4, C, N), got {tuple(x.shape)} and {tuple(A.shape)}")
    batch, length, channels = x.shape
    states = A.shape[2]
    if length != height * width:
        raise ValueError(f"x has {length} pixels, height {height} x width {width} needs {height * width}")
    expected = {
        "dts": (dts, (4, batch, length, channels)),
        "bc": (bc, (batch, length, 4, 2 * states)),
        "A": (A, (4, channels, states)),
        "D": (D, (4, channels)),
        "bias": (bias, (4, channels)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name} must have shape {shape} next to x {tuple(x.shape)}, got {tuple(tensor.shape)}"
            )
