"""Every CPU tier against the naive float64 loop, and what all tiers share."""

from __future__ import annotations

import pytest
import torch
from oracle import TENSORS, naive_scan_2d, relative_error, scan_inputs, with_gradients

from radclear.backbones.scan import selective_scan_2d
from radclear.backbones.scan.dispatch import tier_module
from radclear.backbones.scan.orders import CHUNK

TIERS = ("c", "numba", "slab")
# More than one chunk of steps, a short last one; channels at and off a multiple of 16; H != W; B > 1.
SHAPES = (
    dict(batch=2, height=5, width=9, channels=20, states=1),
    dict(batch=1, height=9, width=5, channels=32, states=16),
    dict(batch=2, height=6, width=11, channels=35, states=4),
    dict(batch=1, height=3, width=4, channels=16, states=4),
    dict(batch=2, height=1, width=7, channels=16, states=1),
)


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def case(request):
    """Arguments, the gradient of the result, and what the loop makes of them in float64."""
    shape = request.param
    inputs = scan_inputs(**shape)
    grad_y = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1))
    size = (shape["height"], shape["width"])
    expected = with_gradients(naive_scan_2d, [tensor.double() for tensor in inputs], *size, grad_y)
    return inputs, size, grad_y, expected


@pytest.mark.parametrize("tier", TIERS)
def test_forward_and_gradients_equal_the_loop(tier, case, force_tier):
    inputs, size, grad_y, (expected, expected_gradients) = case
    force_tier(tier)
    y, gradients = with_gradients(selective_scan_2d, inputs, *size, grad_y)
    assert y.dtype == torch.float32 and y.shape == inputs[0].shape
    assert relative_error(y, expected) <= 1e-6
    for name, gradient, wanted in zip(TENSORS, gradients, expected_gradients, strict=True):
        assert relative_error(gradient, wanted) <= 1e-5, name
    with torch.no_grad():
        assert torch.equal(selective_scan_2d(*inputs, *size), y)  # the same with and without states kept


@pytest.mark.parametrize("tier", TIERS)
def test_small_time_steps_over_a_long_memory(tier, force_tier):
    """Steps of 0.001 and slow decay: where an inexact logarithm or exponential would add up."""
    force_tier(tier)
    size = (24, 24)
    x, dts, bc, A, D, bias = scan_inputs(batch=1, height=24, width=24, channels=16, states=4)
    decay = torch.rand(4, 16, 4, generator=torch.Generator().manual_seed(2))
    dts, A, bias = dts * 0.1, -decay - 0.05, torch.full((4, 16), -6.9)
    inputs = (x, dts, bc, A, D * 0, bias)
    expected = naive_scan_2d(*[tensor.double() for tensor in inputs], *size)
    assert relative_error(selective_scan_2d(*inputs, *size), expected) <= 1e-6


@pytest.mark.parametrize("tier", TIERS)
def test_extreme_values_stay_finite_and_right(tier, force_tier):
    force_tier(tier)
    x, dts, bc, A, D, bias = scan_inputs(batch=1, height=4, width=9, channels=17, states=4)
    dts = dts.clone()
    dts[:, :, ::3] = 1e4  # forgets everything at once
    dts[:, :, 1::3] = -1e4  # remembers everything, takes in nothing
    bias = bias.clone()
    bias[0], bias[1] = 80.0, -80.0
    inputs = (x, dts, bc, A * 50, D, bias)
    grad_y = torch.ones_like(x)
    expected, expected_gradients = with_gradients(naive_scan_2d, [t.double() for t in inputs], 4, 9, grad_y)
    y, gradients = with_gradients(selective_scan_2d, inputs, 4, 9, grad_y)
    assert torch.isfinite(y).all() and relative_error(y, expected) <= 1e-6
    for name, gradient, wanted in zip(TENSORS, gradients, expected_gradients, strict=True):
        assert torch.isfinite(gradient).all(), name
        assert relative_error(gradient, wanted) <= 1e-5, name


@pytest.mark.parametrize("tier", TIERS)
def test_half_precision_is_computed_in_float32(tier, force_tier):
    force_tier(tier)
    halves = scan_inputs(batch=1, height=4, width=5, channels=18, states=4, dtype=torch.bfloat16)
    grad_y = torch.ones(1, 20, 18)
    y, gradients = with_gradients(selective_scan_2d, halves, 4, 5, grad_y)
    floats = [tensor.float() for tensor in halves]
    expected, expected_gradients = with_gradients(selective_scan_2d, floats, 4, 5, grad_y)
    assert y.dtype == torch.float32 and torch.equal(y, expected)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert gradient.dtype == torch.bfloat16 and torch.equal(gradient, wanted.bfloat16())


