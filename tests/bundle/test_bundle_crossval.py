"""Cross-validation: independent folds, honest predictions, resumed where it stopped, deployed as it was."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from bag_cohorts import read_rows, write_cohort, write_rows
from bundle_fixtures import run_config
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from radclear.aggregation import AttentionMIL, EnsembleMIL
from radclear.bundle import (
    BundleError,
    CrossvalError,
    TrainingChoices,
    load_head,
    read_metadata,
    run_crossval,
    store_ensemble,
)
from radclear.bundle.configs import config_parser
from radclear.bundle.deployment import check_target
from radclear.bundle.fold_training import predict_bags, train_fold
from radclear.cohort import BagDataset, EmbeddingStore, LabelTable
from radclear.ct import study_key
from radclear.errors import RadclearError
from radclear.evaluation import read_predictions

DISEASE, STAGING = "lung_disease_classification", "staging_classification"
CHOICES = TrainingChoices(
    n_folds=3, seed=1, max_epochs=40, learning_rate=0.001, patience=30, bags_per_batch=2
)


@pytest.fixture(scope="module")
def cohort(bundles, tmp_path_factory):
    return write_cohort(
        tmp_path_factory.mktemp("cohort"), bundles / "lecl_gated_cnn", n_studies=60, per_patient=2
    )


def crossval(bundles, cohort, output, name=DISEASE, choices=CHOICES, **options):
    inputs = {"embeddings": cohort / "embeddings", "labels": cohort / "labels.csv"} | options
    return run_crossval(bundles / name, output, choices=choices, **inputs)


@pytest.fixture(scope="module")
def done(bundles, cohort, tmp_path_factory):
    """A finished cross-validation, and its ensemble in `head`."""
    folder = tmp_path_factory.mktemp("crossval")
    run = crossval(bundles, cohort, folder / "run")
    run.report = store_ensemble(run, folder / "head")
    return run


def test_every_study_is_predicted_once_by_a_network_that_never_saw_its_patient(done, cohort):
    table = read_predictions(done.predictions, kind="multilabel")
    truth = {row["study"]: row for row in read_rows(cohort / "labels.csv")}
    taking_part = [name for name, row in truth.items() if row["split"] != "test"]
    rows = read_rows(done.predictions)
    assert [row["study"] for row in rows] == taking_part and len(table.studies) == len(taking_part)
    folds_of = {}
    for row in rows:
        folds_of.setdefault(row["patient"], set()).add(row["fold"])
        assert row["label_effusion"] == truth[row["study"]]["disease_effusion"]
        assert row["fold"] == str(done.plan.folds[row["study"]]) and row["split"] == "out_of_fold"
    assert all(len(folds) == 1 for folds in folds_of.values()) and len(folds_of) == 24
    assert set().union(*folds_of.values()) == {"0", "1", "2"}


def test_predictions_are_probabilities_that_rank(done):
    """Error 1 of the method's code: AUROC of decisions. The table holds no decisions."""
    rows = read_rows(done.predictions)
    aurocs = []
    for name in done.table.classes:
        scores = [float(row[f"probability_{name}"]) for row in rows]
        assert len(set(scores)) > 0.9 * len(scores)
        aurocs.append(roc_auc_score([row[f"label_{name}"] == "1" for row in rows], scores))
    assert np.mean(aurocs) > 0.8


def test_a_fold_depends_on_no_other_fold(done, bundles):
    """Error 2: one model shared by all folds. Fold 2 alone is fold 2 after the folds 0 and 1."""
    alone = train_fold(done.bundle_root, done.overrides, 2)
    for name, tensor in alone.state_dict.items():
        assert torch.equal(tensor, done.results[2].state_dict[name])
    assert torch.equal(alone.logits, done.results[2].logits)
    assert not torch.equal(alone.logits[:5], done.results[0].logits[:5])


