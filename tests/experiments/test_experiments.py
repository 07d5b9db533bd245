"""The experiments on small phantoms and made pictures, and their statistics against other libraries."""

from __future__ import annotations

import shutil

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from radclear.backbones import build
from radclear.ct import DEFAULT_WINDOWS, apply_window
from radclear.experiments import compare_phantoms, compare_real, pretrain_arms
from radclear.experiments.deeplesion_crops import LESION, OTHER, lesion_crops, place_alike, read_hu
from radclear.experiments.encoders import ExperimentError, encoders
from radclear.experiments.probes import (
    accuracy,
    grouped_hits,
    head_probe,
    linear_probe,
    nearest_in_other_groups,
)
from radclear.phantom import write_cohort


@pytest.fixture(scope="module")
def runs(tmp_path_factory, pytestconfig):
    """A control and two untrained Gated CNN for slices of 32 pixels."""
    folder = tmp_path_factory.mktemp("runs")
    write_cohort(folder / "cohort", n_studies=6, seed=3, n_slices=24, size=64)
    code = pretrain_arms.main(
        [
            "--cohort", str(folder / "cohort"), "--output", str(folder / "arms"),
            "--bundles", str(pytestconfig.rootpath / "bundles"), "--backbones", "lecl_gated_cnn",
            "--arms", "control", "random", "--image-size", "32", "--epochs", "1",
            "--samples-per-epoch", "8", "--samples-per-batch", "4", "--probe-slices", "8",
        ]
    )  # fmt: skip
    assert code == 0
    other = pretrain_arms.arm_folder(folder / "arms", "lecl_gated_cnn", "similarity", 0)
    shutil.copytree(folder / "arms" / "bundles" / "lecl_gated_cnn", other)
    pretrain_arms.store_untrained(other, seed=5)
    return folder


def test_arms_start_alike_and_the_untrained_one_stays_there(runs):
    torch.manual_seed(0)
    start = build("mambaout_nano", image_size=32).state_dict()
    arms = {
        arm: encoder.state_dict() for _, arm, _, encoder in encoders(runs / "arms", 32) if arm != "imagenet"
    }
    assert set(arms) == {"similarity", "control", "random"}
    assert all(torch.equal(arms["random"][name], tensor) for name, tensor in start.items())
    moved = [not torch.equal(arms["control"][name], tensor) for name, tensor in start.items()]
    assert sum(moved) > len(moved) / 2


def test_finished_arms_are_kept(runs, pytestconfig, monkeypatch):
    monkeypatch.setattr(pretrain_arms.subprocess, "run", lambda *_, **__: pytest.fail("trained again"))
    options = ["--cohort", "none", "--output", str(runs / "arms"), "--backbones", "lecl_gated_cnn"]
    options += ["--bundles", str(pytestconfig.rootpath / "bundles"), "--image-size", "32"]
    assert pretrain_arms.main([*options, "--arms", "control", "random"]) == 0


def test_comparison_on_phantoms_has_a_row_per_arm_and_differences_from_the_control(runs, capsys):
    write_cohort(runs / "other", n_studies=40, seed=8, n_slices=24, size=64)
    output = runs / "comparison"
    options = ["--cohort", str(runs / "other"), "--runs", str(runs / "arms"), "--output", str(output)]
    assert compare_phantoms.main([*options, "--image-size", "32", "--every", "2"]) == 0
    rows = pd.read_csv(output / "phantoms.csv").set_index("arm")
    for task in ("lesion", "crop", "attention", "mean_pool"):
        assert (rows[f"{task}_low"] <= rows[task]).all() and (rows[task] <= rows[f"{task}_high"]).all()
    for task in ("lesion", "crop"):
        expected = rows.loc["similarity", task] - rows.loc["control", task]
        assert rows.loc["similarity", f"{task}_difference"] == pytest.approx(expected, abs=2e-4)
        assert pd.isna(rows.loc["control", f"{task}_p"])
    assert "8 test patients" in capsys.readouterr().out


