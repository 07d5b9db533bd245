"""The scan as a torch operator: gradients, shapes without data, TorchScript, the compiler."""

from __future__ import annotations

import io

import pytest
import torch
from oracle import relative_error, scan_inputs

from radclear.backbones.scan import selective_scan_2d, selective_scan_2d_torch
from radclear.backbones.scan.operator import scan_backward, scan_forward

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:")


def leaves(**shape):
    return [tensor.requires_grad_() for tensor in scan_inputs(**shape)]


def test_gradcheck_in_float64(force_tier):
    force_tier("slab")
    inputs = scan_inputs(batch=2, height=3, width=12, channels=2, states=2, dtype=torch.float64)

    def scan(*tensors):
        return scan_forward(*tensors, 3, 12, True)[0]

    assert torch.autograd.gradcheck(scan, [tensor.requires_grad_() for tensor in inputs], fast_mode=True)


@pytest.mark.parametrize("tier", ("c", "slab"))
def test_operators_keep_their_contract_with_torch(tier, force_tier):
    """Schema, registration, and shapes and strides told without data agree with the real ones."""
    force_tier(tier)
    inputs = leaves(batch=2, height=5, width=7, channels=18, states=4)
    torch.library.opcheck(scan_forward, (*inputs, 5, 7, True), test_utils=("test_schema", "test_faketensor"))
    with torch.no_grad():
        y, saved = scan_forward(*inputs, 5, 7, True)
        arguments = (torch.ones_like(y), *inputs, saved, 5, 7)
        torch.library.opcheck(scan_backward, arguments, test_utils=("test_schema", "test_faketensor"))


def test_one_graph_under_torch_compile(force_tier):
    """The compiler sees one step without a break; its default code generator is not needed to see that."""
    force_tier("slab")
    inputs = leaves(batch=1, height=4, width=5, channels=6, states=2)
    compiled = torch.compile(selective_scan_2d, fullgraph=True, backend="aot_eager")
    y, expected = compiled(*inputs, 4, 5), selective_scan_2d(*inputs, 4, 5)
    assert torch.equal(y, expected)
    for gradient, wanted in zip(
        torch.autograd.grad(y.sum(), inputs), torch.autograd.grad(expected.sum(), inputs), strict=True
    ):
        assert torch.equal(gradient, wanted)


def test_meta_tensors_have_the_shape():
    inputs = [tensor.to("meta") for tensor in scan_inputs(batch=2, height=3, width=4, channels=5, states=2)]
    y = selective_scan_2d(*inputs, 3, 4)
    assert y.device.type == "meta" and y.shape == (2, 12, 5)


def test_scripted_equals_eager():
    scripted = torch.jit.script(selective_scan_2d_torch)
    buffer = io.BytesIO()
    torch.jit.save(scripted, buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for shape in (
        dict(batch=2, height=5, width=9, channels=20, states=4),
        dict(batch=1, height=6, width=6, channels=16, states=1),
    ):
        inputs, size = scan_inputs(**shape), (shape["height"], shape["width"])
        eager = selective_scan_2d_torch(*inputs, *size)
        for _ in range(3):  # the second run is the optimised one
            assert torch.equal(loaded(*inputs, *size), eager)
        assert relative_error(eager, selective_scan_2d(*inputs, *size)) <= 1e-6
    assert loaded(*[tensor.bfloat16() for tensor in inputs], *size).dtype == torch.float32


def test_scripted_runs_with_parameters_that_want_gradients():
    """An exported model is often called without no_grad: it must run, and gives no gradient."""
    inputs = leaves(batch=1, height=3, width=3, channels=4, states=2)
    assert not torch.jit.script(selective_scan_2d_torch)(*inputs, 3, 3).requires_grad


def test_a_model_branches_on_scripting():
    class Core(torch.nn.Module):
        def forward(self, x, dts, bc, A, D, bias):
            if torch.jit.is_scripting():
                return selective_scan_2d_torch(x, dts, bc, A, D, bias, 3, 4)
            else:
                return selective_scan_2d(x, dts, bc, A, D, bias, 3, 4)

    inputs = scan_inputs(batch=1, height=3, width=4, channels=5, states=2)
    assert relative_error(torch.jit.script(Core())(*inputs), Core()(*inputs)) <= 1e-6


def test_activation_checkpointing():
    inputs = leaves(batch=1, height=3, width=4, channels=5, states=2)
    plain = torch.autograd.grad(selective_scan_2d(*inputs, 3, 4).sum(), inputs)
    y = torch.utils.checkpoint.checkpoint(selective_scan_2d, *inputs, 3, 4, use_reentrant=False)
    for gradient, wanted in zip(torch.autograd.grad(y.sum(), inputs), plain, strict=True):
        assert torch.equal(gradient, wanted)


def test_a_backward_without_states_says_so(force_tier):
    force_tier("slab")
    inputs = leaves(batch=1, height=2, width=2, channels=2, states=1)
    y, _ = scan_forward(*inputs, 2, 2, False)
    with pytest.raises(RuntimeError, match="keep_states=True"):
        y.sum().backward()


def test_shapes_that_do_not_fit_are_named():
    x, dts, bc, A, D, bias = scan_inputs(batch=2, height=3, width=4, channels=5, states=2)
    with pytest.raises(ValueError, match="x has 12 pixels, height 3 x width 5 needs 15"):
        selective_scan_2d(x, dts, bc, A, D, bias, 3, 5)
    with pytest.raises(ValueError, match=r"bc must have shape \(2, 12, 4, 4\).*got \(2, 12, 4, 3\)"):
        selective_scan_2d(x, dts, bc[..., 1:], A, D, bias, 3, 4)
    with pytest.raises(ValueError, match=r"D must have shape \(4, 5\)"):
        selective_scan_2d(x, dts, bc, A, D[:2], bias, 3, 4)
    with pytest.raises(ValueError, match=r"x must be \(B, L, C\)"):
        selective_scan_2d(x[0], dts, bc, A, D, bias, 3, 4)
