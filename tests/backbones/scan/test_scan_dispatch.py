"""Which tier runs, who says so, and what happens where it cannot."""

from __future__ import annotations

import importlib.util
import logging

import pytest
import torch
from oracle import scan_inputs

from radclear.backbones.scan import ScanUnavailableError, available_scans, dispatch, selective_scan_2d
from radclear.errors import MissingDependencyError


@pytest.fixture(autouse=True)
def fresh_choice(monkeypatch):
    monkeypatch.delenv("RADCLEAR_SCAN", raising=False)
    dispatch._choose.cache_clear()
    yield
    dispatch._choose.cache_clear()


@pytest.fixture
def inputs():
    return scan_inputs(batch=1, height=2, width=3, channels=4, states=1)


def test_every_tier_has_an_answer():
    answers = available_scans()
    assert set(answers) == {"c", "numba", "slab", "mamba", "triton"}
    assert answers["slab"] == "available"
    if not torch.cuda.is_available():
        assert answers["mamba"] == answers["triton"] == "torch sees no CUDA device"


def test_asking_compiles_nothing(monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: pytest.fail("a process was started"))
    available_scans()


@pytest.mark.parametrize("tier", ("c", "numba", "slab"))
def test_forced_tier_runs_and_is_logged_once(tier, inputs, force_tier, caplog, monkeypatch):
    force_tier(tier)
    module, calls = dispatch.tier_module(tier), []
    forward = module.forward
    monkeypatch.setattr(module, "forward", lambda *args: calls.append(tier) or forward(*args))
    with caplog.at_level(logging.INFO, "radclear"):
        selective_scan_2d(*inputs, 2, 3)
        selective_scan_2d(*inputs, 2, 3)
    assert calls == [tier, tier]
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("dispatch")]
    assert lines == [f"selective scan on cpu: {tier}, forced by RADCLEAR_SCAN"]


def test_automatic_choice_logs_the_reasons_against_faster_tiers(inputs, caplog, monkeypatch):
    def refuse(device_type):
        raise ScanUnavailableError("on holiday")

    monkeypatch.setattr(dispatch.tier_module("c"), "prepare", refuse)
    monkeypatch.setattr(dispatch.tier_module("numba"), "prepare", refuse)
    with caplog.at_level(logging.INFO, "radclear"):
        selective_scan_2d(*inputs, 2, 3)
        selective_scan_2d(*inputs, 2, 3)
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("dispatch")]
    assert lines == ["selective scan on cpu: slab (not used: c: on holiday; numba: on holiday)"]


def test_on_cuda_triton_comes_first_and_then_mamba(monkeypatch, caplog):
    def refuse(device_type):
        raise ScanUnavailableError("on holiday")

    for tier in ("triton", "mamba"):
        monkeypatch.setattr(dispatch.tier_module(tier), "prepare", lambda device_type: None)
    assert dispatch.choose("cuda") is dispatch.tier_module("triton")
    dispatch._choose.cache_clear()
    monkeypatch.setattr(dispatch.tier_module("triton"), "prepare", refuse)
    with caplog.at_level(logging.INFO, "radclear"):
        assert dispatch.choose("cuda") is dispatch.tier_module("mamba")
    assert caplog.messages == ["selective scan on cuda: mamba (not used: triton: on holiday)"]


def test_unknown_tier_is_an_error(inputs, monkeypatch):
    monkeypatch.setenv("RADCLEAR_SCAN", "fortran")
    with pytest.raises(ScanUnavailableError, match="RADCLEAR_SCAN=fortran is none of c, numba, slab"):
        selective_scan_2d(*inputs, 2, 3)


@pytest.mark.parametrize("tier", ("mamba", "triton"))
def test_cuda_tier_on_cpu_tensors_is_an_error(tier, inputs, monkeypatch):
    """Also where the kernel is installed: what counts is where the tensor is."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("RADCLEAR_SCAN", tier)
    with pytest.raises(ScanUnavailableError, match=f"RADCLEAR_SCAN={tier} cannot run on cpu: .* not on cpu"):
        selective_scan_2d(*inputs, 2, 3)


@pytest.mark.parametrize("tier", ("c", "numba"))
def test_cpu_tier_on_cuda_is_an_error(tier, monkeypatch):
    monkeypatch.setenv("RADCLEAR_SCAN", tier)
    with pytest.raises(
        ScanUnavailableError, match=f"RADCLEAR_SCAN={tier} cannot run on cuda: .* not on cuda"
    ):
        dispatch.choose("cuda")


def test_missing_package_tells_the_pip_line(inputs, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *args: None if name == "numba" else found(name)
    )
    assert "pip install 'radclear[numba]'" in available_scans()["numba"]
    monkeypatch.setenv("RADCLEAR_SCAN", "numba")
    with pytest.raises(MissingDependencyError, match=r"pip install 'radclear\[numba\]'"):
        selective_scan_2d(*inputs, 2, 3)


def test_other_devices_use_the_slab():
    assert dispatch.choose("mps") is dispatch.tier_module("slab")


def test_without_a_compiler_another_tier_runs_and_says_why(in_new_process, tmp_path):
    code = """
import logging, sys, torch
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
from radclear.backbones.scan import available_scans, selective_scan_2d
print(available_scans()["c"])
y = selective_scan_2d(torch.ones(1, 6, 4), torch.ones(4, 1, 6, 4), torch.ones(1, 6, 4, 2),
                      -torch.ones(4, 4, 1), torch.ones(4, 4), torch.ones(4, 4), 2, 3)
assert torch.isfinite(y).all()
"""
    process = in_new_process(code, PATH="", CXX=None, RADCLEAR_SCAN=None, XDG_CACHE_HOME=str(tmp_path))
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert output.startswith("no C++ compiler found on PATH or in $CXX: install g++ or clang\n")
    fallback = "numba" if importlib.util.find_spec("numba") else "slab"
    assert f"selective scan on cpu: {fallback} (not used: c: no C++ compiler found" in output