def test_real_slices_are_compared_across_groups_only(runs, tmp_path, monkeypatch):
    """Two classes that differ in grey level: every reading that works finds them in other groups too."""
    rng = np.random.default_rng(0)
    rows = []
    folder = tmp_path / "made"
    folder.mkdir()
    for n in range(40):
        label, group = ("dark", "bright")[n % 2], f"g{n // 4}"
        grey = rng.integers(0, 60, (40, 50)) + 150 * (label == "bright") * (np.arange(50) > 25)
        (folder / f"{n}.png").write_bytes(imagecodecs.png_encode(grey.astype(np.uint8)))
        rows.append({"path": f"{n}.png", "group": group, "kind": label})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    monkeypatch.setattr(compare_real, "TASKS", {"made": "kind"})
    monkeypatch.setattr(compare_real, "SETS", ("made",))
    options = ["--data", str(tmp_path), "--runs", str(runs / "arms"), "--output", str(tmp_path / "out")]
    assert compare_real.main([*options, "--image-size", "32"]) == 0
    found = pd.read_csv(tmp_path / "out" / "real.csv").set_index("arm")
    assert found.loc["majority class", "nearest"] == 0.5
    assert found.loc["thumbnails", "nearest"] == 1.0
    assert found.loc["random", "linear"] >= 0.9
    assert set(found["groups"]) == {10}
    for name in ("nearest", "linear"):
        known = found[found[name].notna()]
        assert (known[f"{name}_low"] <= known[name]).all() and (known[name] <= known[f"{name}_high"]).all()


def test_the_interval_of_an_accuracy_is_that_of_its_groups():
    """Groups of ten equal rows: as wide as ten times fewer rows make it, by the normal approximation."""
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(200) < 0.7, 10)
    found = accuracy(right, np.repeat(np.arange(200), 10), seed=0)
    half = 1.96 * np.sqrt(found.value * (1 - found.value) / 200)
    assert found.value == right.mean()
    assert (found.value - found.low, found.high - found.value) == pytest.approx((half, half), rel=0.15)
    apart = accuracy(right, np.arange(2000), seed=0)
    assert apart.high - apart.low == pytest.approx(2 * half / np.sqrt(10), rel=0.15)


def test_macro_auroc_is_the_mean_of_scikit_learns():
    rng = np.random.default_rng(0)
    truth = (rng.random((60, 3)) < 0.3).astype(float)
    scores = np.round(truth + rng.normal(size=truth.shape), 1)  # with ties
    weights = rng.integers(0, 4, 60).astype(float)
    expected = [roc_auc_score(t, s, sample_weight=weights) for t, s in zip(truth.T, scores.T, strict=True)]
    assert compare_phantoms.macro_auroc(scores, truth, weights) == pytest.approx(np.mean(expected), abs=1e-12)
    with_empty = np.concatenate([truth, np.zeros((60, 1))], axis=1)
    padded = np.concatenate([scores, scores[:, :1]], axis=1)
    assert compare_phantoms.macro_auroc(padded, with_empty, weights) == pytest.approx(np.mean(expected))


def test_nearest_neighbour_is_of_another_group():
    rng = np.random.default_rng(1)
    feats, groups = rng.normal(size=(30, 5)), np.repeat(np.arange(10), 3)
    for n, found in enumerate(nearest_in_other_groups(feats, groups)):
        cosine = [
            -np.inf if groups[m] == groups[n]
            else feats[n] @ feats[m] / np.linalg.norm(feats[n]) / np.linalg.norm(feats[m])
            for m in range(30)
        ]  # fmt: skip
        assert found == int(np.argmax(cosine))


