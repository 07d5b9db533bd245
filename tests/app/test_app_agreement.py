"""Active learning by the folds' attention: a real ensemble on a real server, against other arithmetic."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from app_server import ROOT, launch, needs_monailabel, wait_until_up
from bag_cohorts import write_cohort

from radclear.ct import study_key

pytestmark = needs_monailabel
TASK, N_STUDIES = "staging", 6
NAMES = [f"case-{number}.nii.gz" for number in range(N_STUDIES)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Studies, and bundles whose head is the ensemble of a small cross-validation."""
    from radclear.bundle import TrainingChoices, run_crossval, store_ensemble
    from radclear.phantom import make_phantom, write_nifti

    folder = tmp_path_factory.mktemp("agreement")
    (folder / "studies").mkdir()
    for number, name in enumerate(NAMES):
        write_nifti(make_phantom(number, n_slices=24, size=64), folder / "studies" / name)
    backbone = folder / "bundles" / "lecl_gated_cnn"
    shutil.copytree(ROOT / "bundles" / "lecl_gated_cnn", backbone)
    cohort = write_cohort(folder / "cohort", backbone, n_studies=30)
    run = run_crossval(
        ROOT / "bundles" / "staging_classification",
        folder / "run",
        choices=TrainingChoices(
            n_folds=3, seed=1, aggregator="attention", max_epochs=4, learning_rate=0.003, bags_per_batch=8
        ),
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
    )
    store_ensemble(run, folder / "bundles" / "staging_classification")
    return folder


@pytest.fixture(scope="module")
def served(folder):
    options = ("tasks", TASK, "precision", "float32", "bundles", str(folder / "bundles"))
    server = wait_until_up(launch(folder, folder / "studies", *options))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def agreements(folder):
    """Study → agreement, from the folds' own weights files: softmax of w · tanh(V relu(U x)) over slices."""
    import torch

    from radclear.bundle import load_backbone_bundle
    from radclear.cohort import EmbeddingStore, embed_studies
    from radclear.ct import find_studies

    backbone = load_backbone_bundle(folder / "bundles" / "lecl_gated_cnn", device="cpu")
    store = EmbeddingStore(folder / "embedded")
    embed_studies(
        find_studies(folder / "studies"),
        backbone.backbone,
        store,
        windows=backbone.windows,
        weight_sha256=backbone.weights_sha256,
        encoder=backbone.backbone.name,
        device="cpu",
        precision="float32",
        batch_size=8,
        policy="warn",
    )
    folds = [
        {name: tensor.double().numpy() for name, tensor in torch.load(file, weights_only=True).items()}
        for file in sorted((folder / "run").glob("fold_*/weights.pt"))
    ]
    assert len(folds) == 3

    def attention(fold, x):
        def linear(name, values):
            return values @ fold[f"{name}.weight"].T + fold[f"{name}.bias"]

        hidden = np.maximum(linear("instance.0", x), 0)
        scores = linear("scorer.2", np.tanh(linear("scorer.0", hidden)))[:, 0]
        weights = np.exp(scores - scores.max())
        return weights / weights.sum()

    found = {}
    for name in NAMES:
        x = store.read(study_key(name)).feats.double().numpy()
        found[study_key(name)] = float(np.min([attention(fold, x) for fold in folds], axis=0).sum())
    return found


def test_studies_come_in_the_order_of_the_folds_agreement_until_all_are_read(served, agreements):
    expected = sorted(agreements, key=agreements.get)
    gaps = np.diff(sorted(agreements.values()))
    assert gaps.min() > 1e-4 and 0 < min(agreements.values()) < max(agreements.values()) < 1
    model = served.request("GET", "/info/").json()["models"][TASK]
    for number, key in enumerate(expected):
        chosen = served.request("POST", "/activelearning/agreement", json={"task": TASK})
        assert chosen.status_code == 200, chosen.text
        told = chosen.json()
        assert told["id"] == key and told["task"] == TASK
        assert told["n_unread"] == told["n_compared"] == N_STUDIES - number
        assert told["agreement"] == pytest.approx(agreements[key], abs=2e-4)
        body = {
            "image": key,
            "task": TASK,
            "verdict": "correct",
            "classes": ["II"],
            "reader": "Ada",
            "weights_sha256": model["weights_sha256"],
            "backbone_sha256": model["backbone_weights_sha256"],
        }
        assert served.request("POST", "/radclear/verdicts", json=body).status_code == 201
    assert served.request("POST", "/activelearning/agreement", json={"task": TASK}).json() == {}


def test_the_ensemble_answers_too(served):
    """As any head: through the same entries, with the mean of its folds' attention."""
    answer = served.infer(TASK, study_key(NAMES[0])).json()
    (entry,) = answer["result"]["tasks"]
    assert sum(c["probability"] for c in entry["classes"]) == pytest.approx(1, abs=1e-3)
    assert sum(entry["attention"]) == pytest.approx(1, abs=1e-3)
