"""`radclear evaluate` from the command line: files out, one sentence and exit code 2 for what cannot be."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from radclear.cli import main
from radclear.evaluation import write_predictions
from radclear.phantom.labels import DISEASE_CLASSES, STAGE_CLASSES


def table(path, *, seed=0, classes=DISEASE_CLASSES, kind="multilabel", n=60, labels=True):
    rng = np.random.default_rng(5)
    if kind == "multilabel":
        truth = rng.random((n, len(classes))) < 0.4
    else:
        truth = np.eye(len(classes))[rng.integers(0, len(classes), n)] > 0
    scores = truth + 0.7 * np.random.default_rng(seed).normal(size=truth.shape)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return write_predictions(
        path,
        studies=[f"s{i}" for i in range(n)],
        patients=[f"p{i // 2}" for i in range(n)],
        splits=["test"] * n,
        probabilities=probabilities,
        labels=truth if labels else None,
        kind=kind,
        classes=classes,
        key_slices=[[3, 1, 2, 4, 5]] * n,
        n_slices=[12] * n,
    )


def evaluate(*arguments):
    return main(["evaluate", *map(str, arguments), "--bootstrap", "50", "--quiet"])


def sentence(capsys):
    """The one line of standard error."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_table_in_files_out(tmp_path, capsys):
    path, out = table(tmp_path / "p.csv"), tmp_path / "out"
    assert evaluate(path, "--output", out, "--task", "lung_disease", "--seed", "7") == 0
    shown = capsys.readouterr().out
    assert "30 patients, 60 studies" in shown and "ground glass" in shown and "report.html" in shown
    document = json.loads((out / "metrics.json").read_text())
    assert document["method"]["n_resamples"] == 50 and document["method"]["seed"] == 7
    assert list(document["classes"]) == list(DISEASE_CLASSES)
    assert "<h1>Lung disease</h1>" in (out / "report.html").read_text(encoding="utf-8")


def test_hits_say_of_how_many_studies_and_patients(tmp_path, capsys):
    (tmp_path / "boxes.csv").write_text("study,slice,kind\ns0,3,nodule\ns1,2,nodule\ns2,9,nodule\n")
    path = table(tmp_path / "p.csv")
    assert evaluate(path, "--output", tmp_path / "out", "--boxes", tmp_path / "boxes.csv") == 0
    shown = capsys.readouterr().out
    who = "of 3 studies of 2 patients with annotated slices of any kind (5 % of the studies)"
    for line in (f"hit@1: 1 {who}", f"hit@3: 2 {who}", f"hit@5: 2 {who}"):
        assert line in shown


def test_compare_and_options(tmp_path, capsys):
    first, second = table(tmp_path / "a.csv"), table(tmp_path / "b.csv", seed=1)
    options = ("--specificity", "0.8", "--bins", "5", "--threshold", "nodule=0.2")
    assert evaluate(first, "--output", tmp_path / "out", "--compare", second, *options) == 0
    assert "p Holm" in capsys.readouterr().out
    document = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(document["comparison"]["delong"]) == set(DISEASE_CLASSES)
    assert "sensitivity_at_specificity_0.8" in document["macro"]
    assert "5 bins" in document["method"]["definitions"]["ece"]
    assert "nodule 0.2" in document["method"]["definitions"]["sensitivity"]


