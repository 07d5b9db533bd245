"""Isotonic calibration against scikit-learn, in the head that is trained with it, and in the ensemble."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from bag_cohorts import write_cohort
from bundle_fixtures import run_config
from sklearn.isotonic import IsotonicRegression

from radclear.aggregation import CumulativeLogits
from radclear.bundle import (
    BundleError,
    CrossvalError,
    TrainingChoices,
    load_head,
    read_metadata,
    run_crossval,
    store_ensemble,
)
from radclear.bundle.calibration import calibrated_probabilities, fit_calibration
from radclear.bundle.isotonic import check_isotonic, fit_isotonic, isotonic_probabilities
from radclear.cohort import BagDataset, EmbeddingStore, LabelTable
from radclear.phantom import DISEASE_CLASSES

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")
CLASSES = ("a", "b", "c")
DISEASE, STAGING = "lung_disease_classification", "staging_classification"


def logits_and_labels(kind, n=200, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * 2
    if ties:
        logits = logits.round()
    if kind == "multilabel":
        labels = (rng.random((n, 3)) < 1 / (1 + np.exp(-0.4 * logits + 0.8))).astype(np.float32)
    else:
        labels = (logits / 3 + rng.gumbel(size=(n, 3))).argmax(axis=1)
    return torch.from_numpy(logits), torch.from_numpy(labels)


def by_scikit_learn(scores, positive, asked):
    return IsotonicRegression(out_of_bounds="clip").fit(scores, positive).predict(asked)


@pytest.mark.parametrize("ties", [False, True])
def test_maps_are_those_of_scikit_learn(ties):
    logits, labels = logits_and_labels("multilabel", ties=ties)
    others, _ = logits_and_labels("multilabel", seed=1)
    maps = fit_isotonic(logits, labels, kind="multilabel", classes=CLASSES)
    found = isotonic_probabilities(3 * others, maps, kind="multilabel", classes=CLASSES)
    for c in range(3):
        expected = by_scikit_learn(
            logits[:, c].sigmoid().numpy(), labels[:, c].numpy(), (3 * others[:, c]).sigmoid().numpy()
        )
        np.testing.assert_allclose(found[:, c], expected, atol=1e-7)
    assert json.loads(json.dumps(maps)) == check_isotonic(maps, kind="multilabel", classes=CLASSES, where="x")


def test_multiclass_maps_are_one_against_the_rest_and_divided_by_their_sum():
    logits, labels = logits_and_labels("multiclass")
    maps = fit_isotonic(logits, labels, kind="multiclass", classes=CLASSES)
    found = isotonic_probabilities(logits, maps, kind="multiclass", classes=CLASSES)
    scores = logits.softmax(dim=1).numpy()
    columns = np.stack(
        [by_scikit_learn(scores[:, c], labels.numpy() == c, scores[:, c]) for c in range(3)], axis=1
    )
    np.testing.assert_allclose(found, columns / columns.sum(axis=1, keepdims=True), atol=1e-7)
    zero = {name: {"probability": [0.5], "calibrated": [0.0]} for name in CLASSES}
    equal = isotonic_probabilities(logits[:2], zero, kind="multiclass", classes=CLASSES)
    np.testing.assert_allclose(equal, np.full((2, 3), 1 / 3))


def test_ordinal_maps_are_of_the_cuts():
    logits, labels = logits_and_labels("ordinal", n=60)
    maps = fit_isotonic(logits, labels, kind="ordinal", classes=CLASSES)
    assert list(maps) == ["above a", "above b"]
    found = isotonic_probabilities(logits, maps, kind="ordinal", classes=CLASSES).numpy()
    assert (found >= -1e-12).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    above = 1 - logits.softmax(dim=1).numpy().cumsum(axis=1)[:, :2]
    cuts = np.stack([by_scikit_learn(above[:, k], labels.numpy() > k, above[:, k]) for k in range(2)], axis=1)
    in_order = cuts[:, 0] >= cuts[:, 1]
    assert 0 < in_order.mean() < 1, "maps cross for some studies"
    np.testing.assert_allclose(found[in_order, 0], 1 - cuts[in_order, 0], atol=1e-7)
    np.testing.assert_allclose(found[in_order, 2], cuts[in_order, 1], atol=1e-7)
    crossing = cuts[~in_order].mean(axis=1)
    np.testing.assert_allclose(found[~in_order, 2], crossing, atol=1e-7)
    np.testing.assert_allclose(found[~in_order, 1], 0, atol=1e-7)


def test_ordinal_calibration_is_the_same_from_high_to_low():
    logits, labels = logits_and_labels("ordinal", n=80)
    found, back = (
        isotonic_probabilities(x, fit_isotonic(x, y, kind="ordinal", classes=c), kind="ordinal", classes=c)
        for x, y, c in ((logits, labels, CLASSES), (logits.flip(1), 2 - labels, CLASSES[::-1]))
    )
    torch.testing.assert_close(found, back.flip(1))


@pytest.mark.parametrize("kind", ["multilabel", "ordinal"])
def test_a_distortion_that_no_temperature_undoes_is_found_again(kind):
    """Labels follow p², the head says p: isotonic maps make it say nearly p², a temperature does not."""
    rng = np.random.default_rng(2)
    n = 20_000
    if kind == "multilabel":
        said = rng.random((n, 2))
        true = said**2
        labels = torch.from_numpy((rng.random((n, 2)) < true).astype(np.float32))
        logits = torch.logit(torch.from_numpy(said))
        classes = ("x", "y")
    else:
        score = torch.from_numpy(rng.normal(size=(n, 1)) * 2)
        logits = CumulativeLogits(3).double()(score).detach()
        exceeding = 1 - logits.exp().numpy().cumsum(axis=1)[:, :2]
        true = np.diff(1 - np.c_[np.ones(n), exceeding**2, np.zeros(n)], axis=1)
        labels = torch.from_numpy((rng.random((n, 1)) > true.cumsum(axis=1)[:, :2]).sum(axis=1))
        classes = CLASSES
    errors = {}
    for method in ("temperature", "isotonic"):
        fitted = fit_calibration(logits, labels, kind=kind, classes=classes, method=method)
        assert (method == "isotonic") == ("isotonic" in fitted) == ("temperature" not in fitted)
        found = calibrated_probabilities(logits, fitted, kind=kind, classes=classes).numpy()
        errors[method] = np.abs(found - true).mean()
    assert errors["isotonic"] < 0.012 and errors["temperature"] > 5 * errors["isotonic"]


def test_a_class_that_says_nothing_keeps_its_probabilities_and_it_is_said(caplog):
    logits, labels = logits_and_labels("multilabel")
    labels[:, 1] = 0
    fitted = fit_calibration(logits, labels, kind="multilabel", classes=CLASSES, method="isotonic")
    assert fitted["isotonic"]["b"] is None and "no isotonic map for b" in caplog.text
    found = calibrated_probabilities(logits, fitted, kind="multilabel", classes=CLASSES)
    torch.testing.assert_close(found[:, 1], logits[:, 1].sigmoid())
    assert fitted["operating_points"]["b"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.pop("a"), "has the maps b, c; expected a, b, c"),
        (lambda m: m["a"].update(probability=[0.2, 0.1]), "map of a is damaged"),
        (lambda m: m["a"].update(calibrated=[0.2, 0.1]), "map of a is damaged"),
        (lambda m: m["a"].update(calibrated=[0.2, 1.1]), "map of a is damaged"),
        (lambda m: m["a"].update(calibrated=[0.2]), "map of a is damaged"),
        (lambda m: m["a"].update(calibrated=[0.2, "x"]), "map of a is damaged"),
        (lambda m: m["a"].update(calibrated=[0.2, float("nan")]), "map of a is damaged"),
        (lambda m: m["a"].pop("calibrated"), "map of a is damaged"),
    ],
)
def test_damaged_maps_are_refused(change, said):
    maps = {name: {"probability": [0.1, 0.9], "calibrated": [0.0, 1.0]} for name in CLASSES}
    check_isotonic(maps, kind="multilabel", classes=CLASSES, where="head")
    change(maps)
    with pytest.raises(BundleError, match=said):
        check_isotonic(maps, kind="multilabel", classes=CLASSES, where="head")


@pytest.fixture(scope="module")
def cohort(bundles, tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"), bundles / "lecl_gated_cnn")


def raw_logits(head, cohort, split):
    table = LabelTable.read(
        cohort / "labels.csv", classes={name: f"disease_{name}" for name in DISEASE_CLASSES}
    )
    store = EmbeddingStore(cohort / "embeddings")
    bags = BagDataset(store, table, split)
    with torch.inference_mode():
        logits = [head.aggregator(store.read(row.key).feats.unsqueeze(0))[0] for row in bags.studies]
    return torch.stack(logits).double(), np.array([row.label for row in bags.studies])


def test_a_trained_head_answers_with_the_maps_of_its_validation_studies(
    bundles, cohort, tmp_path, capsys, clean_process
):
    inputs = {"embeddings": cohort / "embeddings", "labels": cohort / "labels.csv", "device": "cpu"}
    config = bundles / DISEASE / "configs" / "train.json"
    options = {**inputs, "output_bundle": tmp_path / "head", "max_epochs": 4, "learning_rate": 0.003}
    _, code = run_config(config, workflow_type="train", **options, calibration="platt")
    assert code == 2 and "calibration is 'platt'; expected temperature or isotonic" in capsys.readouterr().err
    _, code = run_config(config, workflow_type="train", **options, bags_per_batch=8, calibration="isotonic")
    assert code == 0
    entry = read_metadata(tmp_path / "head")["radclear"]["weights"]["model.pt"]
    assert "temperature" not in entry and set(entry["isotonic"]) == set(DISEASE_CLASSES)
    assert "isotonic calibration and operating points from the validation studies" in entry["training"]
    _, code = run_config(
        tmp_path / "head" / "configs" / "evaluate.json", **inputs, output_dir=tmp_path / "out"
    )
    assert code == 0
    head = load_head(tmp_path / "head", backbone_bundle=bundles / "lecl_gated_cnn")
    fitted_on, truth = raw_logits(head, cohort, "val")
    asked, _ = raw_logits(head, cohort, "test")
    with (tmp_path / "out" / "lung_disease_predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    for c, name in enumerate(head.classes):
        expected = by_scikit_learn(
            fitted_on[:, c].sigmoid().numpy(), truth[:, c], asked[:, c].sigmoid().numpy()
        )
        found = [float(row[f"probability_{name}"]) for row in rows]
        np.testing.assert_allclose(found, expected, atol=1e-3)  # bags are padded in one and not in the other
    attention = torch.full((1, 12), 1 / 12)
    feats = torch.zeros(12, head.backbone.embedding_dim)
    assert head.answer(head.probabilities(asked[:1]), attention, feats, precision="float32").calibrated
    other = head.config_sha256
    head.isotonic = None
    assert head.config_sha256 != other, "other answers must not pass for the same when a run is resumed"


@pytest.mark.parametrize("name", [DISEASE, STAGING])
def test_folds_are_kept_and_the_ensemble_has_the_maps(name, bundles, cohort, tmp_path, clean_process):
    choices = TrainingChoices(n_folds=3, max_epochs=2, learning_rate=0.003, bags_per_batch=8)
    choices = replace(choices, kind="ordinal" if name == STAGING else None)
    inputs = {"embeddings": cohort / "embeddings", "labels": cohort / "labels.csv"}
    first = run_crossval(bundles / name, tmp_path / "run", choices=choices, **inputs)
    store_ensemble(first, tmp_path / "head")
    choices = replace(choices, calibration="isotonic")
    run = run_crossval(bundles / name, tmp_path / "run", choices=choices, **inputs)
    assert run.trained == [] and run.skipped == [0, 1, 2]
    with pytest.raises(CrossvalError, match="with temperature calibration, not isotonic"):
        store_ensemble(run, tmp_path / "head")
    store_ensemble(run, tmp_path / "other")
    kept = json.loads((tmp_path / "run" / "calibration.json").read_text())
    head = load_head(tmp_path / "other", backbone_bundle=run.backbone)
    assert kept["isotonic"] == head.isotonic and head.temperature is None and "temperature" not in kept
    logits = torch.cat([run.results[fold].logits for fold in range(3)])
    labels = torch.cat([run.results[fold].labels for fold in range(3)])
    found = head.probabilities(logits)
    if name == DISEASE:
        for c in range(len(head.classes)):
            scores = logits[:, c].double().sigmoid().numpy()
            np.testing.assert_allclose(
                found[:, c], by_scikit_learn(scores, labels[:, c].numpy(), scores), atol=1e-6
            )
    else:
        np.testing.assert_allclose(found.sum(dim=1), 1)
    with pytest.raises(BundleError, match="expected temperature or isotonic"):
        run_crossval(bundles / name, tmp_path / "no", choices=replace(choices, calibration="platt"), **inputs)
    assert not (tmp_path / "no").exists()
