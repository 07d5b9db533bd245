"""Which number format a machine computes in natively, and the autocast region for it."""

from __future__ import annotations

from typing import Any

import torch

from radclear.backbones.errors import PrecisionError

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def resolve_precision(precision: str, device: str | torch.device = "cpu") -> torch.dtype:
    """The dtype of matrix products and convolutions.

    Args:
        precision: "auto" (bfloat16 where the device has it natively, else float32), "float32", "bfloat16" or
            "float16".
        device: torch device.

    Returns:
        torch.float32, torch.bfloat16 or torch.float16.

    Raises:
        PrecisionError: unknown precision, or one that this device lacks.
    """
    if precision not in PRECISIONS:
        raise PrecisionError(f"unknown precision {precision!r}; choose one of: {', '.join(PRECISIONS)}")
    native = native_precisions(device)
    if precision == "auto":
        return torch.bfloat16 if "bfloat16" in native else torch.float32
    if precision not in native:
        raise PrecisionError(
            f"precision {precision} was asked for on {torch.device(device)}, which is {describe(device)}; "
            f"natively it computes {', '.join(native)}. Use precision 'auto' or one of these."
        )
    return getattr(torch, precision)


def native_precisions(device: str | torch.device = "cpu") -> tuple[str, ...]:
    """The precisions that a device computes natively, float32 first."""
    kind = torch.device(device).type
    bfloat16 = float16 = False
    if kind == "cpu":
        bfloat16 = _cpu_has("_is_avx512_bf16_supported") or _cpu_has("_is_amx_tile_supported")
        float16 = _cpu_has("_is_amx_fp16_supported")
    elif kind == "cuda" and torch.cuda.is_available():
        bfloat16, float16 = torch.cuda.is_bf16_supported(including_emulation=False), True
    return ("float32",) + ("bfloat16",) * bfloat16 + ("float16",) * float16


def describe(device: str | torch.device = "cpu") -> str:
    """What decides the native precisions of a device, in words."""
    kind = torch.device(device).type
    if kind == "cuda":
        return (
            torch.cuda.get_device_name(device)
            if torch.cuda.is_available()
            else "no CUDA device torch can use"
        )
    if kind != "cpu":
        return f"a device of type {kind}, where only float32 is supported here"
    found = [
        title
        for title, probe in (
            ("AVX2", "_is_avx2_supported"),
            ("AVX-512", "_is_avx512_supported"),
            ("AVX-512 BF16", "_is_avx512_bf16_supported"),
            ("AMX", "_is_amx_tile_supported"),
            ("AMX-FP16", "_is_amx_fp16_supported"),
        )
        if _cpu_has(probe)
    ]
    return "a CPU with " + (", ".join(found) or "none of AVX2, AVX-512 BF16 and AMX")


def autocast(device: str | torch.device, dtype: torch.dtype) -> torch.autocast:
    """Autocast to `dtype` on `device`; switched off for float32."""
    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype != torch.float32)


def _cpu_has(probe: str) -> bool:
    """One of torch's private CPU probes; absent in some versions, which then counts as no."""
    function: Any = getattr(torch.cpu, probe, None)
    return bool(function is not None and function())
