"""The scan as a small C++ kernel behind a plain C interface, compiled at first use and called through ctypes.

Needs no header of torch or Python, so that one compilation takes seconds and outlives their upgrades.
Legend: B batch, L pixels, C channels, N states, 4 orders; the kernel's own legend is in ss2d_scan.cpp.
"""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import torch
from torch import Tensor

from radclear.backbones.scan.compiler import (
    NO_COMPILER,
    CompileError,
    cached_library,
    find_compiler,
    load_library,
)
from radclear.backbones.scan.errors import ScanUnavailableError
from radclear.backbones.scan.orders import n_chunks

KEEPS_STATES = True
FORWARD_TYPES = (torch.float32, torch.bfloat16)  # of x, dts and bc
MAX_STATES = 256  # the same number stands in ss2d_scan.cpp
SOURCE = Path(__file__).with_name("ss2d_scan.cpp")

_lock = threading.Lock()
_library: ctypes.CDLL | None = None
_failure: str | None = None  # why compiling failed in this process; it is not tried again


def probe(device_type: str) -> None:
    """Say without compiling whether the kernel can be had.

    Raises:
        ScanUnavailableError: wrong device, no compiler and nothing in the cache, or compiling failed before.
    """
    if device_type != "cpu":
        raise ScanUnavailableError(f"the C kernel runs on cpu, not on {device_type}")
    if _library is not None:
        return
    if _failure is not None:
        raise ScanUnavailableError(_failure)
    if os.name != "posix":
        raise ScanUnavailableError("the C kernel is built on Linux and macOS only")
    if not SOURCE.is_file():
        raise ScanUnavailableError(f"{SOURCE} is missing from the installation")
    compiler = find_compiler()
    if compiler is None and cached_library(SOURCE, None) is None:
        raise ScanUnavailableError(NO_COMPILER)


def prepare(device_type: str) -> None:
    """Load the kernel, compiling it where the cache does not hold it.

    Raises:
        ScanUnavailableError: as :func:`probe`, or compiling or loading failed.
    """
    global _library, _failure
    with _lock:
        probe(device_type)
        if _library is None:
            try:
                _library = _load()
            except (CompileError, OSError) as error:
                _failure = str(error)
                raise ScanUnavailableError(_failure) from error


def _load() -> ctypes.CDLL:
    return load_library(SOURCE, _open)


def _open(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name, tensors in (("ss2d_forward", 8), ("ss2d_forward_bfloat16", 8), ("ss2d_backward", 14)):
        function = getattr(library, name)
        function.restype = ctypes.c_int
        function.argtypes = [ctypes.POINTER(ctypes.c_int64), ctypes.c_int] + [ctypes.c_void_p] * tensors
    return library


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
    """Scan; arguments and results as in :func:`radclear.backbones.scan.slab.forward`.

    A, D, bias and the results are float32; x, dts and bc are float32 or, all three, bfloat16.
    """
    inputs = _dense(x, dts, bc, A, D, bias, types=FORWARD_TYPES)
    batch, _, channels = x.shape
    y = torch.empty_like(inputs[0], dtype=torch.float32)
    shape = (n_chunks(height, width), 4, batch, A.shape[2], channels) if keep_states else (0,)
    saved = A.new_empty(shape)
    name = "ss2d_forward" if x.dtype == torch.float32 else "ss2d_forward_bfloat16"
    _call(name, inputs, [y, saved if keep_states else None], height, width)
    return y, saved


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
    inputs = _dense(x, dts, bc, A, D, bias)
    batch, length, channels = x.shape
    states = A.shape[2]
    grad_x, grad_dts = x.new_empty(4, batch, length, channels), x.new_empty(4, batch, length, channels)
    grad_bc = x.new_empty(batch, length, 4, 2 * states)
    grad_A = x.new_empty(4, batch, channels, states)
    grad_D, grad_bias = x.new_empty(4, batch, channels), x.new_empty(4, batch, channels)
    outputs = [grad_y.contiguous(), saved.contiguous(), grad_x, grad_dts, grad_bc, grad_A, grad_D, grad_bias]
    _call("ss2d_backward", inputs, outputs, height, width)
    return grad_x.sum(0), grad_dts, grad_bc, grad_A.sum(1), grad_D.sum(1), grad_bias.sum(1)


def _dense(
    x: Tensor,
    dts: Tensor,
    bc: Tensor,
    A: Tensor,
    D: Tensor,
    bias: Tensor,
    *,
    types: tuple[torch.dtype, ...] = (torch.float32,),
) -> list[Tensor]:
    """Contiguous tensors; bc may stay a slice of the caller's projection, the kernel knows its strides."""
    if not (x.dtype == dts.dtype == bc.dtype and x.dtype in types):
        raise TypeError(
            f"the C kernel computes in float32, got {x.dtype}, {dts.dtype} and {bc.dtype} for x, dts and bc; "
            f"it takes {' or '.join(map(str, types))}, the same for all three; the slab scan takes others"
        )
    if A.shape[2] > MAX_STATES:
        raise ValueError(
            f"the C kernel takes at most {MAX_STATES} states, got {A.shape[2]}: set RADCLEAR_SCAN=slab"
        )
    x, dts, A, D, bias = (tensor.contiguous() for tensor in (x, dts, A, D, bias))
    return [x, dts, bc if bc.stride(3) == 1 else bc.contiguous(), A, D, bias]


def _call(name: str, inputs: list[Tensor], others: list[Tensor | None], height: int, width: int) -> None:
    prepare("cpu")
    x, bc, A = inputs[0], inputs[2], inputs[3]
    numbers = (x.shape[0], height, width, x.shape[2], A.shape[2], *bc.stride()[:3])  # fields of Shape
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in (*inputs, *others)]
    code = getattr(_library, name)((ctypes.c_int64 * 8)(*numbers), torch.get_num_threads(), *pointers)
    if code:
        if code == 2:
            raise MemoryError(f"{name}: out of memory")
        reason = f"{A.shape[2]} states are not supported" if code == 1 else f"code {code}"
        raise RuntimeError(f"{name} failed: {reason}")