@pytest.mark.parametrize("tier", TIERS)
def test_a_step_that_is_not_a_number_shows_from_its_pixel_on(tier, force_tier):
    force_tier(tier)
    x, dts, *others = scan_inputs(batch=1, height=3, width=4, channels=20, states=4)
    dts[0, 0, 5, 7] = torch.nan  # of order 0, which walks row by row
    y = selective_scan_2d(x, dts, *others, 3, 4)
    assert y[0, 5:, 7].isnan().all() and y[0, :5, 7].isfinite().all()
    assert y[..., :7].isfinite().all() and y[..., 8:].isfinite().all()


@pytest.mark.parametrize("tier", TIERS)
def test_autocast_does_not_reach_the_scan(tier, force_tier):
    force_tier(tier)
    inputs = scan_inputs(batch=1, height=4, width=5, channels=16, states=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, gradients = with_gradients(selective_scan_2d, inputs, 4, 5, torch.ones(1, 20, 16))
    expected, expected_gradients = with_gradients(selective_scan_2d, inputs, 4, 5, torch.ones(1, 20, 16))
    assert torch.equal(y, expected)
    assert all(torch.equal(*pair) for pair in zip(gradients, expected_gradients, strict=True))


@pytest.mark.parametrize("tier", TIERS)
def test_slices_and_transposed_inputs(tier, force_tier):
    """bc is a slice of the caller's projection, the others may have any strides too."""
    force_tier(tier)
    inputs = scan_inputs(batch=2, height=3, width=4, channels=16, states=4)
    x, dts, bc, A, D, bias = inputs
    strided = (
        x.transpose(1, 2).contiguous().transpose(1, 2),
        dts.transpose(0, 1).contiguous().transpose(0, 1),
        torch.cat([torch.randn(2, 12, 4, 3), bc], dim=-1)[..., 3:],
        A.transpose(0, 2).contiguous().transpose(0, 2),
        D.t().contiguous().t(),
        torch.stack([bias, bias], dim=-1)[..., 0],
    )
    assert not any(tensor.is_contiguous() for tensor in strided)
    grad_y = torch.randn(2, 16, 12).transpose(1, 2)
    y, gradients = with_gradients(selective_scan_2d, inputs, 3, 4, grad_y)
    module = tier_module(tier)
    assert torch.equal(module.forward(*strided, 3, 4, False)[0], y)
    saved = module.forward(*strided, 3, 4, True)[1]
    for gradient, wanted in zip(
        module.backward(grad_y, *strided, saved, 3, 4), gradients, strict=True
    ):  # gradients of slices are dense, whatever the strides of their inputs
        torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tier", TIERS)
def test_a_column_scan_is_a_row_scan_of_the_transposed_image(tier, force_tier):
    """Exchanging H and W, and the row orders with the column orders, transposes the result."""
    force_tier(tier)
    height, width, exchanged = 4, 6, [1, 0, 3, 2]
    x, dts, bc, A, D, bias = scan_inputs(batch=1, height=height, width=width, channels=16, states=4)
    turned = torch.arange(height * width).reshape(height, width).T.flatten()
    y = selective_scan_2d(x, dts, bc, A, D, bias, height, width)
    other = selective_scan_2d(
        x[:, turned],
        dts[exchanged][:, :, turned],
        bc[:, turned][:, :, exchanged],
        A[exchanged],
        D[exchanged],
        bias[exchanged],
        width,
        height,
    )
    torch.testing.assert_close(other, y[:, turned], rtol=1e-5, atol=1e-5)


def test_states_mean_the_same_in_every_tier():
    """So that any tier's backward can follow any tier's forward."""
    inputs = scan_inputs(batch=2, height=7, width=10, channels=21, states=4)
    _, expected = tier_module("slab").forward(*inputs, 7, 10, True)
    assert expected.shape == (-(-70 // CHUNK), 4, 2, 4, 21)
    for name in ("c", "numba"):
        module = tier_module(name)
        try:
            module.prepare("cpu")
        except Exception as error:
            pytest.skip(f"{name}: {error}")
        assert relative_error(module.forward(*inputs, 7, 10, True)[1], expected) <= 1e-6


@pytest.mark.parametrize("tier", ("c", "numba"))
def test_float64_is_refused_where_the_kernel_has_float32(tier, force_tier):
    force_tier(tier)
    inputs = scan_inputs(batch=1, height=2, width=2, channels=2, states=1, dtype=torch.float64)
    with pytest.raises(TypeError, match="computes in float32, got torch.float64"):
        tier_module(tier).forward(*inputs, 2, 2, False)


def test_many_states_are_refused_by_the_c_kernel(force_tier):
    force_tier("c")
    inputs = scan_inputs(batch=1, height=2, width=2, channels=2, states=257)
    with pytest.raises(ValueError, match="at most 256 states, got 257"):
        selective_scan_2d(*inputs, 2, 2)
