"""The tiers for CUDA: Triton under its interpreter, mamba-ssm's adapter against a stand-in, a GPU if any."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from oracle import naive_scan_2d, relative_error, scan_inputs, with_gradients

from radclear.backbones.scan import (
    ScanUnavailableError,
    available_scans,
    mamba_adapter,
    selective_scan_2d,
)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_triton_equals_the_loop_under_its_interpreter(in_new_process):
    """Channels above one block and two chunks of steps; B > 1; states that are no power of two; H != W."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
from oracle import *
from radclear.backbones.scan import selective_scan_2d
for batch, height, width, channels in ((1, 5, 7, 33), (2, 2, 3, 5)):
    inputs = scan_inputs(batch=batch, height=height, width=width, channels=channels, states=3)
    grad_y = torch.randn(inputs[0].shape)
    y, gradients = with_gradients(selective_scan_2d, inputs, height, width, grad_y)
    doubles = [tensor.double() for tensor in inputs]
    expected, wanted = with_gradients(naive_scan_2d, doubles, height, width, grad_y)
    print(relative_error(y, expected), *[relative_error(*pair) for pair in zip(gradients, wanted)])
"""
    process = in_new_process(code, TRITON_INTERPRET="1", RADCLEAR_SCAN="triton")
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    lines = output.splitlines()
    assert len(lines) == 2
    for line in lines:
        forward, *gradients = [float(number) for number in line.split()]
        assert forward <= 1e-6 and len(gradients) == 6 and max(gradients) <= 1e-5, output


@pytest.fixture
def triton_kernel(monkeypatch):
    """The tier's module, on a machine where Triton is installed and imports."""
    from radclear.backbones.scan import triton_kernel

    loops = types.ModuleType("radclear.backbones.scan.triton_loops")
    monkeypatch.setitem(sys.modules, loops.__name__, loops)
    monkeypatch.setattr(triton_kernel, "probe", lambda device_type: None)
    return triton_kernel


def test_triton_that_cannot_compile_is_not_chosen(triton_kernel, monkeypatch):
    """Its first call is where Triton looks for a C compiler."""

    def refuse(*arguments):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(triton_kernel, "forward", refuse)
    with pytest.raises(ScanUnavailableError, match="triton does not run here: Failed to find C compiler"):
        triton_kernel.prepare("cpu")


def test_short_memory_is_not_held_against_triton(triton_kernel, monkeypatch):
    def short(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(triton_kernel, "forward", short)
    with pytest.raises(torch.OutOfMemoryError):
        triton_kernel.prepare("cpu")


def scan_of_groups(u, delta, A, B, C, D, delta_bias):
    """What mamba-ssm's extension computes: u, delta (B, GC, L), A (GC, N), B and C (B, G, N, L)."""
    delta = F.softplus(delta + delta_bias[:, None])
    channels = u.shape[1] // B.shape[1]
    b, c = B.repeat_interleave(channels, 1), C.repeat_interleave(channels, 1)
    h, steps = torch.zeros(*u.shape[:2], A.shape[1], dtype=u.dtype), []
    for t in range(u.shape[2]):
        h = torch.exp(delta[:, :, t, None] * A) * h + (delta * u)[:, :, t, None] * b[..., t]
        steps.append((h * c[..., t]).sum(-1))
    return torch.stack(steps, 2) + D[:, None] * u


@pytest.fixture
def stand_in(monkeypatch):
    """A module with the interface of mamba-ssm's CUDA extension, on the CPU."""
    module = types.ModuleType("selective_scan_cuda")

    def fwd(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
        assert z is None and delta_softplus
        assert all(
            tensor.is_contiguous() and tensor.dtype == torch.float32 for tensor in (u, delta, A, B, C, D)
        )
        return scan_of_groups(u, delta, A, B, C, D, delta_bias), torch.ones(3)

    def bwd(u, delta, A, B, C, D, z, delta_bias, dout, x, out, dz, delta_softplus, recompute_out_z):
        assert torch.equal(x, torch.ones(3)) and out is None and dz is None and not recompute_out_z
        with torch.enable_grad():
            inputs = [tensor.detach().requires_grad_() for tensor in (u, delta, A, B, C, D, delta_bias)]
            return torch.autograd.grad(scan_of_groups(*inputs), inputs, dout)

    module.fwd, module.bwd = fwd, bwd
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", module)


def test_mamba_adapter_lays_out_and_back(stand_in):
    inputs = scan_inputs(batch=2, height=3, width=5, channels=4, states=3)
    grad_y = torch.randn(inputs[0].shape)
    y, saved = mamba_adapter.forward(*inputs, 3, 5, False)
    gradients = mamba_adapter.backward(grad_y, *inputs, saved, 3, 5)
    expected, wanted = with_gradients(naive_scan_2d, [t.double() for t in inputs], 3, 5, grad_y)
    assert relative_error(y, expected) <= 1e-6
    for gradient, reference, tensor in zip(gradients, wanted, inputs, strict=True):
        assert gradient.shape == tensor.shape and relative_error(gradient, reference) <= 1e-5
    assert mamba_adapter.forward(*inputs, 3, 5, True)[1].shape == (1, 4, 2, 3, 4)


@pytest.mark.parametrize("tier", ("mamba", "triton", "slab"))
def test_on_a_gpu(tier, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    if available_scans()[tier] != "available":
        pytest.skip(f"{tier}: {available_scans()[tier]}")
    monkeypatch.setenv("RADCLEAR_SCAN", tier)
    inputs = scan_inputs(batch=2, height=9, width=14, channels=40, states=16)
    grad_y = torch.randn(inputs[0].shape)
    y, gradients = with_gradients(selective_scan_2d, [t.cuda() for t in inputs], 9, 14, grad_y.cuda())
    expected, wanted = with_gradients(naive_scan_2d, [t.double() for t in inputs], 9, 14, grad_y)
    assert relative_error(y.cpu(), expected) <= 1e-6
    assert all(relative_error(a.cpu(), b) <= 1e-5 for a, b in zip(gradients, wanted, strict=True))
