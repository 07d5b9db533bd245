"""Softmax, gates and convolution on rows of bfloat16 in one pass each, where inference runs on a CPU.

In bfloat16 the matrix products are so fast that what lies between them takes as long as they do: torch makes
one pass over memory for each operation. The kernels of rows.cpp, compiled as the scan's are, make one for all
and compute in float32. Everywhere else (other types and devices, gradients, TorchScript, torch.compile, no
compiler) the same functions are torch's.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from radclear.backbones.eager import infers_on_cpu
from radclear.backbones.scan.compiler import CompileError, load_library

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("rows.cpp")
LONGEST_ROW = 4096  # of a softmax; the same number stands in rows.cpp
_SIZE, _FLOAT, _POINTER = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
FUNCTIONS = {
    "rows_softmax": (_SIZE, _SIZE, ctypes.c_int, _FLOAT, _POINTER),
    "rows_norm_and_gate": (_SIZE, _SIZE, ctypes.c_int, _FLOAT, *[_POINTER] * 4, _SIZE, _POINTER),
    "rows_gate": (_SIZE, _SIZE, _SIZE, ctypes.c_int, _POINTER, _POINTER, _POINTER),
    "rows_convolve": (*[_SIZE] * 4, ctypes.c_int, _POINTER, _SIZE, _POINTER, _POINTER, _POINTER),
}

_lock = threading.Lock()
_library: ctypes.CDLL | None = None
_tried = False


def softmax(scores: Tensor, factor: float) -> Tensor:
    """softmax(factor · scores) over the last dimension; may overwrite `scores`."""
    if not torch.jit.is_scripting():
        if _takes(scores) and scores.is_contiguous() and 0 < scores.shape[-1] <= LONGEST_ROW and factor > 0:
            n = scores.shape[-1]
            _call("rows_softmax", scores.numel() // n, n, torch.get_num_threads(), factor, scores)
            return scores
    return (scores * factor).softmax(-1)


def gate(mixed: Tensor, local: Tensor) -> Tensor:
    """gelu(g) · [i, local] of [g, i, ·] = mixed: MambaOut's gate.

    Args:
        mixed: (..., 2h): g of width h, i of width h - n, and n channels that are not read.
        local: (..., n).

    Returns:
        (..., h).
    """
    hidden, n = mixed.shape[-1] // 2, local.shape[-1]
    if not torch.jit.is_scripting():
        if _takes(mixed) and _takes(local) and mixed.is_contiguous() and local.is_contiguous():
            out = mixed.new_empty(mixed.shape[:-1] + (hidden,))
            rows = mixed.numel() // (2 * hidden)
            _call("rows_gate", rows, hidden, n, torch.get_num_threads(), mixed, local, out)
            return out
    g, plain, _ = mixed.split([hidden, hidden - n, n], dim=-1)
    return F.gelu(g) * torch.cat([plain, local], dim=-1)


def norm_and_gate(y: Tensor, weight: Tensor, bias: Tensor, epsilon: float, gate: Tensor) -> Tensor:
    """Layer norm of `y` times silu(gate), in the type of the gate: the end of a state-space block.

    Args:
        y: (..., C), float32 as the scan returns it.
        weight, bias: (C,).
        epsilon: of the norm.
        gate: (..., C), may be a slice of a wider projection.
    """
    if not torch.jit.is_scripting():
        if _takes(gate) and y.dtype == torch.float32 and y.is_contiguous() and _row_stride(gate) >= 0:
            return _norm_and_gate(y, weight, bias, epsilon, gate)
    return F.layer_norm(y, (y.shape[-1],), weight, bias, epsilon).to(gate.dtype) * F.silu(gate)


def convolve_and_silu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """silu of a depthwise 3x3 convolution of stride 1 that keeps the map's size.

    Args:
        x: (B, H, W, C), may be a slice of a wider projection.
        weight: (C, 1, 3, 3).
        bias: (C,) or None.

    Returns:
        (B, H, W, C).
    """
    if not torch.jit.is_scripting():
        if _takes(x) and _row_stride(x) >= 0:
            return _convolve_and_silu(x, weight, bias)
    maps = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=1, groups=weight.shape[0])
    return F.silu(maps.permute(0, 2, 3, 1))


def _convolve_and_silu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    batch, height, width, channels = x.shape
    out = torch.empty(x.shape, dtype=torch.bfloat16)
    taps = weight.float().view(channels, 9).t().contiguous()
    bias = torch.zeros(channels) if bias is None else bias.float().expand(channels).contiguous()
    pointers = (x, _row_stride(x), taps, bias, out)
    _call("rows_convolve", batch, height, width, channels, torch.get_num_threads(), *pointers)
    return out


def _norm_and_gate(y: Tensor, weight: Tensor, bias: Tensor, epsilon: float, gate: Tensor) -> Tensor:
    out = torch.empty(y.shape, dtype=torch.bfloat16)
    n, threads, weight, bias = y.shape[-1], torch.get_num_threads(), weight.float(), bias.float()
    pointers = (y, weight, bias, gate, _row_stride(gate), out)
    _call("rows_norm_and_gate", y.numel() // n, n, threads, epsilon, *pointers)
    return out


def _row_stride(x: Tensor) -> int:
    """Elements from one row to the next where rows are evenly spaced and dense in themselves, else -1."""
    if x.dim() < 2 or x.stride(-1) != 1:
        return -1
    expected = x.stride(-2)
    for size, stride in zip(reversed(x.shape[:-1]), reversed(x.stride()[:-1]), strict=True):
        if size != 1 and stride != expected:
            return -1
        expected *= size
    return x.stride(-2)


def _takes(x: Tensor) -> bool:
    """Whether the kernels run on this tensor here and now."""
    return x.dtype == torch.bfloat16 and infers_on_cpu(x) and _load() is not None


def _load() -> ctypes.CDLL | None:
    """The library, or None where it cannot be had, which is logged once."""
    global _library, _tried
    if not _tried:
        with _lock:
            if not _tried:
                try:
                    _library = load_library(SOURCE, _open)
                except (CompileError, OSError) as error:
                    logger.info("rows of bfloat16 are computed by torch, which is slower: %s", error)
                _tried = True
    return _library


def _open(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name, arguments in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = None, arguments
    return library


def _call(name: str, *arguments: Tensor | int | float | None) -> None:
    getattr(_load(), name)(*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))