def test_windows_taken_together_are_those_of_the_training(bundles, cohort, tmp_path):
    shutil.copytree(bundles / DISEASE, tmp_path / "head")
    file = tmp_path / "head" / "configs" / "train.json"
    config = json.loads(file.read_text())
    config["aggregator"]["n_windows"] = 3
    file.write_text(json.dumps(config))
    inputs = {"embeddings": cohort / "embeddings", "labels": cohort / "labels.csv"}
    with pytest.raises(BundleError, match="takes 3 windows of a slice together.* shows each slice under 2"):
        run_crossval(
            tmp_path / "head",
            tmp_path / "run",
            choices=CHOICES,
            backbone_bundle=bundles / "lecl_gated_cnn",
            **inputs,
        )


def parser_of(run, fold, **overrides):
    return config_parser(run.bundle_root, {**run.overrides, **overrides, "fold": fold}, name="train")


def test_kept_weights_have_the_lowest_validation_loss(done):
    """Error 3: the best weights were the last ones. Loaded again, they give the recorded loss."""
    run = replace(
        done, overrides={**done.overrides, "balance": False, "max_epochs": 8, "learning_rate": 0.02}
    )
    result = train_fold(run.bundle_root, run.overrides, 0)
    losses = [step["validation_loss"] for step in result.history]
    assert result.best == 1 + int(np.argmin(losses)) < len(losses), "the last validation is not the best"
    parser = parser_of(run, 0)
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(result.state_dict)
    bags = parser.get_parsed_content("validate#dataset")
    logits, labels, *_ = predict_bags(network, bags)
    found = float(functional.binary_cross_entropy_with_logits(logits, labels))
    assert found == pytest.approx(min(losses), rel=1e-5)


def test_positives_weigh_what_negatives_outnumber_them_by_in_the_training_part(done):
    """Error 4: counts of positives and negatives as weights."""
    for fold in range(3):
        labels = [s.label for s in done.plan.apply(done.table, fold).split("train")]
        positives = np.sum(labels, axis=0)
        loss = parser_of(done, fold).get_parsed_content("loss")
        np.testing.assert_allclose(loss.pos_weight, (len(labels) - positives) / positives, rtol=1e-6)
    unbalanced = parser_of(done, 0, balance=False).get_parsed_content("loss")
    assert unbalanced.pos_weight is None


def test_prediction_uses_whole_bags_alone_and_in_order(done, cohort):
    """Errors 5, 6 and 11: padding takes part, slices chosen by annotation or chance, shuffled slices."""
    result, store = done.results[0], EmbeddingStore(cohort / "embeddings")
    network = parser_of(done, 0).get_parsed_content("network_def")
    network.load_state_dict(result.state_dict)
    network.eval()
    assert len(set(result.n_slices)) > 1, "batches are padded"
    for study, logits, n_slices in zip(result.studies, result.logits, result.n_slices, strict=True):
        feats = store.read(study_key(study)).feats
        assert len(feats) == 2 * n_slices
        with torch.inference_mode():
            torch.testing.assert_close(network(feats.unsqueeze(0))[0], logits, atol=1e-5, rtol=1e-5)
    boxes = read_rows(cohort / "boxes.csv")
    boxes = {row["study"]: int(row["slice"]) for row in boxes if row["kind"] != "primary"}
    rows = [row for row in read_rows(done.predictions) if row["study"] in boxes]
    hits = [int(row["key_slices"].split()[0]) == boxes[row["study"]] for row in rows]
    assert np.mean(hits) > 0.5, "chance reaches 0.15"


def test_finished_folds_are_kept_and_others_trained(done, bundles, cohort, tmp_path):
    shutil.copytree(done.folder, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = crossval(bundles, cohort, tmp_path / "run")
    assert again.skipped == [0, 1, 2] and not again.trained
    (tmp_path / "run" / "fold_1" / "fold.json").unlink()
    resumed = crossval(bundles, cohort, tmp_path / "run")
    assert resumed.skipped == [0, 2] and resumed.trained == [1]
    record = tmp_path / "run" / "fold_1" / "fold.json"
    known = json.loads(before[record])
    assert json.loads(record.read_text()) | {"seconds": known["seconds"]} == known
    for path in before:
        if path.name != "manifest.json" and path != record:
            assert path.read_bytes() == before[path], path.name
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file() and path not in before]


