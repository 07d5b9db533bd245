"""VSSM against a plain float64 rewrite that scans one pixel after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from backbone_oracles import ss2d, vssm_tokens, weights_of

from radclear.backbones import build
from radclear.backbones.vssm import SS2D, PatchMerging, VSSMConfig

VARIANTS = {
    "clear": ("vssm_clear", {}),
    "vanilla": ("vanilla_vmamba_tiny", {}),
    "s2l5": ("vmamba_tiny_s2l5", {}),
    "s1l8": ("vmamba_tiny_s1l8", {}),
    "odd states": ("vssm_clear", {"d_state": 3}),
}


@pytest.mark.parametrize(("name", "options"), VARIANTS.values(), ids=VARIANTS)
def test_equals_the_plain_rewrite(name, options):
    torch.manual_seed(0)
    module = build(name, dims=(12, 20), depths=(2, 1), **options).eval()
    with torch.no_grad():
        for key, tensor in module.named_parameters():
            tensor.add_(torch.randn_like(tensor) * (0.3 if "x_proj" in key else 0.1))
    x = torch.randn(1, 3, 32, 24)
    expected = vssm_tokens(x.double(), weights_of(module), depths=(2, 1)).flatten(1, 2)
    with torch.no_grad():
        torch.testing.assert_close(module.tokens(x).double(), expected, rtol=1e-4, atol=2e-5)
        # normed first, pooled then
        torch.testing.assert_close(module.embed(x).double(), expected.mean(1), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("states", [1, 16])
@pytest.mark.parametrize("dim", [24, 17])
def test_ss2d_and_its_gradients_equal_the_plain_rewrite(states, dim):
    torch.manual_seed(0)
    op = SS2D(dim, VSSMConfig(d_state=states))
    x = torch.randn(1, 5, 3, dim, requires_grad=True)
    wide = x.detach().double().requires_grad_()
    weights = {key: value.detach().double().requires_grad_() for key, value in op.named_parameters()}
    found, expected = op(x), ss2d(wide, weights)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    direction = torch.randn_like(found)
    found.backward(direction)
    expected.backward(direction.double())
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=1e-3, atol=1e-5)
    for key, tensor in op.named_parameters():
        scale = weights[key].grad.abs().max()
        assert (tensor.grad.double() - weights[key].grad).abs().max() <= 1e-4 * scale, key


def test_scan_is_float32_under_autocast(monkeypatch):
    """The scan's own sums never see 16 bit, whatever surrounds them."""
    import radclear.backbones.vssm as vssm

    seen = []

    def spy(function):
        def spied(*arguments):
            result = function(*arguments)
            seen.append(([tensor.dtype for tensor in arguments[3:6]], result.dtype))
            return result

        return spied

    for name in ("selective_scan_2d", "selective_scan_2d_factors"):
        monkeypatch.setattr(vssm, name, spy(getattr(vssm, name)))
    module = build("vssm_nano", image_size=64).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        module(torch.randn(1, 3, 64, 64))
    assert len(seen) == sum(module.config.depths)
    assert all(dtypes == [torch.float32] * 3 and result == torch.float32 for dtypes, result in seen)


def test_patch_merging_pads_odd_sides():
    torch.manual_seed(0)
    merge = PatchMerging(4, 8)
    x = torch.randn(1, 5, 7, 4)
    assert merge(x).shape == (1, 3, 4, 8)
    torch.testing.assert_close(merge(x), merge(F.pad(x, (0, 0, 0, 1, 0, 1))))


def test_initialisation_of_the_scan():
    torch.manual_seed(0)
    op = SS2D(96, VSSMConfig())
    steps = F.softplus(op.dt_projs_bias)
    assert steps.min() >= 1e-3 * 0.999 and steps.max() <= 1e-1 * 1.001
    assert steps.log().std() > 1
    torch.testing.assert_close(op.A_logs.exp(), torch.arange(1.0, 17).expand(768, 16))
    assert torch.equal(op.Ds, torch.ones(768))
