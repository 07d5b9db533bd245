"""Studies unlike those of the training are told apart, by every way to an answer."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from bag_cohorts import write_cohort
from bundle_fixtures import HEADS, ROOT, run_config

from radclear.bundle import load_head, predict_study, read_weights
from radclear.bundle.domain import MIN_STUDIES, ROOM, Domain, describe
from radclear.phantom import make_phantom, write_nifti
from radclear.results.reading import banners

W, D = 2, 3


def bag(seed: int, depth: int = 7, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(depth * W, D, generator=torch.Generator().manual_seed(seed)) + shift


def naive_vector(feats: np.ndarray) -> np.ndarray:
    means, spreads = [], []
    for window in range(W):
        for k in range(D):
            values = [feats[z * W + window][k] for z in range(len(feats) // W)]
            mean = sum(values) / len(values)
            means.append(mean)
            spreads.append((sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5)
    return np.array(means + spreads)


def test_distance_and_limit_are_those_of_plain_loops():
    known, further = [bag(n, depth=5 + n % 4) for n in range(24)], [bag(99, shift=0.6)]
    domain = Domain.fit([describe(b, W) for b in known], [describe(b, W) for b in further])
    vectors = np.stack([naive_vector(b.double().numpy()) for b in known])
    mean = vectors.mean(0)
    spread = np.sqrt(((vectors - mean) ** 2).mean(0))

    def distance(feats):
        z = (naive_vector(feats.double().numpy()) - mean) / spread
        return float(np.sqrt((z**2).mean()))

    assert domain.limit == pytest.approx(ROOM * max(map(distance, known + further)), rel=1e-9)
    assert domain.limit == pytest.approx(ROOM * distance(further[0]), rel=1e-9)
    stranger = bag(7, shift=3.0)
    assert domain.distance(describe(stranger, W)) == pytest.approx(distance(stranger), rel=1e-9)
    assert distance(stranger) > domain.limit


def test_few_studies_make_no_domain_and_a_still_dimension_does_not_decide():
    vectors = [describe(bag(n), W) for n in range(MIN_STUDIES)]
    assert Domain.fit(vectors[1:]) is None
    for vector in vectors:
        vector[0] = 1.0
    domain = Domain.fit(vectors)
    moved = vectors[0].clone()
    moved[0] += 1e-4
    assert domain.distance(moved) == pytest.approx(domain.distance(vectors[0]), abs=0.01)


def test_it_comes_out_of_the_weights_as_it_went_in():
    domain = Domain.fit([describe(bag(n), W) for n in range(MIN_STUDIES)])
    again = Domain.of({**domain.tensors(), "aggregator.head.1.weight": torch.zeros(2, 2)})
    torch.testing.assert_close(again.mean, domain.mean, rtol=1e-6, atol=1e-7)
    assert again.limit == pytest.approx(domain.limit, rel=1e-6)
    assert Domain.of({"aggregator.head.1.weight": torch.zeros(2, 2)}) is None


@pytest.fixture(scope="module")
def heads():
    return [load_head(ROOT / "bundles" / name) for name in HEADS]


def test_the_shipped_heads_know_phantoms_and_no_noise(heads, tmp_path):
    phantom = make_phantom(7, n_slices=64, size=256)
    write_nifti(phantom, tmp_path / "phantom.nii.gz")
    codes = {w["code"] for w in predict_study(tmp_path / "phantom.nii.gz", heads).result["warnings"]}
    assert "unlike_training" not in codes

    noise = np.random.default_rng(0).integers(-1000, 400, phantom.hu.shape).astype(np.int16)
    write_nifti(replace(phantom, hu=noise), tmp_path / "noise.nii.gz")
    result = predict_study(tmp_path / "noise.nii.gz", heads).result
    told = [w for w in result["warnings"] if w["code"] == "unlike_training"]
    assert [w["task"] for w in told] == [head.task for head in heads]
    for w, head in zip(told, heads, strict=True):
        assert "distance" in w["message"] and f"usual up to {head.domain.limit:.1f}" in w["message"]
    (shown,) = [banner for banner in banners(result) if banner.kind == "input"]
    assert shown.messages[0].startswith("All tasks: the images look unlike")


def test_the_bundle_runner_says_the_same(heads, tmp_path):
    """Of noise, which looks unlike any phantom."""
    (head,) = [head for head in heads if head.task == "lung_disease"]
    (tmp_path / "studies").mkdir()
    phantom = make_phantom(3, n_slices=24, size=64)
    noise = np.random.default_rng(0).integers(-1000, 400, phantom.hu.shape).astype(np.int16)
    write_nifti(replace(phantom, hu=noise), tmp_path / "studies" / "case.nii.gz")
    here = predict_study(tmp_path / "studies" / "case.nii.gz", [head], precision="float32")
    (answer,) = here.answers
    assert answer.unlike_training and answer.domain_distance > answer.domain_limit
    _, code = run_config(
        head.path / "configs" / "inference.json",
        dataset_dir=tmp_path / "studies",
        output_dir=tmp_path / "out",
        device="cpu",
        precision="float32",
    )
    assert code == 0
    (document,) = (tmp_path / "out").glob("*/lung_disease.json")
    assert json.loads(document.read_text())["warnings"] == here.result["warnings"]


def test_training_leaves_the_domain_with_the_weights(tmp_path):
    bundles = tmp_path / "bundles"
    for name in ("lecl_gated_cnn", "lung_disease_classification"):
        shutil.copytree(ROOT / "bundles" / name, bundles / name)
    cohort = write_cohort(tmp_path / "cohort", bundles / "lecl_gated_cnn")
    _, code = run_config(
        bundles / "lung_disease_classification" / "configs" / "train.json",
        workflow_type="train",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        output_bundle=tmp_path / "trained",
        device="cpu",
        max_epochs=1,
        bags_per_batch=8,
    )
    assert code == 0
    state, _ = read_weights(tmp_path / "trained")
    domain = Domain.of(state)
    width = load_head(tmp_path / "trained").backbone.embedding_dim
    assert domain is not None and domain.mean.shape == (2 * W * width,)
    entry = json.loads((tmp_path / "trained" / "configs" / "metadata.json").read_text())
    assert entry["radclear"]["weights"]["model.pt"]["n_studies"]["train"] == 24
