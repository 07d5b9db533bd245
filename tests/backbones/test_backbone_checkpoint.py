"""Published checkpoints by their key and shape lists, and everything that is not one."""

from __future__ import annotations

import logging

import pytest
import torch

from radclear.backbones import BackboneCheckpointError, build, load_backbone, names

# file of ../shared/spec/keys -> (registered name, tensors, trunk parameters and buffers)
PUBLISHED = {
    "moco_vit_small": ("vit_small", 150),
    "moco_vit_base": ("vit_base", 150),
    "moco_vit_conv_small": ("vit_conv_small", 162),
    "moco_vit_conv_base": ("vit_conv_base", 162),
    "vssm_VSSM_clear": ("vssm_clear", 303),
    "vssm_vanilla_vmamba_tiny": ("vanilla_vmamba_tiny", 210),
    "vssm_vmamba_tiny_s2l5": ("vmamba_tiny_s2l5", 220),
    "vssm_vmamba_small_s2l15": ("vmamba_small_s2l15", 400),
    "vssm_vmamba_base_s2l15": ("vmamba_base_s2l15", 400),
    "vssm_vmamba_tiny_s1l8": ("vmamba_tiny_s1l8", 274),
    "mambaout_femto": ("mambaout_femto", 166),
    "mambaout_tiny": ("mambaout_tiny", 166),
    "mambaout_small": ("mambaout_small", 318),
    "mambaout_base": ("mambaout_base", 318),
}


def read_keys(path) -> dict[str, torch.Tensor]:
    """Tensors of exactly the listed shapes, random where they are small and without memory where large."""
    shapes = {}
    for line in path.read_text().splitlines():
        key, _, shape = line.partition(" ")
        shapes[key] = tuple(int(side) for side in shape.split("x")) if shape else ()
    size = sum(torch.Size(shape).numel() for shape in shapes.values())
    device = "cpu" if size < 25e6 else "meta"
    return {key: torch.rand(shape, device=device) for key, shape in shapes.items()}


def small_state(name: str) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return dict(build(name).state_dict())


@pytest.mark.parametrize("file", PUBLISHED)
def test_published_keys_load_strictly_and_all_of_them(shared_keys, file):
    state = read_keys(shared_keys / f"{file}.txt")
    name, count = PUBLISHED[file]
    backbone = load_backbone(state)
    assert backbone.name == name
    assert not backbone.training
    loaded = backbone.state_dict()
    assert set(loaded) == set(state) and len(state) == count
    for key, tensor in state.items():
        assert loaded[key].shape == tensor.shape
        if not tensor.is_meta:
            torch.testing.assert_close(loaded[key], tensor.to(loaded[key].dtype), rtol=0, atol=0)


def test_every_key_list_is_tested(shared_keys):
    assert {path.stem for path in shared_keys.glob("*.txt")} == set(PUBLISHED)


@pytest.mark.parametrize("name", names())
def test_every_registered_backbone_is_recognised_by_its_shapes(name):
    assert load_backbone(small_state(name)).name == name


@pytest.mark.parametrize("name", ["vit_nano", "vssm_nano", "mambaout_nano"])
def test_embeddings_survive_saving_and_loading(name, tmp_path):
    torch.manual_seed(0)
    backbone = build(name, image_size=64).eval()
    torch.save(backbone.state_dict(), tmp_path / "weights.pt")
    again = load_backbone(torch.load(tmp_path / "weights.pt", weights_only=True))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(backbone(x), again(x))
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in backbone.parameters()]


def test_loaded_weights_are_float32_copies():
    state = {key: value.half() for key, value in build("mambaout_nano").state_dict().items()}
    backbone = load_backbone(state)
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    state = build("mambaout_nano").state_dict()
    backbone = load_backbone(state)
    with torch.no_grad():
        backbone.norm.weight.add_(1)
    assert torch.equal(state["norm.weight"], torch.ones(240))


def test_sizes_that_nobody_published_are_inferred():
    for name, options in {
        "mambaout_tiny": {"dims": (96, 192, 384, 768)},
        "mambaout_femto": {"dims": (16, 24, 40), "depths": (1, 2, 3)},
        "vit_small": {"depth": 3, "image_size": 160, "mlp_ratio": 3.0, "patch_size": 8},
        "vssm_clear": {"dims": (20, 40), "depths": (1, 4), "d_state": 8, "ssm_ratio": 1.5, "mlp_ratio": 0.0},
    }.items():
        with torch.device("meta"):
            expected = build(name, **options)
        backbone = load_backbone(expected.state_dict())
        assert backbone.config == expected.config
        assert backbone.name.endswith("_custom")


# --- wrappings ---


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "base_encoder.", "module.base_encoder."])
def test_wrappers_and_prefixes(wrapper, prefix):
    state = {prefix + key: value for key, value in small_state("mambaout_nano").items()}
    assert load_backbone({wrapper: state, "epoch": 3}).name == "mambaout_nano"


