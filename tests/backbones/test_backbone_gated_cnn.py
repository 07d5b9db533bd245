"""MambaOut against a plain float64 rewrite."""

from __future__ import annotations

import torch
from backbone_oracles import layer_norm, mambaout_map, part, weights_of

from radclear.backbones import build


def small_mambaout() -> torch.nn.Module:
    torch.manual_seed(0)
    module = build("mambaout_nano", dims=(8, 10, 12, 16), depths=(1, 2, 1, 1)).double().eval()
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.1)
    return module


def test_equals_the_plain_rewrite_in_float64():
    module = small_mambaout()
    x = torch.randn(2, 3, 96, 64, dtype=torch.float64)
    weights = weights_of(module)
    expected = mambaout_map(x, weights, depths=(1, 2, 1, 1))
    with torch.no_grad():
        torch.testing.assert_close(module.tokens(x), expected.flatten(1, 2), rtol=1e-9, atol=1e-11)
        pooled = layer_norm(expected.mean((1, 2)), part(weights, "norm."), 1e-6)
        torch.testing.assert_close(module.embed(x), pooled, rtol=1e-9, atol=1e-11)


def test_embedding_is_pooled_first_and_normed_then():
    module = small_mambaout()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(module.embed(x), module.norm(module.tokens(x).mean(1)))
        assert not torch.allclose(module.embed(x), module.norm(module.tokens(x)).mean(1), rtol=1e-3)


def test_memory_layout_of_the_input_does_not_matter():
    module = small_mambaout()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(module(x), module(x.contiguous(memory_format=torch.channels_last)))