def test_other_settings_do_not_mix(done, bundles, cohort, tmp_path):
    with pytest.raises(CrossvalError, match="learning_rate was 0.001, now 0.1"):
        crossval(bundles, cohort, done.folder, choices=replace(CHOICES, learning_rate=0.1))
    with pytest.raises(RadclearError, match="has 3 folds of seed 1; expected 4"):
        crossval(bundles, cohort, done.folder, choices=replace(CHOICES, n_folds=4))
    rows = read_rows(cohort / "labels.csv")
    rows[0]["disease_nodule"] = str(1 - int(rows[0]["disease_nodule"]))
    write_rows(tmp_path / "labels.csv", rows)
    with pytest.raises(CrossvalError, match="cohort_sha256 was"):
        crossval(bundles, cohort, done.folder, labels=tmp_path / "labels.csv")
    shutil.copytree(done.folder, tmp_path / "run")
    (tmp_path / "run" / "fold_0" / "weights.pt").write_bytes(b"other")
    with pytest.raises(CrossvalError, match="fold_0 is damaged"):
        crossval(bundles, cohort, tmp_path / "run")


def test_manifest_names_what_was_left_out(done, cohort):
    text = (done.folder / "manifest.json").read_text()
    manifest = json.loads(text)
    held_out = {study_key(r["study"]) for r in read_rows(cohort / "labels.csv") if r["split"] == "test"}
    assert {entry["key"] for entry in manifest["excluded"]} == held_out
    assert {entry["reason"] for entry in manifest["excluded"]} == {"held out: split test"}
    assert manifest["n_studies"] == 48 and manifest["n_patients"] == 24
    assert sum(fold["n_studies"] for fold in manifest["folds"]) == 48
    for fold, result in zip(manifest["folds"], done.results.values(), strict=True):
        assert fold["validation_loss"] == min(step["validation_loss"] for step in result.history)
    assert not any(f'"{s.study}"' in text or s.patient in text for s in done.table.studies)
    assert str(cohort) not in text
    assert manifest["ensemble"] == done.report and manifest["calibration"] == done.calibration


def test_ensemble_is_the_mean_of_its_folds_and_calibrated_out_of_fold(done, cohort):
    head = load_head(done.folder.parent / "head", backbone_bundle=done.backbone)
    assert isinstance(head.aggregator, EnsembleMIL) and head.temperature == done.calibration["temperature"]
    assert head.operating_points == done.calibration["operating_points"]
    kept = json.loads((done.folder / "calibration.json").read_text())
    assert kept["temperature"] == head.temperature and kept["operating_points"] == head.operating_points
    for row in read_rows(cohort / "labels.csv")[:4]:
        feats = EmbeddingStore(cohort / "embeddings").read(study_key(row["study"])).feats.unsqueeze(0)
        logits = []
        for fold in range(3):
            network = parser_of(done, fold).get_parsed_content("network_def").eval()
            network.load_state_dict(torch.load(done.fold_folder(fold) / "weights.pt", weights_only=True))
            with torch.inference_mode():
                logits.append(network(feats))
        with torch.inference_mode():
            found = head.aggregator(feats)
        torch.testing.assert_close(found, torch.stack(logits).mean(dim=0), atol=1e-5, rtol=1e-5)
    entry = read_metadata(done.folder.parent / "head")["radclear"]["weights"]["model.pt"]
    assert entry["crossval"]["n_folds"] == 3 and entry["demonstration"] is True
    folds = [json.loads((done.fold_folder(fold) / "fold.json").read_text())["seconds"] for fold in range(3)]
    assert min(folds) > 0 and entry["seconds"] == pytest.approx(sum(folds), abs=0.06)
    assert done.report["largest_difference"] < 1e-4 and done.report["weights_sha256"] == entry["sha256"]


def test_the_ensemble_is_evaluated_on_the_held_out_split(done, cohort, tmp_path, clean_process):
    _, code = run_config(
        done.folder.parent / "head" / "configs" / "evaluate.json",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        boxes=cohort / "boxes.csv",
        output_dir=tmp_path,
        device="cpu",
    )
    assert code == 0
    metrics = json.loads((tmp_path / "lung_disease_metrics.json").read_text())
    assert metrics["n_studies"] == 12 and metrics["macro_auroc"] > 0.8


