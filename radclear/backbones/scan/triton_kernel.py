"""The scan in Triton, the first choice on CUDA; on the CPU under TRITON_INTERPRET=1, for tests.

The four orders are index arithmetic in the kernels, nothing is reordered in memory. The backward rebuilds
the states of a chunk from the state before it; sums over programs are made by torch, so that results do not
vary. Legend: B batch, L pixels, C channels, N states, 4 orders.
"""

from __future__ import annotations

import importlib.util
import os

import torch
from torch import Tensor

from radclear.backbones.scan.errors import ScanUnavailableError
from radclear.backbones.scan.orders import CHUNK, n_chunks
from radclear.errors import MissingDependencyError

KEEPS_STATES = True
BLOCK = 32  # channels of a program


def probe(device_type: str) -> None:
    """Say without importing Triton whether it can run.

    Raises:
        MissingDependencyError: Triton is not installed.
        ScanUnavailableError: no CUDA device, and not Triton's interpreter.
    """
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if device_type != "cuda" and not interpreted:
        raise ScanUnavailableError(
            f"Triton runs on cuda, not on {device_type} (TRITON_INTERPRET=1 interprets it)"
        )
    if device_type == "cuda" and not torch.cuda.is_available():
        raise ScanUnavailableError("torch sees no CUDA device")
    if importlib.util.find_spec("triton") is None:
        raise MissingDependencyError(
            "triton", purpose="run the scan's Triton tier (it comes with CUDA builds of torch)"
        )


def prepare(device_type: str) -> None:
    """Import the kernels and scan four pixels: at its first call Triton needs a C compiler.

    Raises:
        ScanUnavailableError: as :func:`probe`, or Triton does not import, compile or run here.
    """
    probe(device_type)
    try:
        import radclear.backbones.scan.triton_loops  # noqa: F401
    except ImportError as error:
        raise ScanUnavailableError(f"triton is installed but does not import: {error}") from error
    try:
        _scan_four_pixels(device_type)
    except torch.OutOfMemoryError:
        raise  # says nothing of Triton
    except Exception as error:  # whatever Triton and the compilers behind it raise
        raise ScanUnavailableError(f"triton does not run here: {error}") from error


def _scan_four_pixels(device_type: str) -> None:
    batch, height, width, channels, states = 2, 2, 2, BLOCK, 16
    x = torch.zeros(batch, height * width, channels, device=device_type)
    dts, bc = x.expand(4, *x.shape), x.new_zeros(batch, height * width, 4, 2 * states)
    A, D = x.new_zeros(4, channels, states), x.new_zeros(4, channels)
    forward(x, dts, bc, A, D, D, height, width, False)


def forward(
    x: Tensor,
    dts: Tensor,
    bc: Tensor,
    A: Tensor,
    D: Tensor,
    bias: Tensor,
    height: int,
    width: int,
    keep_states: bool,
) -> tuple[Tensor, Tensor]:
    """Scan; arguments and results as in :func:`radclear.backbones.scan.slab.forward`, float32 only."""
    from radclear.backbones.scan.triton_loops import scan_forward

    inputs, numbers, constants = _arguments(x, dts, bc, A, D, bias, height, width)
    batch, length, channels = x.shape
    y = x.new_empty(4, batch, length, channels)
    saved = x.new_empty((n_chunks(height, width), 4, batch, A.shape[2], channels) if keep_states else (0,))
    grid = (4 * batch, (channels + BLOCK - 1) // BLOCK)
    scan_forward[grid](*inputs, y, saved, *numbers, KEEP=keep_states, **constants)
    return y.sum(0), saved


def backward(
    grad_y: Tensor,
    x: Tensor,
    dts: Tensor,
    bc: Tensor,
    A: Tensor,
    D: Tensor,
    bias: Tensor,
    saved: Tensor,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients; arguments and results as in :func:`radclear.backbones.scan.slab.backward`, float32 only."""
    from radclear.backbones.scan.triton_loops import scan_backward

    inputs, numbers, constants = _arguments(x, dts, bc, A, D, bias, height, width)
    batch, length, channels = x.shape
    states, blocks = A.shape[2], (channels + BLOCK - 1) // BLOCK
    scratch = x.new_empty(4 * batch, blocks, CHUNK, BLOCK, constants["STATES"])
    grad_x, grad_dts = x.new_empty(4, batch, length, channels), x.new_empty(4, batch, length, channels)
    grad_bc = x.new_empty(blocks, batch, length, 4, 2 * states)
    grad_A = x.new_empty(4, batch, channels, states)
    grad_D, grad_bias = x.new_empty(4, batch, channels), x.new_empty(4, batch, channels)
    scan_backward[(4 * batch, blocks)](
        *inputs, grad_y.contiguous(), saved.contiguous(), scratch,
        grad_x, grad_dts, grad_bc, grad_A, grad_D, grad_bias, *numbers, **constants,
    )  # fmt: skip
    return grad_x.sum(0), grad_dts, grad_bc.sum(0), grad_A.sum(1), grad_D.sum(1), grad_bias.sum(1)


def _arguments(
    x: Tensor, dts: Tensor, bc: Tensor, A: Tensor, D: Tensor, bias: Tensor, height: int, width: int
) -> tuple[list[Tensor], tuple[int, ...], dict[str, int]]:
    """Dense tensors, run-time numbers and compile-time constants of both kernels."""
    if x.dtype != torch.float32:
        raise TypeError(
            f"the Triton kernel computes in float32, got {x.dtype}; the slab scan takes {x.dtype}"
        )
    bc = bc if bc.stride(3) == 1 else bc.contiguous()
    x, dts, A, D, bias = (tensor.contiguous() for tensor in (x, dts, A, D, bias))
    states = A.shape[2]
    numbers = (x.shape[0], height, width, x.shape[2], states, *bc.stride()[:3])
    constants = {"CHUNK": CHUNK, "STATES": 1 << (states - 1).bit_length(), "BLOCK": BLOCK}
    return [x, dts, bc, A, D, bias], numbers, constants
