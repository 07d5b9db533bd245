"""The scan as a small C++ kernel behind a plain C interface, compiled at first use and called through ctypes.

Needs no header of torch or Python, so that one compilation takes seconds and outlives their upgrades.
Legend: B batch, L pixels, C channels, N states, R rank, 4 orders; the kernel's own is in ss2d_scan.cpp.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
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
MAX_STATES = MAX_RANK = 256  # the same numbers stand in ss2d_scan.cpp
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
    for name, tensors in (("ss2d_forward", 8), ("ss2d_forward_factors", 7), ("ss2d_backward", 14)):
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
    """Scan; arguments and results as in :func:`radclear.backbones.scan.slab.forward`, float32 only."""
    inputs = _dense(x, dts, bc, A, D, bias)
    batch, _, channels = x.shape
    y = torch.empty_like(inputs[0])
    shape = (n_chunks(height, width), 4, batch, A.shape[2], channels) if keep_states else (0,)
    saved = A.new_empty(shape)
    numbers = _shape(x, inputs[2], A.shape[2], 0, height, width)
    _call("ss2d_forward", numbers, [*inputs, y, saved if keep_states else None])
    return y, saved


def takes_factors(x: Tensor, projection: Tensor, weight: Tensor) -> bool:
    """Whether :func:`forward_factors` takes these tensors."""
    states = (projection.shape[3] - weight.shape[2]) // 2
    return (
        x.dtype == projection.dtype == torch.bfloat16 and weight.shape[2] <= MAX_RANK and states <= MAX_STATES
    )


def forward_factors(
    x: Tensor,
    projection: Tensor,
    weight: Tensor,
    A: Tensor,
    D: Tensor,
    bias: Tensor,
    height: int,
    width: int,
) -> Tensor:
    """Scan with time steps from their factors; arguments and result as in `selective_scan_2d_factors`."""
    if not takes_factors(x, projection, weight):
        raise TypeError(
            f"the C kernel scans bfloat16 from factors, up to {MAX_STATES} states and rank {MAX_RANK}; got x "
            f"{x.dtype}, projection {projection.dtype} {tuple(projection.shape)} and weight "
            f"{tuple(weight.shape)}"
        )
    x, weight, A, D, bias = (t.contiguous() for t in (x, weight.float(), A.float(), D.float(), bias.float()))
    y = torch.empty_like(x, dtype=torch.float32)
    projection = projection if projection.stride(3) == 1 else projection.contiguous()
    numbers = _shape(x, projection, A.shape[2], weight.shape[2], height, width)
    _call("ss2d_forward_factors", numbers, [x, projection, weight, A, D, bias, y])
    return y


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
    _call("ss2d_backward", _shape(x, inputs[2], states, 0, height, width), [*inputs, *outputs])
    return grad_x.sum(0), grad_dts, grad_bc, grad_A.sum(1), grad_D.sum(1), grad_bias.sum(1)


def _dense(x: Tensor, dts: Tensor, bc: Tensor, A: Tensor, D: Tensor, bias: Tensor) -> list[Tensor]:
    """Contiguous tensors; bc may stay a slice of the caller's projection, the kernel knows its strides."""
    if not x.dtype == dts.dtype == bc.dtype == torch.float32:
        raise TypeError(
            f"the C kernel computes in float32, got {x.dtype}, {dts.dtype} and {bc.dtype} for x, dts and bc; "
            "the slab scan takes others"
        )
    if A.shape[2] > MAX_STATES:
        raise ValueError(
            f"the C kernel takes at most {MAX_STATES} states, got {A.shape[2]}: set RADCLEAR_SCAN=slab"
        )
    x, dts, A, D, bias = (tensor.contiguous() for tensor in (x, dts, A, D, bias))
    return [x, dts, bc if bc.stride(3) == 1 else bc.contiguous(), A, D, bias]


def _shape(x: Tensor, rows: Tensor, states: int, rank: int, height: int, width: int) -> ctypes.Array:
    """The fields of Shape; `rows` are bc or the projection."""
    return (ctypes.c_int64 * 9)(x.shape[0], height, width, x.shape[2], states, *rows.stride()[:3], rank)


def _call(name: str, shape: ctypes.Array, tensors: Sequence[Tensor | None]) -> None:
    prepare("cpu")
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    code = getattr(_library, name)(shape, torch.get_num_threads(), *pointers)
    if code:
        if code == 2:
            raise MemoryError(f"{name}: out of memory")
        reason = f"{shape[4]} states or rank {shape[8]} is not supported" if code == 1 else f"code {code}"
        raise RuntimeError(f"{name} failed: {reason}")
