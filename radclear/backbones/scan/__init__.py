"""Selective scan of an image in four orders: the core of the VSSM backbones.

Legend: B batch, H height, W width, L = H * W pixels, C channels, N states, 4 orders (rows, columns, both
reversed).

For each order, over its pixels t = 1 ... L and for each channel (Gu and Dao 2023; the four orders: Liu et
al. 2024)::

    d_t = softplus(dts_t + bias)
    h_t = exp(d_t A) h_{t-1} + d_t B_t x_t        N states
    y_t = C_t h_t + D x_t                         summed over the orders at each pixel

One interface, several tiers with the same numbers: a compiled C++ kernel, numba and plain torch ("slab") on
the CPU; mamba-ssm's kernel, Triton and slab on CUDA. See :mod:`radclear.backbones.scan.dispatch`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from radclear.backbones.scan import dispatch, slab
from radclear.backbones.scan.dispatch import available_scans
from radclear.backbones.scan.errors import ScanUnavailableError
from radclear.backbones.scan.operator import scan_forward

__all__ = ["ScanUnavailableError", "available_scans", "selective_scan_2d", "selective_scan_2d_torch"]


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

    bfloat16 x, dts and bc are read as they are where no gradient is wanted and the tier can; else copied.

    Args:
        x: (B, L, C) input, channels last, pixels row by row.
        dts: (4, B, L, C) time steps of each order before bias and softplus.
        bc: (B, L, 4, 2N), of each order B, then C. May be a slice of a wider projection; it is not copied.
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
    if keep_states or not _read_as_is(x, dts, bc):
        x, dts, bc = x.float(), dts.float(), bc.float()
    tensors = (x, dts, bc, A.float(), D.float(), bias.float())
    if keep_states and not torch.compiler.is_compiling():
        keep_states = dispatch.choose(x.device.type).KEEPS_STATES
    return scan_forward(*tensors, height, width, keep_states)[0]


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


def _read_as_is(x: Tensor, dts: Tensor, bc: Tensor) -> bool:
    """Whether the tier takes these tensors, of one type other than float32, without a copy."""
    if x.dtype == torch.float32 or not x.dtype == dts.dtype == bc.dtype or torch.compiler.is_compiling():
        return False
    return x.dtype in getattr(dispatch.choose(x.device.type), "FORWARD_TYPES", ())


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