def test_classes_are_called_from_the_operating_points_of_the_head(tmp_path, capsys):
    path, out, points = table(tmp_path / "p.csv"), tmp_path / "out", tmp_path / "lung_disease_metrics.json"
    known = {"operating_points": {"nodule": 0.15, "effusion": 0.3, "emphysema": None}, "macro_auroc": 0.8}
    points.write_text(json.dumps(known))
    options = ("--operating-points", points, "--threshold", "effusion=0.35")
    assert evaluate(path, "--output", out, *options) == 0
    rows = pd.read_csv(path)
    classes = json.loads((out / "metrics.json").read_text())["classes"]
    for name, threshold in (("nodule", 0.15), ("effusion", 0.35), ("emphysema", 0.5)):
        called, truth = rows[f"probability_{name}"] >= threshold, rows[f"label_{name}"] == 1
        found = {metric: entry["value"] for metric, entry in classes[name]["metrics"].items()}
        assert found["sensitivity"] == pytest.approx(called[truth].mean())
        assert found["specificity"] == pytest.approx((~called[~truth]).mean())
    settings = json.loads((out / "manifest.json").read_text())["settings"]
    assert settings["thresholds"] == {"nodule": 0.15, "effusion": 0.35}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "called from" in page and '<td class="number">0.150</td>' in page


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        ("study,patient", "is not a <task>_metrics.json"),
        ('{"temperature": 1.1, "operating_points": {"nodule": 0.2}}', "is not a <task>_metrics.json"),
        ('{"operating_points": null, "macro_auroc": 0.8}', "has no operating points"),
        ('{"operating_points": {"bone": 0.2}, "macro_auroc": 0.8}', "threshold for unknown class bone"),
    ],
)
def test_operating_points_of_something_else_are_refused(tmp_path, capsys, content, said):
    points = tmp_path / "points.json"
    if content:
        points.write_text(content)
    out = tmp_path / "out"
    assert evaluate(table(tmp_path / "p.csv"), "--output", out, "--operating-points", points) == 2
    assert said in sentence(capsys) and not out.exists()


def test_staging_is_ordinal_and_labels_may_lie_beside(tmp_path):
    path = table(tmp_path / "p.csv", classes=STAGE_CLASSES, kind="ordinal", labels=False)
    truth = tmp_path / "labels.csv"
    truth.write_text("study,stage\n" + "".join(f"s{i},{STAGE_CLASSES[i % 4]}\n" for i in range(60)))
    assert evaluate(path, "--output", tmp_path / "out", "--labels", truth, "--task", "staging") == 0
    document = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert document["predictions"]["kind"] == "ordinal"
    assert document["macro"]["quadratic_kappa"]["value"] is not None
    assert "labels" in json.loads((tmp_path / "out" / "manifest.json").read_text())["inputs"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--task", "tumor_location"), "unknown class nodule"),
        (("--task", "staging"), "unknown class"),
        (("--task", "lung_disease", "--kind", "multiclass"), "leave out --kind"),
        (("--split", "train"), "no study in split"),
        (("--threshold", "spleen=0.3"), "unknown class spleen"),
        (("--specificity", "1.5"), "between 0 and 1"),
        (("--bins", "1"), "at least 2 bins"),
        (("--labels", "absent.csv"), "absent.csv cannot be read"),
        (("--compare", "absent.csv"), "absent.csv cannot be read"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(arguments, said, tmp_path, capsys):
    assert evaluate(table(tmp_path / "p.csv"), "--output", tmp_path / "out", *arguments) == 2
    assert said in sentence(capsys)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("patient", "who", "lacks the column patient"),
        ("probability_nodule", "nodule", "nodule"),
        ("s3,", "s2,", "same study"),
        ("s3,p1,test,0", "s3,p1,test,1", "expected a probability"),
        ("s3,p1,test,0", "s3,p1,test,nan0", "expected a probability"),
    ],
)
def test_malformed_tables(old, new, said, tmp_path, capsys):
    path = table(tmp_path / "p.csv")
    path.write_text(path.read_text().replace(old, new, 1))
    assert evaluate(path, "--output", tmp_path / "out") == 2
    assert said in sentence(capsys)
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_missing_file_and_output(tmp_path, capsys):
    assert evaluate(tmp_path / "absent.csv", "--output", tmp_path / "out") == 2
    assert "absent.csv cannot be read" in sentence(capsys)
    (tmp_path / "taken").write_text("mine")
    assert evaluate(table(tmp_path / "p.csv"), "--output", tmp_path / "taken") == 2
    assert "name a folder" in sentence(capsys)


@pytest.mark.parametrize(
    "option", [("--threshold", "nodule"), ("--threshold", "a=2"), ("--seed", "-1"), ("--bootstrap", "0")]
)
def test_options_out_of_range(option, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "p.csv", "--output", str(tmp_path), *option])
    assert stop.value.code == 2 and option[0] in capsys.readouterr().err


def test_evaluation_needs_no_torch(tmp_path):
    path = table(tmp_path / "p.csv")
    script = (
        "import sys\nfrom radclear.cli import main\n"
        f"main(['evaluate', {str(path)!r}, '--output', {str(tmp_path / 'out')!r}, '--bootstrap', '5', "
        "'--quiet'])\nprint(sorted({'torch', 'monai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
