"""What every backbone has in common: sizes, interface, TorchScript, determinism, bfloat16."""

from __future__ import annotations

import pytest
import torch

from radclear.backbones import BackboneNameError, build, count_flops, flops, names

TRUNK_MILLIONS = {
    "vit_small": 21.67,
    "vit_base": 85.80,
    "vit_conv_small": 20.62,
    "vit_conv_base": 82.20,
    "vssm_clear": 42.95,
    "vanilla_vmamba_tiny": 22.12,
    "vanilla_vmamba_small": 43.65,
    "vanilla_vmamba_base": 75.23,
    "vmamba_tiny_s2l5": 29.94,
    "vmamba_small_s2l15": 49.38,
    "vmamba_base_s2l15": 87.53,
    "vmamba_tiny_s1l8": 29.48,
    "vmamba_small_s1l20": 48.24,
    "vmamba_base_s1l20": 85.59,
    "mambaout_femto": 5.82,
    "mambaout_kobe": 7.65,
    "mambaout_tiny": 22.91,
    "mambaout_small": 44.85,
    "mambaout_base": 79.37,
}
EMBEDDING_DIMS = {"vit_conv_base": 768, "vit_small": 384, "vssm_clear": 768, "mambaout_tiny": 576}
GFLOPS = {"vssm_clear": 14.29, "vmamba_tiny_s1l8": 9.62, "mambaout_femto": 2.29, "mambaout_tiny": 8.93}
NANO = ("vit_nano", "vssm_nano", "mambaout_nano")


@pytest.fixture(scope="module", params=NANO)
def nano(request) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(request.param, image_size=64).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", names())
def test_names_sizes_and_interface(name):
    with torch.device("meta"):
        backbone = build(name)
        x = torch.empty(2, 3, 224, 224)
        count = sum(parameter.numel() for parameter in backbone.parameters())
        assert backbone.name == name and backbone.image_size == 224
        assert backbone.embed(x).shape == (2, backbone.embedding_dim) == backbone(x).shape
        tokens = backbone.tokens(x)
    assert tokens.shape == (2, 196 if name.startswith("vit") else 49, backbone.embedding_dim)
    if name in NANO:
        assert count < 5e6 and backbone.embedding_dim >= 192
    else:
        assert round(count / 1e6, 2) == TRUNK_MILLIONS[name]
    assert EMBEDDING_DIMS.get(name, backbone.embedding_dim) == backbone.embedding_dim


def test_torchscript_equals_eager(nano, images, tmp_path):
    torch.jit.script(nano).save(str(tmp_path / "scripted.pt"))
    scripted = torch.jit.load(str(tmp_path / "scripted.pt"))
    with torch.no_grad():
        torch.testing.assert_close(scripted(images), nano(images), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(scripted.tokens(images), nano.tokens(images), rtol=1e-4, atol=1e-4)
    assert (scripted.name, scripted.embedding_dim, scripted.image_size) == (
        nano.name,
        nano.embedding_dim,
        64,
    )


def test_evaluation_is_deterministic_and_independent_of_the_batch(nano, images):
    with torch.no_grad():
        first = nano(images)
        assert torch.equal(first, nano(images))
        torch.testing.assert_close(nano(images[1:]), first[1:], rtol=1e-4, atol=1e-5)


def test_bfloat16_autocast_stays_close(nano, images):
    with torch.no_grad():
        expected = nano(images)
        with torch.autocast("cpu", torch.bfloat16):
            found = nano(images).float()
    assert (found - expected).norm() / expected.norm() < 2e-2


def test_every_parameter_that_shapes_the_embedding_gets_a_gradient(nano, images):
    nano.train()
    nano(images).square().sum().backward()
    missing = [key for key, value in nano.named_parameters() if value.requires_grad and value.grad is None]
    assert missing == []
    assert all(value.grad.isfinite().all() for value in nano.parameters() if value.grad is not None)
    nano.zero_grad(set_to_none=True)
    nano.eval()


def test_fresh_weights_come_from_the_global_generator():
    for name in NANO:
        torch.manual_seed(3)
        first = build(name).state_dict()
        torch.manual_seed(3)
        second = build(name).state_dict()
        third = build(name).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert any(not torch.equal(first[key], third[key]) for key in first)


def test_options_change_the_configuration_and_the_name():
    with torch.device("meta"):
        wider = build("mambaout_tiny", dims=(96, 192, 384, 768))
        assert wider.embedding_dim == 768
        assert wider.name == "mambaout_custom"
        assert build("vit_small", embedding_dim=768).name == "vit_base"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet50", {}, "no backbone called 'resnet50'; choose one of: vit_small, vit_base"),
        ("vit_small", {"heads": 6}, "vit_small has no option heads; its options are: embedding_dim, depth"),
        ("vit_small", {"embedding_dim": 100}, "multiple of 12 heads, got 100"),
        ("vssm_clear", {"stem": "v9"}, "unknown stem 'v9' \\(v1, v2\\)"),
        ("mambaout_tiny", {"depths": (3, 3)}, "one entry a stage"),
    ],
)
def test_what_cannot_be_built_is_an_error_that_says_what_can(name, options, message):
    with pytest.raises(BackboneNameError, match=message):
        build(name, **options)


@pytest.mark.parametrize(("name", "gigaflops"), GFLOPS.items())
def test_flops_are_those_of_products_and_convolutions(name, gigaflops):
    assert round(flops(name) / 1e9, 2) == gigaflops


def test_flops_of_a_vit_by_hand():
    """Everything but the last block is computed for all tokens, the last block's queries for one."""
    tokens, dim = 197, 384
    product = 2 * tokens * dim * dim
    block = 12 * product + 2 * 2 * tokens * tokens * dim
    last = 2 * product + 10 * product // tokens + 2 * 2 * tokens * dim
    patches = 2 * 196 * dim * 3 * 16 * 16
    assert flops("vit_small") == 11 * block + last + patches


def test_counting_flops_leaves_the_backbone_alone(nano):
    before = nano.state_dict()
    assert count_flops(nano, 64) == count_flops(nano) > 0
    assert all(value.device.type == "cpu" for value in before.values())
