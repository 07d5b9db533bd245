"""Precisions are what the machine computes natively, and nothing else silently."""

from __future__ import annotations

import pytest
import torch

from radclear.backbones import PrecisionError, native_precisions, resolve_precision
from radclear.backbones.precision import autocast

PROBES = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_amx_fp16_supported")


def set_cpu(monkeypatch, **answers: bool | None) -> None:
    for probe in PROBES:
        answer = answers.get(probe, False)
        if answer is None:
            monkeypatch.delattr(torch.cpu, probe, raising=False)
        else:
            monkeypatch.setattr(torch.cpu, probe, lambda answer=answer: answer, raising=False)


@pytest.mark.parametrize("probe", PROBES[:2])
def test_auto_is_bfloat16_where_the_cpu_has_it(monkeypatch, probe):
    set_cpu(monkeypatch, **{probe: True})
    assert resolve_precision("auto", "cpu") == torch.bfloat16 == resolve_precision("bfloat16", "cpu")
    assert native_precisions("cpu") == ("float32", "bfloat16")


@pytest.mark.parametrize("answer", [False, None])
def test_auto_is_float32_where_it_does_not_or_torch_cannot_tell(monkeypatch, answer):
    set_cpu(monkeypatch, **dict.fromkeys(PROBES, answer))
    assert resolve_precision("auto", "cpu") == torch.float32
    for precision in ("bfloat16", "float16"):
        with pytest.raises(
            PrecisionError, match=f"{precision} was asked for on cpu.*natively it computes float32"
        ):
            resolve_precision(precision, "cpu")


def test_float16_on_a_cpu_that_has_it(monkeypatch):
    set_cpu(monkeypatch, _is_amx_fp16_supported=True)
    assert resolve_precision("float16", "cpu") == torch.float16


@pytest.mark.parametrize(("supported", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_cuda_follows_the_gpu(monkeypatch, supported, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Some GPU")
    assert resolve_precision("auto", "cuda") == expected
    assert resolve_precision("float16", "cuda:0") == torch.float16
    if not supported:
        with pytest.raises(PrecisionError, match="which is Some GPU"):
            resolve_precision("bfloat16", "cuda")


def test_float32_is_everywhere():
    assert resolve_precision("float32", "cpu") == torch.float32
    assert resolve_precision("auto", "meta") == torch.float32


def test_unknown_precision_lists_the_known():
    with pytest.raises(PrecisionError, match="'int8'; choose one of: auto, float32, bfloat16, float16"):
        resolve_precision("int8", "cpu")


def test_autocast_is_off_for_float32():
    with autocast("cpu", torch.float32):
        assert not torch.is_autocast_enabled("cpu")
    with autocast("cpu", torch.bfloat16):
        assert torch.is_autocast_enabled("cpu")