def test_an_ensemble_that_is_there_is_kept_and_nothing_else_is_overwritten(done, bundles, tmp_path):
    target = done.folder.parent / "head"
    before = (target / "models" / "model.pt").stat().st_mtime_ns
    assert store_ensemble(done, target) == done.report
    assert (target / "models" / "model.pt").stat().st_mtime_ns == before
    shutil.copytree(bundles / DISEASE, tmp_path / "other")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    for place in ("other", "mine"):
        with pytest.raises(CrossvalError, match="holds something else"):
            store_ensemble(done, tmp_path / place)
    with pytest.raises(CrossvalError, match="holds something else"):
        store_ensemble(replace(done, settings_sha256="0" * 64), target)
    (tmp_path / "empty").mkdir()
    store_ensemble(done, tmp_path / "empty")
    assert (tmp_path / "empty" / "models" / "model.pt").is_file()


def test_an_ensemble_that_answers_otherwise_is_not_put_in_place(done, tmp_path):
    results = dict(done.results)
    results[1] = replace(results[1], logits=results[1].logits + 0.01)
    with pytest.raises(CrossvalError, match="fold 1 answers otherwise than its weights do"):
        store_ensemble(replace(done, results=results), tmp_path / "head")
    assert not list(tmp_path.iterdir())
    with pytest.raises(CrossvalError, match="2 of 3 folds"):
        store_ensemble(replace(done, results={0: results[0], 2: results[2]}), tmp_path / "head")


def test_auxiliary_labels_of_a_heads_own_config_are_on_record(bundles, tmp_path):
    """So that folds trained with and without them are not taken for one run."""
    head = tmp_path / "head"
    shutil.copytree(bundles / DISEASE, head)
    assert "auxiliary" not in CHOICES.effective(head)
    path = head / "configs" / "train.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auxiliary": ["stage"]}))
    settings = CHOICES.effective(head)
    assert settings["auxiliary"] == ["stage"] and settings["auxiliary_weight"] == 1.0


@pytest.mark.parametrize(("kind", "aggregator"), [("ordinal", "gated"), ("multiclass", "mean_pool")])
def test_staging_of_both_kinds_and_other_aggregators(
    kind, aggregator, bundles, cohort, tmp_path, clean_process
):
    choices = replace(CHOICES, kind=kind, aggregator=aggregator, learning_rate=0.01, average_decay=0.5)
    run = crossval(bundles, cohort, tmp_path / "run", STAGING, choices)
    store_ensemble(run, tmp_path / "head", demonstration=False)
    entry = read_metadata(tmp_path / "head")["radclear"]["weights"]["model.pt"]
    assert entry["settings"]["average_decay"] == 0.5
    head = load_head(tmp_path / "head", backbone_bundle=run.backbone)
    assert head.kind == kind and head.operating_points is None
    table = read_predictions(run.predictions)
    assert table.kind == kind
    if kind == "ordinal":
        assert run.results[0].state_dict["head.5.first"].shape == (1,)
    feats = run.store.read(run.table.studies[0].key).feats.unsqueeze(0)
    with torch.inference_mode():
        probabilities = head.probabilities(head.aggregator(feats))
        answer = head.answer(probabilities, head.aggregator.attention, feats, precision="float32")
    assert answer.kind == kind and sum(answer.probabilities) == pytest.approx(1)
    _, code = run_config(
        tmp_path / "head" / "configs" / "evaluate.json",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        output_dir=tmp_path / "out",
        device="cpu",
    )
    assert code == 0
    assert (tmp_path / "out" / "staging_metrics.json").is_file()


