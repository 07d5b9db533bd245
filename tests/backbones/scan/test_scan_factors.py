"""The scan that makes its time steps from their factors, against a loop in float64 that multiplies first."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from oracle import factor_inputs, naive_scan_of_factors, relative_error

from radclear.backbones import build
from radclear.backbones.scan import (
    ScanUnavailableError,
    c_kernel,
    selective_scan_2d_factors,
    takes_factors,
)

# Chunks of 32 steps, eight of them multiplied at once: whole and short ones; channels on and off 32.
SHAPES = (
    dict(batch=2, height=5, width=9, channels=20, states=1, rank=1),
    dict(batch=1, height=9, width=8, channels=64, states=16, rank=6),
    dict(batch=2, height=6, width=11, channels=35, states=4, rank=37),
    dict(batch=1, height=2, width=3, channels=48, states=5, rank=3),
    dict(batch=1, height=2, width=2, channels=33, states=256, rank=256),
)


@pytest.fixture(autouse=True)
def without_gradients(force_tier):
    force_tier("c")
    with torch.no_grad():
        yield


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_loop_on_the_same_values(shape):
    """Only x and the projection are rounded, before the loop sees them: the arithmetic is float32's."""
    inputs, size = factor_inputs(**shape), (shape["height"], shape["width"])
    assert takes_factors(*inputs[:3])
    y = selective_scan_2d_factors(*inputs, *size)
    assert y.dtype == torch.float32 and relative_error(y, naive_scan_of_factors(*inputs, *size)) <= 1e-6


def test_a_slice_of_a_wider_projection_is_not_copied(monkeypatch):
    x, projection, *others = factor_inputs(batch=2, height=6, width=7, channels=40, states=4, rank=5)
    wider = torch.cat([torch.full_like(projection[..., :3], torch.nan), projection], dim=-1)[..., 3:]
    seen, call = [], c_kernel._call
    monkeypatch.setattr(c_kernel, "_call", lambda name, *rest: seen.append(rest[1]) or call(name, *rest))
    y = selective_scan_2d_factors(x, wider, *others, 6, 7)
    assert [tensor.data_ptr() for tensor in seen[0][:2]] == [x.data_ptr(), wider.data_ptr()]
    assert torch.equal(y, selective_scan_2d_factors(x, projection, *others, 6, 7))


def test_a_long_memory_and_extremes():
    """Slow decays, where an inexact exponential would add up; steps that forget everything or nothing."""
    x, projection, weight, A, D, bias = factor_inputs(
        batch=1, height=24, width=24, channels=48, states=16, rank=1
    )
    slow = (x, projection, weight * 0.1, A / 16, D * 0, torch.full((4, 48), -6.9))
    extreme = projection.clone()
    extreme[:, ::3, :, 0], extreme[:, 1::3, :, 0] = 1e4, -1e4
    for inputs in (slow, (x, extreme, torch.ones_like(weight), A * 50, D, bias)):
        y = selective_scan_2d_factors(*inputs, 24, 24)
        assert torch.isfinite(y).all()
        assert relative_error(y, naive_scan_of_factors(*inputs, 24, 24)) <= 5e-6


def test_what_is_not_a_number_stays_so():
    x, projection, *others = factor_inputs(batch=1, height=3, width=3, channels=32, states=4, rank=2)
    x[0, 4, 7] = torch.nan
    y = selective_scan_2d_factors(x, projection, *others, 3, 3)
    assert y[0, 4, 7].isnan() and y[..., :7].isfinite().all() and y[..., 8:].isfinite().all()
    projection[0, 4, :, 0] = torch.nan  # a factor of the steps, and neither B nor C
    assert selective_scan_2d_factors(x, projection, *others, 3, 3)[0, 4].isnan().all()


def test_time_steps_keep_their_relative_accuracy():
    """One pixel, x, B and C of 1: the result is four time steps, softplus of what the factors say."""
    z = torch.linspace(-10, 5, 64 * 40, dtype=torch.float64).view(40, 64).float()
    x, projection = torch.ones(40, 1, 64).bfloat16(), torch.ones(40, 1, 4, 3).bfloat16()
    shared = torch.zeros(4, 64, 1), -torch.ones(4, 64, 1), torch.zeros(4, 64)
    for row, expected in zip(z, F.softplus(z.double()), strict=True):
        y = selective_scan_2d_factors(x[:1], projection[:1], *shared, row.expand(4, 64), 1, 1)
        assert ((y[0, 0] / 4 - expected).abs() <= 1e-6 * expected).all()


def test_it_is_for_inference_in_bfloat16_on_the_c_kernel_alone(force_tier):
    x, projection, weight, *_ = factor_inputs(batch=1, height=2, width=3, channels=16, states=2, rank=2)
    assert takes_factors(x, projection, weight)
    assert not takes_factors(x.float(), projection, weight)
    assert not takes_factors(x, projection.float(), weight)
    assert not takes_factors(x, projection, weight[..., :1].expand(4, 16, 257))
    with torch.enable_grad():
        assert not takes_factors(x, projection, weight)
    force_tier("slab")
    assert not takes_factors(x, projection, weight)


def test_shapes_that_do_not_fit_are_named():
    x, projection, *others = factor_inputs(batch=1, height=2, width=3, channels=16, states=2, rank=2)
    with pytest.raises(ValueError, match=r"projection must have shape \(1, 6, 4, 6\) .* got \(1, 6, 4, 5\)"):
        selective_scan_2d_factors(x, projection[..., 1:], *others, 2, 3)
    with pytest.raises(ValueError, match="x has 6 pixels"):
        selective_scan_2d_factors(x, projection, *others, 2, 4)
    weight, *rest = others
    with pytest.raises(ValueError, match=r"weight \(3, 16, 2\) \(4, C, R\)"):
        selective_scan_2d_factors(x, projection, weight[:3], *rest, 2, 3)
    with pytest.raises(TypeError, match="scans bfloat16 from factors.* got x torch.float32"):
        selective_scan_2d_factors(x.float(), projection, *others, 2, 3)


def test_another_tier_is_refused(force_tier):
    inputs = factor_inputs(batch=1, height=2, width=3, channels=16, states=2, rank=2)
    force_tier("slab")
    with pytest.raises(ScanUnavailableError, match="ask takes_factors first"):
        selective_scan_2d_factors(*inputs, 2, 3)


def test_a_backbone_embeds_alike_with_and_without(force_tier):
    torch.manual_seed(0)
    backbone, image = build("vssm_nano", image_size=64).eval(), torch.randn(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        fused = backbone(image)
        force_tier("slab")
        apart = backbone(image)
    wide = backbone(image)
    assert relative_error(fused, apart) <= 0.02 and relative_error(fused, wide) <= 0.02