@pytest.mark.parametrize("name", ["vit_nano", "vssm_nano", "mambaout_nano"])
def test_contrastive_checkpoint_gives_its_base_encoder(name):
    head = "classifier.head" if name.startswith("vssm") else "head"
    weights = build(name).state_dict()
    state = {f"module.base_encoder.{key}": value for key, value in weights.items()}
    for index in (0, 1, 3, 4, 6, 7):
        state[f"module.base_encoder.{head}.{index}.weight"] = torch.zeros(4)
    state |= {f"module.momentum_encoder.{key}": torch.zeros_like(value) for key, value in weights.items()}
    state["module.predictor.0.weight"] = torch.zeros(4, 4)
    loaded = load_backbone({"epoch": 3, "state_dict": state, "optimizer": {}}).state_dict()
    assert set(loaded) == set(weights)
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


def test_old_vmamba_names_and_convolutions_in_place_of_matrices():
    weights = build("vanilla_vmamba_tiny", dims=(16, 32), depths=(1, 1)).state_dict()
    old = {}
    for key, value in weights.items():
        key = key.replace(".blocks.0.norm.", ".blocks.0.ln_1.").replace(".op.", ".self_attention.")
        key = key.replace("patch_embed.0.", "patch_embed.proj.").replace(
            "patch_embed.2.", "patch_embed.norm."
        )
        key = key.replace("classifier.norm.", "norm.")
        if key.endswith(("in_proj.weight", "out_proj.weight")):
            value = value[:, :, None, None]
        old[key] = value
    old |= {"head.weight": torch.zeros(1000, 32), "head.bias": torch.zeros(1000)}
    loaded = load_backbone({"model": old}).state_dict()
    assert set(loaded) == set(weights)
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


def test_two_wrapped_models_are_named_in_the_log(caplog):
    state = small_state("mambaout_nano")
    with caplog.at_level(logging.WARNING):
        load_backbone({"model": state, "model_ema": state})
    assert "checkpoint holds model and model_ema; taking 'model'" in caplog.text


def test_positions_that_are_not_moco_s_are_noted(caplog):
    state = build("vit_nano").state_dict()
    with caplog.at_level(logging.WARNING):
        load_backbone(state)
        assert caplog.text == ""
        load_backbone(state | {"pos_embed": torch.randn(1, 197, 192)})
    assert "number of attention heads" in caplog.text


# --- what is not a backbone ---


@pytest.mark.parametrize("name", ["vit_nano", "vssm_nano", "mambaout_nano"])
def test_each_missing_key_is_named(name):
    state = small_state(name)
    for key in state:
        with pytest.raises(BackboneCheckpointError) as caught:
            load_backbone({other: value for other, value in state.items() if other != key})
        assert key in str(caught.value) and key in caught.value.missing


@pytest.mark.parametrize("name", ["vit_nano", "vssm_nano", "mambaout_nano"])
@pytest.mark.parametrize("extra", ["fc_norm.weight", "blocks_extra", "stages.0.0.gamma", "cls_head.weight"])
def test_an_additional_key_is_named(name, extra):
    with pytest.raises(BackboneCheckpointError) as caught:
        load_backbone(small_state(name) | {extra: torch.zeros(3)})
    assert caught.value.unexpected == (extra,)
    assert extra in str(caught.value)


def test_wrong_shapes_are_named_with_both_shapes():
    state = small_state("mambaout_nano")
    state["stages.2.1.fc2.weight"] = torch.zeros(120, 255)
    with pytest.raises(
        BackboneCheckpointError, match=r"stages.2.1.fc2.weight is \(120, 255\), expected \(120, 320\)"
    ):
        load_backbone(state)


def test_a_resnet_is_refused():
    state = {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}
    with pytest.raises(
        BackboneCheckpointError, match="no backbone known here.*conv1.weight, layer1.0.conv1.weight"
    ):
        load_backbone(state)


def test_two_families_at_once_are_refused():
    with pytest.raises(BackboneCheckpointError, match="vit and mambaout"):
        load_backbone(small_state("vit_nano") | small_state("mambaout_nano"))


def test_what_is_not_a_state_dict_is_refused():
    with pytest.raises(BackboneCheckpointError, match=r"found Linear.*state_dict\(\)"):
        load_backbone(torch.nn.Linear(2, 2))
    with pytest.raises(BackboneCheckpointError, match=r"epoch \(int\)"):
        load_backbone({"epoch": 3})
    with pytest.raises(BackboneCheckpointError, match="no keys at all"):
        load_backbone({})


def test_impossible_sizes_are_refused():
    state = small_state("vit_nano")
    state["norm.weight"] = torch.zeros(100)
    with pytest.raises(BackboneCheckpointError, match="12 heads, got 100"):
        load_backbone(state)


def test_long_lists_are_cut_but_kept_in_the_error():
    state = small_state("vit_nano")
    partial = {
        key: value for key, value in state.items() if "mlp.fc2" in key or "norm" in key or "fc1" in key
    }
    partial["blocks.0.attn.qkv.weight"] = state["blocks.0.attn.qkv.weight"]
    with pytest.raises(BackboneCheckpointError, match="and [0-9]+ more") as caught:
        load_backbone(partial | {"blocks.30.attn.qkv.weight": torch.zeros(576, 192)})
    assert len(caught.value.missing) > 30
