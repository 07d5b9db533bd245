"""`radclear crossval` from the command line, and `radclear predict` and `evaluate` with what it made."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from radclear.cli import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from bag_cohorts import write_cohort  # noqa: E402


@pytest.fixture(scope="module")
def cohort(bundles, tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"), bundles / "lecl_gated_cnn", n_studies=30)


def crossval(bundles, cohort, output, *more, task="disease"):
    command = ["crossval", "--embeddings", cohort / "embeddings", "--labels", cohort / "labels.csv"]
    command += ["--task", task, "--output", output, "--bundles", bundles, "--device", "cpu", "--quiet"]
    return main([str(part) for part in (*command, "--folds", "3", "--max-epochs", "1", *more)])


def test_folds_then_evaluation_then_prediction(bundles, studies, cohort, tmp_path, capsys):
    head = tmp_path / "heads" / "staging_classification"
    options = ("--kind", "ordinal", "--aggregator", "gated", "--learning-rate", "0.01", "--patience", "2")
    options = (*options, "--output_bundle", head, "--seed", "4", "--average-decay", "0.25")
    assert crossval(bundles, cohort, tmp_path / "cv", *options, task="staging") == 0
    shown = capsys.readouterr()
    assert "24 studies of 24 patients; 6 excluded" in shown.out and "6 held out: split test" in shown.out
    assert "3 trained, 0 there already" in shown.out and "ensemble: " in shown.out and not shown.err
    assert crossval(bundles, cohort, tmp_path / "cv", *options, task="staging") == 0
    assert "0 trained, 3 there already" in capsys.readouterr().out
    assert json.loads((tmp_path / "cv" / "settings.json").read_text())["average_decay"] == 0.25

    predictions = tmp_path / "cv" / "predictions.csv"
    command = ["evaluate", str(predictions), "--output", str(tmp_path / "report"), "--task", "staging"]
    assert main([*command, "--bootstrap", "20", "--quiet"]) == 0
    document = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert document["predictions"]["kind"] == "ordinal"

    source = next(path for path in studies.iterdir() if "DOE" in path.name)
    command = [
        "predict",
        str(source),
        "--output",
        str(tmp_path / "out"),
        "--bundles",
        str(tmp_path / "heads"),
    ]
    command += ["--backbone-bundle", str(bundles / "lecl_gated_cnn"), "--task", "staging", "--device", "cpu"]
    assert main(command) == 0
    (result,) = (tmp_path / "out").glob("*/result.json")
    (task,) = json.loads(result.read_text())["tasks"]
    assert task["kind"] == "ordinal" and task["calibrated"] is True
    assert sum(entry["probability"] for entry in task["classes"]) == pytest.approx(1)
    assert (result.parent / "report.html").read_text().count("Most likely") >= 1


def test_all_studies_may_take_part(bundles, cohort, tmp_path, capsys):
    assert crossval(bundles, cohort, tmp_path / "cv", "--held-out", "none") == 0
    assert "30 studies of 30 patients; 0 excluded" in capsys.readouterr().out
    with (tmp_path / "cv" / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 30


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--labels", "absent.csv"), "labels absent.csv does not exist"),
        (("--embeddings", "absent"), "embeddings absent does not exist"),
        (("--folds", "2"), "3 or more"),
        (("--kind", "ordinal"), "are multilabel"),
        (("--held-out", "nowhere"), "no study is in split nowhere"),
        (("--output-bundle", "{bundles}/lung_disease_classification"), "holds something else"),
        (("--device", "cuda:99"), "cuda"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence_and_nothing_is_written(
    options, said, bundles, cohort, tmp_path, capsys
):
    options = [option.format(bundles=bundles) for option in options]
    assert crossval(bundles, cohort, tmp_path / "cv", *options) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line and line.startswith("radclear crossval: ")
    assert not (tmp_path / "cv").exists()


@pytest.mark.parametrize(
    "option",
    [
        ("--folds", "0"),
        ("--seed", "-1"),
        ("--learning-rate", "0"),
        ("--task", "lungs"),
        ("--average-decay", "1"),
        ("--average-decay", "-0.1"),
        ("--average-decay", "nan"),
    ],
)
def test_options_out_of_range(option, capsys):
    with pytest.raises(SystemExit) as stop:
        main(
            ["crossval", "--embeddings", "e", "--labels", "l", "--task", "disease", "--output", "o", *option]
        )
    assert stop.value.code == 2 and option[0] in capsys.readouterr().err


def test_a_failed_fold_is_exit_code_1(bundles, cohort, tmp_path, capsys, monkeypatch):
    from radclear.bundle import BundleError
    from radclear.bundle import crossval as module

    def failing(*_):
        raise BundleError("the validation loss is nan; lower the learning rate")

    monkeypatch.setattr(module, "train_fold", failing)
    assert crossval(bundles, cohort, tmp_path / "cv", "--output-bundle", tmp_path / "head") == 1
    assert "failed fold 0: the validation loss is nan" in capsys.readouterr().err
    assert not (tmp_path / "head").exists()