def test_grouped_accuracy_does_not_reward_knowing_the_group():
    """Features that tell the group and nothing else: at chance across groups, for all that memory knows."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    labels = np.where(rng.permutation(40) < 20, "a", "b")[groups]
    feats = rng.normal(size=(40, 64))[groups] + 0.01 * rng.normal(size=(200, 64))
    assert abs(grouped_hits(feats, labels, groups, seed=0).mean() - 0.5) < 0.2


def test_probes_find_what_is_there():
    rng = np.random.default_rng(0)
    y = {name: rng.random(80) < 0.4 for name in ("train", "val", "test")}
    x = {name: rng.normal(size=(80, 6)) + 2 * y[name][:, None] * (np.arange(6) == 2) for name in y}
    scores = linear_probe(x["train"], y["train"], x["val"], y["val"], x["test"])
    assert roc_auc_score(y["test"], scores) > 0.85
    # In a bag of four only one instance tells, which attention finds.
    bags = {name: torch.randn(80, 4, 6, generator=torch.Generator().manual_seed(len(name))) for name in y}
    labels = {name: torch.from_numpy(y[name]).float()[:, None] for name in y}
    for name in bags:
        bags[name][:, 1, 2] += 4 * labels[name][:, 0]
    logits = head_probe(bags, labels, aggregator="attention", seed=0, epochs=40, learning_rate=3e-3)
    assert roc_auc_score(y["test"], logits[:, 0]) > 0.85


def test_a_folder_without_arms_and_a_set_without_manifest_are_named(tmp_path):
    with pytest.raises(ExperimentError, match="pretrain_arms"):
        next(encoders(tmp_path, 32))
    with pytest.raises(ExperimentError, match=r"manifest\.csv does not exist"):
        compare_real.read_set(tmp_path, "label")
    with pytest.raises(ExperimentError, match=r"lesions\.csv does not exist"):
        lesion_crops(tmp_path)


def test_coloured_pictures_are_refused(tmp_path):
    file = tmp_path / "colour.png"
    file.write_bytes(imagecodecs.png_encode(np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(ExperimentError, match="expected 8-bit grey"):
        compare_real.read_picture(file)


def test_the_bundle_copy_of_an_arm_has_its_size_everywhere(tmp_path, pytestconfig):
    pretrain_arms.copy_bundle(pytestconfig.rootpath / "bundles" / "lecl_vit", tmp_path / "lecl_vit", 48)
    configs = [
        (tmp_path / "lecl_vit" / "configs" / f"{stem}.json").read_text() for stem in ("inference", "train")
    ]
    assert all('"image_size": 48' in text and '"image_size": 224' not in text for text in configs)
    assert not (tmp_path / "lecl_vit" / "models").exists()
    assert pretrain_arms.arm_folder(tmp_path, "lecl_vit", "control", 2).name == "lecl_vit-control-2"


def test_a_lesions_partner_is_the_most_alike_square_without_a_box():
    """Two equal patches in a body of -100 HU: the partner of the one is the other, unless that has a box."""
    hu = np.full((200, 200), -1000.0)
    hu[20:180, 20:180] = -100
    for top, left in ((60, 50), (60, 120)):
        hu[top : top + 8, left : left + 8] = 120
    grey = apply_window(hu, DEFAULT_WINDOWS[0])
    boxes = np.array([[50, 60, 58, 68]], float)
    lesion = (48, 40)
    top, left = place_alike(grey, hu, boxes, lesion, 32)
    assert top <= 60 <= 68 <= top + 32 and left <= 120 <= 128 <= left + 32
    both = np.array([*boxes, [120, 60, 128, 68]])
    top, left = place_alike(grey, hu, both, lesion, 32)
    assert not (top <= 68 and left <= 128 and left + 32 >= 120 and top + 32 >= 60)
    middle = hu[top + 16, left + 16]
    assert middle > -300
    everywhere = np.array([[0, 0, 200, 200]], float)
    assert place_alike(grey, hu, everywhere, lesion, 32) is None
    assert place_alike(grey, np.full_like(hu, -1000), boxes, lesion, 32) is None


def test_crops_of_key_slices_are_paired_within_a_slice(tmp_path):
    rng = np.random.default_rng(0)
    hu = np.full((120, 120), -1000)
    hu[10:110, 10:110] = rng.integers(0, 60, (100, 100))
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode((hu + 32768).astype(np.uint16)))
    eight = np.clip((hu + 1024) / 4095 * 255, 0, 255).round().astype(np.uint8)
    (tmp_path / "b.png").write_bytes(imagecodecs.png_encode(eight))
    columns = ["path", "x1", "y1", "x2", "y2", "coarse_lesion_type_name"]
    rows = [
        ("a.png", 30, 40, 40, 50, "liver"),
        ("a.png", 80, 40, 90, 50, "liver"),
        ("b.png", 55, 55, 60, 60, "lung"),
    ]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "lesions.csv", index=False)
    pd.DataFrame({"path": ["a.png", "b.png"], "group": ["A", "B"]}).to_csv(
        tmp_path / "manifest.csv", index=False
    )
    pictures, labels, groups = lesion_crops(tmp_path)
    assert labels.tolist() == [LESION, OTHER] * 3 and groups.tolist() == ["A"] * 4 + ["B"] * 2
    assert {picture.shape for picture in pictures} == {(18, 18)}
    abdomen, lung = DEFAULT_WINDOWS
    assert np.array_equal(pictures[0], apply_window(hu, abdomen)[36:54, 26:44])
    assert np.array_equal(pictures[4], apply_window(read_hu(tmp_path / "b.png"), lung)[48:66, 48:66])
    assert np.abs(read_hu(tmp_path / "b.png") - np.maximum(hu, -1024)).max() <= 8.1  # half a grey level
