"""Heads are trained on stored embeddings, keep their best weights, and answer as evaluated."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import shutil

import numpy as np
import pytest
import torch
from bag_cohorts import DEPTH, read_rows, write_cohort, write_rows
from bundle_fixtures import HEADS, run_config
from sklearn.metrics import roc_auc_score
from torch import nn

import radclear
from radclear.bundle import (
    BestWeights,
    BundleError,
    load_head,
    read_metadata,
    seed_weights,
)
from radclear.bundle.boxes import read_boxes, read_finding_boxes
from radclear.bundle.calibration import fit_temperature, operating_points
from radclear.cohort import EmbeddingStore
from radclear.ct import study_key

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


@pytest.fixture(scope="module")
def cohort(bundles, tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"), bundles / "lecl_gated_cnn")


@pytest.mark.parametrize("name", HEADS[1:])
def test_training_then_evaluation(name, bundles, cohort, tmp_path, clean_process):
    source = bundles / name
    before = (source / "configs" / "metadata.json").read_bytes()
    inputs = {"embeddings": cohort / "embeddings", "labels": cohort / "labels.csv", "device": "cpu"}
    trained = tmp_path / "trained"
    workflow, code = run_config(
        source / "configs" / "train.json",
        workflow_type="train",
        **inputs,
        output_bundle=trained,
        max_epochs=15,
        learning_rate=0.003,
        bags_per_batch=8,
        patience=4,
    )
    assert code == 0
    seconds = workflow.parser.get_parsed_content("train#trainer").state.times["COMPLETED"]
    workflow.initialize()
    assert workflow.check_properties() == []
    assert (source / "configs" / "metadata.json").read_bytes() == before

    entry = read_metadata(trained)["radclear"]["weights"]["model.pt"]
    assert entry["demonstration"] is True and entry["n_studies"] == {"train": 24, "validation": 8}
    assert entry["excluded"] == {}
    assert seconds > 0 and entry["seconds"] == round(seconds, 1)
    assert entry["made_with"] == {"radclear": radclear.__version__, "torch": torch.__version__}
    assert entry["backbone"]["name"] == "lecl_gated_cnn" and entry["temperature"] > 0
    record = json.loads((trained / "models" / "model_training.json").read_text())
    losses = [step["validation_loss"] for step in record["validations"]]
    assert min(losses) < 0.7 * losses[0]
    assert len(losses) == 15 or len(losses) - 1 - int(np.argmin(losses)) == 4

    _, code = run_config(
        trained / "configs" / "evaluate.json",
        **inputs,
        boxes=cohort / "boxes.csv",
        output_dir=tmp_path / "out",
    )
    assert code == 0
    head = load_head(trained)
    metrics = json.loads((tmp_path / "out" / f"{head.task}_metrics.json").read_text())
    with (tmp_path / "out" / f"{head.task}_predictions.csv").open() as file:
        predictions = list(csv.DictReader(file))
    assert len(predictions) == metrics["n_studies"] == metrics["n_patients"] == 8
    assert metrics["prevalence"] == {name: n / 8 for name, n in metrics["n_positive"].items()}
    first = head.classes[0]
    truth = [
        row[f"label_{first}"] == "1"
        if head.kind == "multilabel"
        else row["stage" if head.kind == "ordinal" else "label"] == first
        for row in predictions
    ]
    scores = [float(row[f"probability_{first}"]) for row in predictions]
    assert metrics["auroc"][first] == pytest.approx(roc_auc_score(truth, scores))
    assert metrics["macro_auroc"] > 0.8
    assert metrics["operating_points"] == entry["operating_points"]
    if head.task == "lung_disease":
        assert metrics["key_slices"]["hit_rate"] >= 0.8

    # the probabilities of the table are those of the loaded head
    store = EmbeddingStore(cohort / "embeddings")
    feats = store.read(study_key(predictions[0]["study"])).feats
    with torch.inference_mode():
        expected = head.probabilities(head.aggregator.eval()(feats.unsqueeze(0), None))[0]
    found = [float(predictions[0][f"probability_{name}"]) for name in head.classes]
    assert found == pytest.approx(expected.tolist(), abs=1e-5)


def train_once(bundles, cohort, folder) -> None:
    """One epoch with the label table of a folder, into its `trained`."""
    _, code = run_config(
        bundles / HEADS[1] / "configs" / "train.json",
        workflow_type="train",
        embeddings=cohort / "embeddings",
        labels=folder / "labels.csv",
        output_bundle=folder / "trained",
        device="cpu",
        max_epochs=1,
    )
    assert code == 0


def test_rows_that_take_no_part_are_in_the_record(bundles, cohort, tmp_path, clean_process):
    rows = read_rows(cohort / "labels.csv")
    rows[0]["disease_nodule"] = rows[1]["disease_nodule"] = ""
    rows[2]["study"] = "elsewhere"
    write_rows(tmp_path / "labels.csv", rows)
    train_once(bundles, cohort, tmp_path)
    entry = read_metadata(tmp_path / "trained")["radclear"]["weights"]["model.pt"]
    reason = "no embeddings in the embeddings folder; make them with: radclear embed"
    assert entry["excluded"] == {"no label in disease_nodule": 2, reason: 1}
    assert entry["n_studies"] == {"train": 21, "validation": 8}
    record = json.loads((tmp_path / "trained" / "models" / "model_training.json").read_text())
    assert {e["key"]: e["reason"] for e in record["excluded"]} == {
        study_key(rows[0]["study"]): "no label in disease_nodule",
        study_key(rows[1]["study"]): "no label in disease_nodule",
        study_key("elsewhere"): reason,
    }


def test_classes_that_no_study_or_every_study_shows_are_in_the_record(
    bundles, cohort, tmp_path, clean_process
):
    rows = read_rows(cohort / "labels.csv")
    for row in rows:
        row["disease_nodule"] = int(row["split"] != "train")  # validation alone shows it
        row["disease_effusion"] = 1
    write_rows(tmp_path / "labels.csv", rows)
    train_once(bundles, cohort, tmp_path)
    record = json.loads((tmp_path / "trained" / "models" / "model_training.json").read_text())
    assert record["not_learnable"] == {
        "nodule": "no positive study to train on", "effusion": "no negative study to train on"
    }  # fmt: skip
    entry = read_metadata(tmp_path / "trained")["radclear"]["weights"]["model.pt"]
    n = entry["n_studies"]
    assert entry["n_positive"]["train"]["nodule"] == 0
    assert entry["n_positive"]["validation"]["nodule"] == n["validation"]
    assert entry["n_positive"]["train"]["effusion"] == n["train"]
    own = [row for row in rows if row["split"] == "train"]
    expected = sum(int(row["disease_consolidation"]) for row in own)
    assert entry["n_positive"]["train"]["consolidation"] == expected


def test_boxes_teach_attention_where_to_look(bundles, cohort, tmp_path, clean_process):
    """With boxes other weights come out, and the record names the table by its sha256."""
    boxes = tmp_path / "boxes.csv"
    rows = read_rows(cohort / "boxes.csv")
    write_rows(boxes, rows)
    sha256 = {}
    for name, options in (("without", {}), ("with", {"boxes": boxes, "attention_weight": 0.5})):
        _, code = run_config(
            bundles / HEADS[1] / "configs" / "train.json",
            workflow_type="train",
            embeddings=cohort / "embeddings",
            labels=cohort / "labels.csv",
            output_bundle=tmp_path / name,
            device="cpu",
            max_epochs=2,
            **options,
        )
        assert code == 0
        entry = read_metadata(tmp_path / name)["radclear"]["weights"]["model.pt"]
        sha256[name] = entry["sha256"]
        recorded = entry["settings"].get("boxes_sha256"), entry["settings"].get("attention_weight")
        file_sha256 = hashlib.sha256(boxes.read_bytes()).hexdigest()
        assert recorded == ((file_sha256, 0.5) if options else (None, None))
    assert sha256["with"] != sha256["without"]


@pytest.mark.parametrize("boxes", [False, True])
def test_auxiliary_labels_are_learned_beside_the_classes(boxes, bundles, cohort, tmp_path, clean_process):
    """Other weights of the same names come out; the record holds columns and their numbers of values."""
    rows = read_rows(cohort / "labels.csv")
    for number, row in enumerate(rows):
        row["size"] = ("", "small", "large")[number % 3]
    write_rows(tmp_path / "labels.csv", rows)
    columns, entries = ["size", "stage"], []
    for options in ({}, *({"auxiliary": columns, "auxiliary_weight": weight} for weight in (0.5, 2.0))):
        workflow, code = run_config(
            bundles / HEADS[1] / "configs" / "train.json",
            workflow_type="train",
            embeddings=cohort / "embeddings",
            labels=tmp_path / "labels.csv",
            output_bundle=tmp_path / f"trained{len(entries)}",
            device="cpu",
            max_epochs=2,
            **({"boxes": cohort / "boxes.csv"} if boxes else {}),
            **options,
        )
        assert code == 0
        entries.append(read_metadata(tmp_path / f"trained{len(entries)}")["radclear"]["weights"]["model.pt"])
    plain, lightly, taught = entries
    stages = {row["stage"] for row in rows if row["split"] == "train"}
    assert taught["settings"]["auxiliary"] == {"size": 2, "stage": len(stages)}
    assert (lightly["settings"]["auxiliary_weight"], taught["settings"]["auxiliary_weight"]) == (0.5, 2.0)
    assert "auxiliary" not in plain["settings"] and lightly["sha256"] != taught["sha256"]
    optimizer, network = map(workflow.parser.get_parsed_content, ("optimizer", "train#network"))
    optimized = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in network.parameters()} == optimized
    assert [layer.out_features for layer in network.layers] == [2, len(stages)]
    states = [
        torch.load(tmp_path / f"trained{n}" / "models" / "model.pt", weights_only=True) for n in range(3)
    ]
    assert list(states[0]) == list(states[1]) == list(states[2])


def test_an_auxiliary_column_that_is_not_there_is_named(bundles, cohort, tmp_path, capsys, clean_process):
    _, code = run_config(
        bundles / HEADS[1] / "configs" / "train.json",
        workflow_type="train",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        auxiliary=["grade"],
        output_bundle=tmp_path / "out",
        device="cpu",
    )
    assert code == 2 and "lacks the columns grade" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_box_table_that_is_not_there_is_named(bundles, cohort, tmp_path, capsys, clean_process):
    _, code = run_config(
        bundles / HEADS[1] / "configs" / "train.json",
        workflow_type="train",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        boxes=tmp_path / "nowhere.csv",
        output_bundle=tmp_path / "trained",
        device="cpu",
    )
    assert code == 2 and "nowhere.csv does not exist; name it with --boxes" in capsys.readouterr().err


@pytest.mark.parametrize("config", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ("backbone", "weight_sha256"),
        ("windows", "windows"),
        ("labels folder", "no.csv does not exist; name it with --labels"),
        ("embeddings folder", "no_embeddings does not exist; name it with --embeddings"),
        ("no embeddings", "radclear embed"),
        ("column", "disease_nodule"),
        ("label", "maybe"),
        ("split", "nowhere"),
        ("damaged", "is damaged"),
    ],
)
def test_what_cannot_start_ends_with_one_sentence_and_code_2(
    config, wrong, found, bundles, cohort, tmp_path, capsys, clean_process
):
    if config == "evaluate" and wrong == "backbone":
        seed_weights(copy_of(bundles, HEADS[1], tmp_path), backbone_bundle=bundles / "lecl_vit")
        bundle = tmp_path / HEADS[1]
    else:
        bundle = bundles / HEADS[1]
    options = {
        "embeddings": cohort / "embeddings",
        "labels": cohort / "labels.csv",
        "device": "cpu",
        "output_dir" if config == "evaluate" else "output_bundle": tmp_path / "out",
    }
    if wrong == "backbone":
        options["backbone_bundle"] = bundles / "lecl_vit"
    elif wrong == "windows":
        options["image_size"] = 112
        found = "image_size"
    elif wrong == "labels folder":
        options["labels"] = tmp_path / "no.csv"
    elif wrong == "embeddings folder":
        options["embeddings"] = tmp_path / "no_embeddings"
    elif wrong == "no embeddings":
        options["embeddings"] = tmp_path
    elif wrong == "split":
        options["split" if config == "evaluate" else "validation_split"] = "nowhere"
    elif wrong == "damaged":
        shutil.copytree(cohort / "embeddings", tmp_path / "store")
        for file in (tmp_path / "store").glob("*.h5"):
            file.write_bytes(b"damaged")
        options["embeddings"] = tmp_path / "store"
    else:
        text = options["labels"].read_text()
        first, row, *rest = text.splitlines()
        if wrong == "column":
            first = first.replace("disease_nodule", "something")
        else:
            study, patient, split, _, *others = row.split(",")
            row = ",".join([study, patient, split, "maybe", *others])
        options["labels"] = tmp_path / "labels.csv"
        options["labels"].write_text("\n".join([first, row, *rest]) + "\n")
    _, code = run_config(
        bundle / "configs" / f"{config}.json",
        workflow_type="train" if config == "train" else "infer",
        **options,
    )
    said = capsys.readouterr().err
    assert code == 2, said
    assert found in said and said.count("error: ") == 1 and "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("max_epochs", "ten", "a whole number from 1"),
        ("max_epochs", 0, "a whole number from 1"),
        ("patience", 2.5, "a whole number from 1"),
        ("bags_per_batch", True, "a whole number from 1"),
        ("max_instances", 0, "a whole number from 1, or None"),
        ("learning_rate", -1, "a number above 0"),
        ("learning_rate", math.nan, "a number above 0"),
        ("attention_weight", "high", "a number from 0"),
        ("auxiliary_weight", 0, "a number above 0"),
        ("average_decay", 1, "a number from 0 to below 1"),
        ("seed", -1, "a whole number from 0"),
    ],
)
def test_a_setting_that_is_no_such_number_ends_with_one_sentence_and_code_2(
    option, value, expected, bundles, cohort, tmp_path, capsys, clean_process
):
    _, code = run_config(
        bundles / HEADS[1] / "configs" / "train.json",
        workflow_type="train",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        output_bundle=tmp_path / "out",
        **{option: value},
    )
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert code == 2
    assert line == f"error: {option} is {value!r}; expected {expected}, with --{option}"
    assert not (tmp_path / "out").exists()


def test_the_mean_says_of_how_many_classes_it_is(bundles, cohort, tmp_path, capsys, clean_process):
    rows = read_rows(cohort / "labels.csv")
    for row in rows:
        row["disease_nodule"] = "0"
    write_rows(tmp_path / "labels.csv", rows)
    _, code = run_config(
        bundles / HEADS[1] / "configs" / "evaluate.json",
        embeddings=cohort / "embeddings",
        labels=tmp_path / "labels.csv",
        output_dir=tmp_path / "out",
        device="cpu",
    )
    shown = capsys.readouterr().out.splitlines()
    macro, nodule = (next(line for line in shown if f"AUROC {name}" in line) for name in ("macro", "nodule"))
    assert code == 0 and macro.endswith("mean of 4 classes") and "not defined  0 positive" in nodule


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (None, "boxes.csv does not exist; name it with --boxes"),
        (
            ("study,slice,kind", "study,index,kind"),
            "columns study, index, kind; a box table has",
        ),
        (("study-", "other-"), "line 2: this study is not in the label table"),
        ((",primary", ".5,primary"), f"line N: slice is '{DEPTH + 1}.5'; expected a whole number from 0"),
        ((f",{DEPTH + 1},primary", ",,primary"), "line N: slice is ''; expected a whole number"),
        ((f",{DEPTH + 1},primary", ",-1,primary"), "line N: slice is '-1'; expected a whole number"),
        ((f",{DEPTH + 1},primary", ""), "line N: slice is ''; expected a whole number"),
    ],
)
def test_a_bad_box_table_ends_with_one_sentence_and_code_2(
    change, found, bundles, cohort, tmp_path, capsys, clean_process
):
    boxes = tmp_path / "boxes.csv"
    first = next(n for n, row in enumerate(read_rows(cohort / "boxes.csv"), 2) if row["kind"] == "primary")
    if change:
        boxes.write_text((cohort / "boxes.csv").read_text().replace(*change))
    _, code = run_config(
        bundles / HEADS[1] / "configs" / "evaluate.json",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        boxes=boxes,
        output_dir=tmp_path / "out",
        device="cpu",
    )
    said = capsys.readouterr().err
    assert code == 2, said
    assert found.replace("line N", f"line {first}") in said
    assert said.count("error: ") == 1 and "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", None])
def test_what_is_no_box_table_is_refused(content, tmp_path):
    path = tmp_path / "boxes.csv"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(BundleError, match="box table"):
        read_boxes(path)


def test_boxes_of_the_chosen_kinds_are_read(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("kind,study,slice\nnodule,a,3\nnode,a,4\nnodule,a,3\nnodule,b,0\n", encoding="utf-8-sig")
    assert read_boxes(path) == {"a": {3, 4}, "b": {0}}
    assert read_boxes(path, kinds=["nodule"], studies=["a", "b", "c"]) == {"a": {3}, "b": {0}}
    with pytest.raises(BundleError, match="line 5: this study is not in the label table"):
        read_boxes(path, kinds=["node"], studies=["a"])


def copy_of(bundles, name, folder):
    shutil.copytree(bundles / name, folder / name)
    config = folder / name / "configs" / "inference.json"
    config.write_text(config.read_text().replace("../lecl_gated_cnn", str(bundles / "lecl_gated_cnn")))
    return folder / name


def test_findings_of_boxes_are_sites_of_tumors_and_kinds_of_all_else(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("study,slice,site,kind\na,3,liver,primary\na,4,lung,nodule\nb,0,bone,metastasis\n")
    found = read_finding_boxes(path, findings=["liver", "nodule"])
    assert found == {"a": ({3}, {4}), "b": (set(), set())}
    path.write_text("study,slice,site,kind\na,3,liver,primary\nb,7, ,metastasis\n")
    with pytest.raises(BundleError, match="line 3: the box has no site; write it"):
        read_finding_boxes(path, findings=["liver"])


def test_evaluation_checks_the_precision_it_computes_in(bundles, cohort, tmp_path, capsys, clean_process):
    _, code = run_config(
        bundles / HEADS[1] / "configs" / "evaluate.json",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        output_dir=tmp_path / "out",
        device="cpu",
        precision="float7",
    )
    assert code == 2 and "float7" in capsys.readouterr().err


def test_kept_weights_are_a_copy_of_the_best():
    class State:
        output: dict = {}

    class Engine:
        state = State()

    network = nn.Linear(1, 1, bias=False)
    best = BestWeights(network, nn.MSELoss())
    for weight in (3.0, 1.0, 2.0, 5.0):  # the target is 1, so the second is the best
        network.weight.data.fill_(weight)
        Engine.state.output = {"pred": network(torch.ones(4, 1)), "label": torch.ones(4, 1)}
        best._batches.clear()
        best._collect(Engine)
        best._judge(Engine)
    assert best.best == 2 and best.validations_without_gain == 2
    assert best.state_dict["weight"].item() == 1.0 and network.weight.item() == 5.0


@pytest.mark.parametrize("kind", ["multilabel", "multiclass"])
@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 4.0])
def test_temperature_is_found_again(kind, true_temperature):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(5_000, 3, generator=generator)
    if kind == "multilabel":
        labels = (torch.rand(logits.shape, generator=generator) < logits.sigmoid()).float()
    else:
        labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    found = fit_temperature(logits * true_temperature, labels, kind=kind)
    assert found == pytest.approx(true_temperature, rel=0.1)


def test_operating_points_separate_what_can_be_separated():
    probabilities = torch.tensor([[0.1, 0.2, 0.5], [0.4, 0.9, 0.5], [0.6, 0.3, 0.5], [0.9, 0.8, 0.5]])
    labels = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    points = operating_points(probabilities, labels, ["a", "b", "always"])
    assert points["a"] == pytest.approx(0.5) and points["b"] == pytest.approx(0.55)
    assert points["always"] is None
    assert not any(math.isnan(point) for point in points.values() if point is not None)
