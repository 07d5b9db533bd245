"""The deletion test of a head by `evaluate.json`, against falls computed study by study."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from bag_cohorts import read_rows, write_cohort, write_rows
from bundle_fixtures import run_config

from radclear.bundle import BundleError, load_head
from radclear.bundle.boxes import read_class_boxes
from radclear.bundle.deletion_run import fall_text
from radclear.cohort import EmbeddingStore
from radclear.ct import study_key
from radclear.evaluation import Estimate

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")
DISEASE, STAGING = "lung_disease_classification", "staging_classification"


@pytest.fixture(scope="module")
def cohort(bundles, tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"), bundles / "lecl_gated_cnn", n_studies=80)


@pytest.fixture(scope="module")
def trained(bundles, cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "head"
    _, code = run_config(
        bundles / DISEASE / "configs" / "train.json",
        workflow_type="train",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        device="cpu",
        output_bundle=folder,
        max_epochs=25,
        learning_rate=0.003,
        bags_per_batch=8,
    )
    assert code == 0
    return folder


def evaluate(bundle, cohort, output, **options):
    options = {"boxes": cohort / "boxes.csv", "deletion": True} | options
    _, code = run_config(
        bundle / "configs" / "evaluate.json",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        output_dir=output,
        device="cpu",
        **{name: value for name, value in options.items() if value is not None},
    )
    return code


def test_falls_are_those_of_each_study(trained, bundles, cohort, tmp_path, capsys, clean_process):
    assert evaluate(trained, cohort, tmp_path, deletion_margin=0) == 0
    said = capsys.readouterr().out
    with (tmp_path / "lung_disease_deletion.csv").open() as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    written = json.loads((tmp_path / "lung_disease_deletion.json").read_text())
    head = load_head(trained, backbone_bundle=bundles / "lecl_gated_cnn")
    store = EmbeddingStore(cohort / "embeddings")
    marked = {row["study"]: int(row["slice"]) for row in read_rows(cohort / "boxes.csv")[::-1]}
    tested = [row for row in read_rows(cohort / "labels.csv") if row["split"] == "test"]
    assert list(rows) == list(head.classes) and len(tested) == 16

    def probability(bag):
        with torch.inference_mode():
            return head.probabilities(head.aggregator(bag.unsqueeze(0)))[0]

    for c, name in enumerate(head.classes):
        falls = []
        for study in (row["study"] for row in tested if row[f"disease_{name}"] == "1"):
            bag = store.read(study_key(study)).feats
            keep = np.arange(len(bag)) // 2 != marked[study]
            falls.append(float(probability(bag)[c] - probability(bag[keep])[c]))
        row = rows[name]
        assert float(row["fall_lesion"]) == pytest.approx(np.mean(falls), abs=1e-6)
        assert (row["n_studies"], row["n_patients"]) == (str(len(falls)), str(len(falls)))
        assert float(row["prevalence"]) == pytest.approx(len(falls) / 16)
        assert (
            float(row["fall_lesion"]) > 5 * abs(float(row["fall_other"])) and row["lesion_lowers"] == "True"
        )
        assert float(row["fall_lesion_low"]) < float(row["fall_lesion"]) < float(row["fall_lesion_high"])
        assert written["classes"][name]["lesion"]["value"] == float(row["fall_lesion"])
        assert any(line.split()[:2] == [name, str(len(falls))] for line in said.splitlines()), said
    assert written["n_patients"] == 16 and written["settings"]["margin_slices"] == 0
    assert any(entry["passed"] for entry in written["classes"].values())
    assert not any(row["study"] in json.dumps(written) for row in tested)


def test_what_cannot_be_tested_has_a_reason(trained, cohort, tmp_path, capsys, clean_process):
    boxes = [row for row in read_rows(cohort / "boxes.csv") if row["kind"] in ("nodule", "emphysema")]
    test = {row["study"]: row for row in read_rows(cohort / "labels.csv") if row["split"] == "test"}
    without = next(study for study, row in test.items() if row["disease_nodule"] == "0")
    boxes = [row for row in boxes if row["kind"] == "nodule" or row["study"] not in test]
    boxes.append({"study": without, "slice": 0, "kind": "nodule"})
    write_rows(tmp_path / "boxes.csv", boxes)
    assert evaluate(trained, cohort, tmp_path / "out", boxes=tmp_path / "boxes.csv") == 0
    classes = json.loads((tmp_path / "out" / "lung_disease_deletion.json").read_text())["classes"]
    for name in ("emphysema", "effusion"):
        assert (
            classes[name]["passed"] is None
            and "give studies with annotated slices" in classes[name]["reason"]
        )
    assert classes["nodule"]["excluded_by_reason"] == {"annotated, but its label says no": 1}
    assert classes["nodule"]["passed"] is not None
    assert "emphysema" in (said := capsys.readouterr().out) and "not tested: none of 0" in said
    assert evaluate(trained, cohort, tmp_path / "wide", deletion_margin=3) == 0
    wide = json.loads((tmp_path / "wide" / "lung_disease_deletion.json").read_text())["classes"]["nodule"]
    assert sum(wide["excluded_by_reason"].values()) + wide["n_studies"] == sum(
        row["disease_nodule"] == "1" for row in test.values()
    )
    assert any("too few others" in reason for reason in wide["excluded_by_reason"])


def test_one_study_alone_is_undecided_and_nothing_is_minus_zero(
    trained, cohort, tmp_path, capsys, clean_process
):
    test = {row["study"]: row for row in read_rows(cohort / "labels.csv") if row["split"] == "test"}
    boxes = read_rows(cohort / "boxes.csv")
    one = next(b["study"] for b in boxes if b["kind"] == "nodule" and b["study"] in test)
    kept = [b for b in boxes if b["kind"] == "nodule" and (b["study"] == one or b["study"] not in test)]
    write_rows(tmp_path / "boxes.csv", kept)
    assert evaluate(trained, cohort, tmp_path / "out", boxes=tmp_path / "boxes.csv") == 0
    found = json.loads((tmp_path / "out" / "lung_disease_deletion.json").read_text())["classes"]["nodule"]
    assert found["n_studies"] == 1 and found["reason"] == "undecided: 1 study"
    assert found["passed"] is found["lesion_lowers"] is found["other_does_not"] is None
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.split()[:2] == ["nodule", "1"])
    assert line.endswith("undecided: 1 study")
    assert fall_text(Estimate(-0.0001, (-0.0004, 0.2), 9, "")) == "0.000 [0.000, 0.200]"
    assert fall_text(Estimate(-0.0006, None, 0, "one")) == "-0.001"


def test_it_is_made_only_when_asked_for(trained, cohort, tmp_path, clean_process):
    assert evaluate(trained, cohort, tmp_path, deletion=None) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "lung_disease_metrics.json",
        "lung_disease_predictions.csv",
    ]


@pytest.mark.parametrize(
    ("name", "options", "found"),
    [
        (DISEASE, {"boxes": None}, "name their table with --boxes"),
        (DISEASE, {"deletion_column": "site"}, "a box table has columns study, slice, kind, site"),
        (STAGING, {}, "deletion_column is null for this head"),
        (STAGING, {"deletion_column": "kind"}, "no box has a class of this head under kind (found: primary"),
    ],
)
def test_what_cannot_start_ends_with_one_sentence_and_code_2(
    name, options, found, bundles, cohort, tmp_path, capsys, clean_process
):
    assert evaluate(bundles / name, cohort, tmp_path / "out", **options) == 2
    said = capsys.readouterr().err
    assert found in said and said.count("error: ") == 1 and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_slices_that_the_embeddings_do_not_have_are_named(trained, cohort, tmp_path, capsys, clean_process):
    boxes = read_rows(cohort / "boxes.csv")
    for row in boxes:
        row["slice"] = "200"
    write_rows(tmp_path / "boxes.csv", boxes)
    assert evaluate(trained, cohort, tmp_path / "out", boxes=tmp_path / "boxes.csv") == 2
    said = capsys.readouterr().err
    assert "slice 200 of study" in said and "Traceback" not in said


def test_boxes_by_class(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text(
        "study,slice,site,kind\na,3,lung,primary\na,4,lung,node\nb,1,liver,primary\nb,2,lung,nodule\n"
        "b,7,brain,primary\n"
    )
    found = read_class_boxes(
        path, column="site", classes=["lung", "liver", "bone"], kinds=["primary", "node"]
    )
    assert found == {"lung": {"a": {3, 4}}, "liver": {"b": {1}}, "bone": {}}
    with pytest.raises(BundleError, match="found: brain, liver, lung; classes: bone"):
        read_class_boxes(path, column="site", classes=["bone"])