def test_another_aggregator_is_the_published_one(bundles, tmp_path):
    """Width and dropout of the shipped heads' branches are not those of CLEAR's attention."""
    values = replace(CHOICES, aggregator="attention").overrides(bundles / DISEASE)["aggregator"]
    made = config_parser(bundles / DISEASE, {"aggregator": values}).get_parsed_content("aggregator")
    assert {name: tensor.shape for name, tensor in made.state_dict().items()} == {
        name: tensor.shape for name, tensor in AttentionMIL(240, 5).state_dict().items()
    }
    shutil.copytree(bundles / DISEASE / "configs", tmp_path / "head" / "configs")
    path = tmp_path / "head" / "configs" / "train.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"aggregator": {**values, "hidden_dim": 32}}))
    pooled = replace(CHOICES, aggregator="mean_pool").overrides(tmp_path / "head")["aggregator"]
    assert pooled["hidden_dim"] == 32  # alike but for the attention, so that the two can be compared


def test_an_ensemble_may_be_cross_validated_again(done, cohort):
    values = replace(CHOICES, aggregator="gated").overrides(done.folder.parent / "head")
    assert values["aggregator"]["_target_"].endswith("GatedAttentionMIL")
    assert values["aggregator"].keys() == {"_target_", "embedding_dim", "n_classes", "kind"}
    own = CHOICES.overrides(done.folder.parent / "head")["aggregator"]
    assert own == done.settings["aggregator"]


def edited(cohort, path, change):
    rows = read_rows(cohort / "labels.csv")
    for number, row in enumerate(rows):
        change(number, row)
    write_rows(path, rows)
    return path


def test_missing_labels_and_embeddings_are_stated_exclusions(bundles, cohort, tmp_path):
    def change(number, row):
        if number == 0:
            row["disease_effusion"] = ""
        if number == 1:
            row["study"] = "elsewhere"

    labels = edited(cohort, tmp_path / "labels.csv", change)
    run = crossval(bundles, cohort, tmp_path / "run", labels=labels, choices=replace(CHOICES, max_epochs=1))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    reasons = {entry["key"]: entry["reason"] for entry in manifest["excluded"]}
    assert reasons[study_key("study-00")] == "no label in disease_effusion"
    assert reasons[study_key("elsewhere")].startswith("no embeddings in the embeddings folder")
    assert run.complete and len(run.table.studies) == 46


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda n, r: r.update(disease_nodule="maybe"), {}, "disease_nodule is 'maybe'; expected 0, 1"),
        (lambda n, r: r.update(disease_nodule="0"), {}, "none of 48 usable studies is positive for nodule"),
        (lambda n, r: r.update(disease_nodule="1"), {}, "none of 48 usable studies is negative for nodule"),
        (lambda n, r: r.update(stage="V"), {"name": STAGING}, "stage is 'V'; expected one of I, II, III, IV"),
        (lambda n, r: r.update(stage=r["stage"].replace("IV", "I")), {"name": STAGING}, "is positive for IV"),
        (lambda n, r: r.update(study="x" + r["study"]), {}, "has embeddings"),
        (lambda n, r: r.update(patient="p"), {}, "one patient is in split"),
        (lambda n, r: r.update(patient=f"p{n % 2}", split=""), {}, "2 patients"),
        (None, {"choices": replace(CHOICES, n_folds=2)}, "3 or more"),
        (None, {"choices": replace(CHOICES, kind="ordinal")}, "are multilabel"),
        (None, {"choices": replace(CHOICES, aggregator="max")}, "expected one of attention"),
        (None, {"held_out": ["hold-out"]}, "no study is in split hold-out.* splits found: test, train, val"),
        (None, {"group": "hospital"}, "lacks the columns hospital"),
        (None, {"backbone_bundle": "lecl_vit"}, "weight_sha256"),
        (None, {"embeddings": "absent"}, "absent does not exist; name it with --embeddings"),
    ],
)
def test_what_cannot_be_cross_validated_is_said_before_anything_is_written(
    change, options, said, bundles, cohort, tmp_path
):
    if change:
        options = {"labels": edited(cohort, tmp_path / "labels.csv", change), **options}
    if "backbone_bundle" in options:
        options = {**options, "backbone_bundle": bundles / options["backbone_bundle"]}
    if "embeddings" in options:
        options = {"embeddings": tmp_path / "absent"}
    with pytest.raises(RadclearError, match=said):
        crossval(bundles, cohort, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("rare", "said"), [("1", "positive"), ("0", "negative")])
