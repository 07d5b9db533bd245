"""ViT against a plain float64 rewrite, and the quirks of MoCo-v3."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from backbone_oracles import vit_tokens, weights_of

from radclear.backbones import build
from radclear.backbones.vit import attend, sincos_position_embedding


def shake(module: torch.nn.Module) -> torch.nn.Module:
    """Weights, biases and running statistics far from their initial values."""
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point() and key != "pos_embed":
                tensor.add_(torch.randn_like(tensor) * 0.05)
    return module


@pytest.mark.parametrize("conv_stem", [False, True])
def test_equals_the_plain_rewrite_in_float64(conv_stem):
    torch.manual_seed(0)
    vit = (
        shake(build("vit_nano", depth=2, embedding_dim=48, image_size=64, conv_stem=conv_stem))
        .double()
        .eval()
    )
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    expected = vit_tokens(x, weights_of(vit), depth=2)
    with torch.no_grad():
        torch.testing.assert_close(vit.tokens(x), expected[:, 1:], rtol=1e-9, atol=1e-11)
        # the class token alone goes through the last block, which must not change it
        torch.testing.assert_close(vit.embed(x), expected[:, 0], rtol=1e-9, atol=1e-11)


def test_position_embedding_has_rows_first_and_a_zero_class_token():
    grid, dim = 3, 16
    embedding = sincos_position_embedding(grid, dim)
    assert embedding.shape == (1, 10, dim)
    assert torch.equal(embedding[0, 0], torch.zeros(dim))
    for row in range(grid):
        for column in range(grid):
            angles = [10000 ** (-i / (dim / 4)) for i in range(dim // 4)]
            expected = [
                *(math.sin(row * a) for a in angles),
                *(math.cos(row * a) for a in angles),
                *(math.sin(column * a) for a in angles),
                *(math.cos(column * a) for a in angles),
            ]
            torch.testing.assert_close(embedding[0, 1 + row * grid + column], torch.tensor(expected))


def test_positions_are_fixed_but_stored():
    vit = build("vit_nano")
    assert not vit.pos_embed.requires_grad
    assert "pos_embed" in vit.state_dict()


@pytest.mark.parametrize("name", ["vit_small", "vit_base", "vit_conv_small", "vit_conv_base", "vit_nano"])
def test_every_width_has_12_heads(name):
    with torch.device("meta"):
        assert {block.attn.heads for block in build(name).blocks} == {12}


def test_initialisation_bounds_q_k_and_v_each_for_itself():
    torch.manual_seed(0)
    block = build("vit_nano").blocks[0]
    bound = math.sqrt(6 / (192 + 192))
    assert 0.99 * bound < block.attn.qkv.weight.abs().max() <= bound
    assert 0.99 * math.sqrt(6 / (192 * 5)) < block.mlp.fc1.weight.abs().max() <= math.sqrt(6 / (192 * 5))
    assert not block.attn.qkv.bias.any()


def test_16_bit_attention_agrees_with_the_fused_kernel():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 12, 50, 32).unbind(0)
    expected = F.scaled_dot_product_attention(q, k, v)
    found = attend(q.bfloat16(), k.bfloat16(), v.bfloat16()).float()
    assert (found - expected).norm() / expected.norm() < 1e-2


def test_an_image_of_another_side_is_refused():
    with pytest.raises(ValueError, match="side 224, got 192 x 224"):
        build("vit_nano").embed(torch.zeros(1, 3, 192, 224))
