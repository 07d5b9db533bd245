"""Weights are tensors, are what the metadata says, and fit head and backbone, or nothing is loaded."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
from bundle_fixtures import HEADS, ROOT

from radclear.backbones import build
from radclear.bundle import (
    BundleError,
    WeightsError,
    backbone_entry,
    check_bundle,
    load_backbone_bundle,
    load_head,
    load_heads,
    read_metadata,
    read_weights,
    seed_weights,
    started_from,
    store_backbone,
    store_weights,
)
from radclear.bundle.copying import copy_bundle

HEAD = HEADS[1]
PROVENANCE = {"demonstration": True, "training": "For a test."}


@pytest.fixture
def own(bundles, tmp_path):
    """A head and two backbones to write into."""
    for name in (HEAD, "lecl_gated_cnn", "lecl_vit"):
        shutil.copytree(bundles / name, tmp_path / name)
    return tmp_path


def test_stored_weights_come_back_and_equal_weights_are_equal_bytes(own):
    root = own / "lecl_vit"
    state_dict, _ = read_weights(root)
    first = store_weights(root, state_dict, provenance=PROVENANCE)
    content = (root / "models" / "model.pt").read_bytes()
    second = store_weights(root, dict(state_dict), provenance=PROVENANCE)
    assert first == second and (root / "models" / "model.pt").read_bytes() == content
    loaded, sha256 = read_weights(root)
    assert sha256 == first == read_metadata(root)["radclear"]["weights"]["model.pt"]["sha256"]
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state_dict.items())


def test_half_precision_storage_rounds_and_halves(own):
    root = own / "lecl_vit"
    state_dict, _ = read_weights(root)
    state_dict = {name: torch.rand_like(t) if t.is_floating_point() else t for name, t in state_dict.items()}
    store_weights(root, state_dict, provenance=PROVENANCE, dtype="float32")
    size = (root / "models" / "model.pt").stat().st_size
    store_weights(root, state_dict, provenance=PROVENANCE, dtype="float16")
    assert (root / "models" / "model.pt").stat().st_size < 0.6 * size
    loaded, _ = read_weights(root)
    for name, tensor in state_dict.items():
        assert loaded[name].dtype == tensor.dtype
        torch.testing.assert_close(loaded[name], tensor, rtol=1e-3, atol=1e-4)
    load_backbone_bundle(root)


def test_one_changed_byte_is_refused_everywhere(own):
    file = own / "lecl_gated_cnn" / "models" / "model.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for load in (
        lambda: read_weights(own / "lecl_gated_cnn"),
        lambda: load_backbone_bundle(own / "lecl_gated_cnn"),
        lambda: load_head(own / HEAD),
        lambda: check_bundle(own / HEAD, backbone_bundle="../lecl_gated_cnn"),
    ):
        with pytest.raises(WeightsError, match="damaged or was replaced"):
            load()


def test_pickled_objects_are_refused(own):
    import hashlib
    import os

    class Evil:
        def __reduce__(self):
            return os.system, ("exit 1",)

    root = own / "lecl_vit"
    torch.save({"weight": Evil()}, root / "models" / "model.pt")
    metadata = read_metadata(root)
    digest = hashlib.sha256((root / "models" / "model.pt").read_bytes()).hexdigest()
    metadata["radclear"]["weights"]["model.pt"]["sha256"] = digest
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(WeightsError, match="something else than tensors"):
        read_weights(root)


def test_missing_weights_say_how_to_get_them(own):
    (own / "lecl_vit" / "models" / "model.pt").unlink()
    with pytest.raises(WeightsError, match="train it|download"):
        load_backbone_bundle(own / "lecl_vit")


@pytest.mark.parametrize(
    ("state_dict", "provenance", "found"),
    [
        ({}, PROVENANCE, "not empty"),
        ({"a": 1}, PROVENANCE, "expected a tensor"),
        ({"a": torch.zeros(1)}, {"training": "x"}, "demonstration"),
        ({"a": torch.zeros(1)}, {"demonstration": True}, "training"),
    ],
)
def test_weights_are_stored_only_with_a_statement(own, state_dict, provenance, found):
    with pytest.raises(WeightsError, match=found):
        store_weights(own / "lecl_vit", state_dict, provenance=provenance)


def test_weights_of_another_shape_or_name_are_refused(own):
    root = own / "lecl_vit"
    state_dict, _ = read_weights(root)
    name = next(iter(state_dict))
    broken = {**state_dict, "extra": torch.zeros(1)}
    broken.pop(name)
    store_weights(root, broken, provenance=PROVENANCE)
    with pytest.raises(WeightsError, match="do not fit"):
        load_backbone_bundle(root)
    network = load_head(own / HEAD).network
    head_weights, _ = read_weights(own / HEAD)
    with pytest.raises(WeightsError, match="extra"):
        network.load_state_dict({**head_weights, "aggregator.extra": torch.zeros(1)}, strict=False)
    first = next(iter(head_weights))
    with pytest.raises(WeightsError, match=first):
        network.load_state_dict({**head_weights, first: torch.zeros(1)})


def test_head_file_holds_the_aggregator_only(own):
    state_dict, _ = read_weights(own / HEAD)
    assert {name.partition(".")[0] for name in state_dict} == {"aggregator", "domain"}
    network = load_head(own / HEAD).network
    store_weights(
        own / HEAD,
        network.state_dict(),
        provenance={**PROVENANCE, "backbone": backbone_entry(own / "lecl_gated_cnn")},
    )
    again, _ = read_weights(own / HEAD)
    assert again.keys() == {name for name in state_dict if name.startswith("aggregator.")}


def test_head_is_refused_on_a_backbone_it_was_not_trained_on_until_it_is(own):
    with pytest.raises(WeightsError) as caught:
        load_head(own / HEAD, backbone_bundle=own / "lecl_vit")
    message = str(caught.value)
    assert f"--backbone_bundle {own / 'lecl_vit'}" in message
    assert (
        "trained on lecl_gated_cnn" in message and "train.json" in message and "--backbone_bundle" in message
    )
    seed_weights(own / HEAD, seed=3, backbone_bundle=own / "lecl_vit")
    assert (own / HEAD / "models" / "model_lecl_vit.pt").is_file()
    on_vit, on_cnn = load_head(own / HEAD, backbone_bundle=own / "lecl_vit"), load_head(own / HEAD)
    assert on_vit.backbone.name == "lecl_vit" and on_cnn.backbone.name == "lecl_gated_cnn"
    assert on_vit.weights_sha256 != on_cnn.weights_sha256


def test_another_backbone_of_the_same_name_leaves_the_shipped_weights_alone(own):
    shutil.copytree(own / "lecl_gated_cnn", own / "copied")  # and its name not changed
    seed_weights(own / "copied", seed=99)
    shipped = (own / HEAD / "models" / "model.pt").read_bytes()
    seed_weights(own / HEAD, seed=3, backbone_bundle=own / "copied")
    shutil.copytree(own / "copied", own / "again")
    seed_weights(own / "again", seed=100)
    seed_weights(own / HEAD, seed=4, backbone_bundle=own / "again")
    assert (own / HEAD / "models" / "model.pt").read_bytes() == shipped
    digest = backbone_entry(own / "again")["weights_sha256"]
    assert set(read_metadata(own / HEAD)["radclear"]["weights"]) == {
        "model.pt",
        "model_lecl_gated_cnn.pt",
        f"model_lecl_gated_cnn_{digest[:8]}.pt",
    }
    heads = [load_head(own / HEAD, backbone_bundle=own / n) for n in ("lecl_gated_cnn", "copied", "again")]
    assert len({head.weights_sha256 for head in heads}) == 3


def test_training_again_replaces_the_file(own):
    before = (own / HEAD / "models" / "model.pt").read_bytes()
    seed_weights(own / HEAD, seed=3)  # on the same backbone weights
    again = (own / HEAD / "models" / "model.pt").read_bytes()
    seed_weights(own / "lecl_gated_cnn", seed=99)  # the old weights of the backbone exist no more
    seed_weights(own / HEAD, seed=4)
    last = (own / HEAD / "models" / "model.pt").read_bytes()
    assert len({before, again, last}) == 3
    assert set(read_metadata(own / HEAD)["radclear"]["weights"]) == {"model.pt"}
    load_head(own / HEAD)


def test_heads_share_their_backbone_and_answer_as_if_loaded_alone(bundles, monkeypatch):
    import radclear.bundle.loaded as loaded

    reads = []
    original = loaded.read_weights
    monkeypatch.setattr(loaded, "read_weights", lambda *a, **k: reads.append(a[0].name) or original(*a, **k))
    heads = load_heads([bundles / name for name in HEADS])
    assert reads.count("lecl_gated_cnn") == 1 and len(reads) == 1 + len(HEADS)
    assert len({id(head.backbone) for head in heads}) == 1
    monkeypatch.undo()
    slices = torch.rand(1, 2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for name, head in zip(HEADS, heads, strict=True):
        alone = load_head(bundles / name)
        assert alone.backbone is not head.backbone  # nothing is kept beyond the call
        assert alone.provenance(precision="float32") == head.provenance(precision="float32")
        with torch.inference_mode():
            torch.testing.assert_close(head.network(slices), alone.network(slices))


def test_new_backbone_weights_make_old_heads_invalid(own):
    seed_weights(own / "lecl_gated_cnn", seed=99)
    with pytest.raises(WeightsError, match="has no weights for backbone lecl_gated_cnn"):
        load_head(own / HEAD)


def test_head_and_backbone_are_not_interchangeable(own):
    with pytest.raises(BundleError, match="backbone"):
        load_head(own / "lecl_vit")
    with pytest.raises(BundleError):
        load_backbone_bundle(own / HEAD)


def test_demonstration_of_the_backbone_is_one_of_the_head(own):
    state_dict, _ = read_weights(own / HEAD)
    entry = backbone_entry(own / "lecl_gated_cnn")
    honest = {"demonstration": False, "training": "On patients.", "backbone": entry}
    store_weights(own / HEAD, state_dict, provenance=honest)
    assert read_metadata(own / HEAD)["demonstration"] is False
    assert load_head(own / HEAD).demonstration is True


def test_configs_of_a_bundle_are_checked_before_they_run(own):
    file = own / HEAD / "configs" / "inference.json"
    config = json.loads(file.read_text())
    config["device"] = "$__import__('os').getcwd()"
    file.write_text(json.dumps(config))
    with pytest.raises(Exception, match="member of a package"):
        load_head(own / HEAD)


def test_windows_taken_together_are_those_that_the_bundle_shows(own):
    path = own / HEAD / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["windows"].append({**config["windows"][0], "name": "bone", "level_hu": 400, "width_hu": 1800})
    path.write_text(json.dumps(config))
    with pytest.raises(BundleError, match="2 windows of a slice together.* under 3; write 3"):
        load_head(own / HEAD)


def test_config_hash_follows_what_changes_answers_only(own):
    before = load_head(own / HEAD).config_sha256
    file = own / HEAD / "configs" / "inference.json"
    config = json.loads(file.read_text())
    config["backbone_bundle"] = str(own / "lecl_gated_cnn")
    config["output_dir"] = "elsewhere"
    file.write_text(json.dumps(config))
    assert load_head(own / HEAD).config_sha256 == before
    config["windows"][0]["level_hu"] = 50
    file.write_text(json.dumps(config))
    assert load_head(own / HEAD).config_sha256 != before


def test_a_backbone_records_the_weights_it_started_from_and_no_path(own, tmp_path):
    """Those that it was given, whatever became of their file while it trained."""
    network = build("mambaout_nano")
    start = tmp_path / "start.pt"
    torch.save(network.state_dict(), start)
    before, sha256_before = started_from(start), hashlib.sha256(start.read_bytes()).hexdigest()
    start.unlink()
    target = own / "lecl_gated_cnn"
    sha256 = store_backbone(
        network,
        bundle_root=target,
        output_bundle=target,
        training="From other weights.",
        demonstration=True,
        n_studies={"train": 1},
        settings={"seed": 0},
        started_from=before,
        seconds=12.345,
    )
    entry = read_metadata(target)["radclear"]["weights"]["model.pt"]
    assert entry["sha256"] == sha256 and entry["seconds"] == 12.3
    assert entry["settings"] == {
        "seed": 0,
        "initial_weights_sha256": sha256_before,
    }


def test_every_config_that_stores_weights_tells_how_long_their_training_took():
    """Of ignite, which times a run that stops early too; LeCL's own train.json goes through `pretrain`."""
    storing = {}
    for file in sorted((ROOT / "bundles").glob("*/configs/*.json")):
        for text in json.loads(file.read_text(encoding="utf-8")).get("run", []):
            if "radclear.bundle.store_" in text:
                storing[f"{file.parent.parent.name}/{file.stem}"] = text
    assert set(storing) == {"lecl_gated_cnn/warm_up", *(f"{name}/train" for name in HEADS)}
    for name, text in storing.items():
        assert "seconds=@train#trainer.state.times['COMPLETED']" in text, name


def test_a_copy_for_other_weights_claims_nothing_of_those_it_came_with(own, tmp_path):
    source, target = own / HEAD, tmp_path / "copy"
    copy_bundle(source, target)
    card = (target / "docs" / "README.md").read_text(encoding="utf-8")
    shipped = (source / "docs" / "README.md").read_text(encoding="utf-8")
    assert "| macro |" in shipped and "phantoms" in shipped
    assert "| macro |" not in card and "phantoms" not in card
    headings = [line for line in shipped.splitlines() if line.startswith("#")]
    assert [line for line in card.splitlines() if line.startswith("#")] == headings
    assert "No patient data" not in (target / "docs" / "data_license.txt").read_text(encoding="utf-8")
    metadata = read_metadata(target)
    assert metadata["data_source"] == "Not stated" and "demonstration" not in metadata["intended_use"]