def test_a_class_that_a_fold_cannot_learn_is_noted(rare, said, bundles, cohort, tmp_path):
    def change(number, row):
        row["disease_nodule"] = rare if number == 0 else str(1 - int(rare))

    labels = edited(cohort, tmp_path / "labels.csv", change)
    run = crossval(bundles, cohort, tmp_path / "run", labels=labels, choices=replace(CHOICES, max_epochs=1))
    assert len(run.notes) == 2, "one fold tests the only one, one stops by it, one trains on it"
    assert all(f"class nodule has no {said} study in the training part" in note for note in run.notes)
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["notes"] == run.notes
    assert run.complete


def test_without_a_split_to_hold_out_all_take_part_and_it_is_said(bundles, cohort, tmp_path):
    labels = edited(cohort, tmp_path / "labels.csv", lambda n, row: row.update(split=row["split"].upper()))
    run = crossval(bundles, cohort, tmp_path / "run", labels=labels, choices=replace(CHOICES, max_epochs=1))
    assert len(run.table.studies) == 60 and "TEST, TRAIN, VAL all take part" in run.notes[0]


def test_a_fold_that_fails_is_reported_and_the_others_go_on(bundles, cohort, tmp_path, monkeypatch):
    from radclear.bundle import crossval as module

    def failing(bundle_root, overrides, fold):
        if fold == 1:
            raise BundleError("the validation loss is nan")
        return train_fold(bundle_root, overrides, fold)

    monkeypatch.setattr(module, "train_fold", failing)
    choices = replace(CHOICES, max_epochs=1)
    run = crossval(bundles, cohort, tmp_path / "run", choices=choices)
    assert run.trained == [0, 2] and run.failed == [(1, "the validation loss is nan")]
    assert not run.complete and not run.predictions.exists()
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["failed"][0]["fold"] == 1
    monkeypatch.undo()
    assert crossval(bundles, cohort, tmp_path / "run", choices=choices).trained == [1]


def test_train_json_takes_a_fold_and_an_ordinal_kind(done, bundles, cohort, tmp_path, capsys, clean_process):
    options = {
        "embeddings": cohort / "embeddings",
        "labels": cohort / "labels.csv",
        "device": "cpu",
        "max_epochs": 1,
        "kind": "ordinal",
    }
    config = bundles / STAGING / "configs" / "train.json"
    _, code = run_config(
        config,
        workflow_type="train",
        output_bundle=tmp_path / "head",
        folds=done.folder / "folds.json",
        fold=1,
        held_out=["test"],
        **options,
    )
    assert code == 0
    assert load_head(tmp_path / "head", backbone_bundle=done.backbone).kind == "ordinal"
    entry = read_metadata(tmp_path / "head")["radclear"]["weights"]["model.pt"]
    sizes = [len(result.studies) for result in done.results.values()]
    assert entry["n_studies"] == {"train": sizes[0], "validation": sizes[2]}
    assert entry["settings"]["fold"] == 1
    _, code = run_config(config, workflow_type="train", **options)
    assert code == 2 and 'kind is "multiclass"' in capsys.readouterr().err


def test_bags_are_predicted_the_same_twice(done, cohort):
    table = LabelTable.read(
        cohort / "labels.csv",
        classes=dict(zip(done.table.classes, [f"disease_{c}" for c in done.table.classes], strict=True)),
    )
    network = parser_of(done, 0).get_parsed_content("network_def")
    bags = BagDataset(EmbeddingStore(cohort / "embeddings"), table, "test")
    first, second = (predict_bags(network.train(), bags, batch_size=size) for size in (16, 5))
    torch.testing.assert_close(first[0], second[0], atol=1e-5, rtol=1e-5)
    assert first[2:] == second[2:]


def test_another_ensemble_in_the_way_is_found_before_a_fold_is_trained(done, bundles, cohort, tmp_path):
    target = done.folder.parent / "head"
    with pytest.raises(CrossvalError, match="holds something else"):
        crossval(
            bundles,
            cohort,
            tmp_path / "run",
            choices=replace(CHOICES, seed=7),
            before_training=lambda run: check_target(run.settings_sha256, target),
        )
    assert not list((tmp_path / "run").glob("fold_*"))
