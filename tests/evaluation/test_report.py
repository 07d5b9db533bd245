"""The files of a run: what they say, that they agree, and that they give nothing away."""

import csv
import json
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources

import pytest
from made_tables import multilabel_table, ordinal_table

from radclear.evaluation import EvaluationError, compare, evaluate, evaluate_predictions, write_predictions
from radclear.evaluation.document import build_document
from radclear.evaluation.figures import draw_png
from radclear.evaluation.page import render_page
from radclear.evaluation.plots import FIGURES, plan_figures

VOID = {"meta", "img", "br", "link"}


class Outline(HTMLParser):
    """Checks that tags close in order; collects tables and references."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tables, self.references, self.ids = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.references += [attributes[name] for name in ("href", "src") if name in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag == "table":
            self.tables.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "table" in self.open:
            self.tables[-1] += " " + data


def save(table, path, kind=None):
    return write_predictions(
        path,
        studies=[f"SECRET^NAME/{s}" for s in table.studies],
        patients=[f"PATIENT-{p}" for p in table.patients],
        splits=["test"] * table.n_studies,
        probabilities=table.probabilities,
        labels=table.truth,
        kind=kind or table.kind,
        classes=table.classes,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    table, other = multilabel_table(seed=1), multilabel_table(seed=2, strength=0.8)
    for made in (table, other):
        made.truth[:, 0] = False  # a class without positives
    first, second = save(table, folder / "first.csv"), save(other, folder / "second.csv")
    done = evaluate_predictions(
        first, folder / "out", other=second, n_resamples=100, seed=3, title="A <title>"
    )
    return done, folder / "out"


def test_files(run):
    done, folder = run
    manifest = json.loads((folder / "manifest.json").read_text())
    names = sorted(p.name for p in folder.iterdir())
    assert manifest["files"] == names == sorted(p.name for p in done.files)
    assert {f"{name}.png" for name in FIGURES} < set(names)
    assert manifest["settings"]["seed"] == 3 and manifest["settings"]["n_resamples"] == 100
    assert len(manifest["inputs"]["predictions"]["sha256"]) == 64 and "compared_with" in manifest["inputs"]


def test_json_and_csv_say_what_was_found(run):
    done, folder = run
    document = json.loads((folder / "metrics.json").read_text())
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert len(rows) == sum(len(metrics) for metrics in done.evaluation.estimates.values())
    for row in rows:
        entry = done.evaluation.estimates[row["class"]][row["metric"]]
        stored = (
            document["macro"] if row["class"] == "macro" else document["classes"][row["class"]]["metrics"]
        )
        assert stored[row["metric"]] == entry.as_dict()
        assert (row["n_studies"], row["n_patients"]) == ("120", "60")
        if entry.value is None:
            assert row["value"] == "" and row["reason"] == "no positive study"
        else:
            assert float(row["value"]) == pytest.approx(entry.value)
            assert float(row["interval_low"]) == pytest.approx(entry.interval[0])
        if row["class"] != "macro":
            assert float(row["prevalence"]) == pytest.approx(done.evaluation.counts[row["class"]].prevalence)
    assert document["classes"]["bone"]["metrics"]["auroc"]["value"] is None
    assert document["undefined_classes"] == ["bone"]
    assert "10 bins" in document["method"]["definitions"]["ece"]
    differences = list(csv.DictReader((folder / "comparison.csv").open()))
    lung = next(row for row in differences if (row["class"], row["metric"]) == ("lung", "auroc"))
    assert float(lung["p_delong_holm"]) == pytest.approx(done.comparison.p_holm["lung"])
    assert document["comparison"]["delong"]["lung"]["p_holm"] == done.comparison.p_holm["lung"]
    assert document["comparison"]["holm_over"] == 2


def test_nothing_names_a_study_or_patient(run):
    _, folder = run
    for path in folder.iterdir():
        content = path.read_bytes()
        assert b"SECRET" not in content and b"PATIENT-" not in content, path.name


def test_page_is_whole_and_stands_alone(run):
    _, folder = run
    page = (folder / "report.html").read_text(encoding="utf-8")
    outline = Outline(page)
    assert outline.references == [] and "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert "@import" not in page and not re.search(r"url\((?!#)", page)
    assert len(outline.ids) == len(set(outline.ids))
    assert "prefers-color-scheme: dark" in page and "@media print" in page
    assert (
        "A &lt;title&gt;" in page
        and "no positive study" in page
        and not re.search(r"\bnan\b", page, re.IGNORECASE)
    )


def test_both_pages_have_one_set_of_colours():
    """Those of results, as variables; the rules of this page name none of their own."""
    rules = (resources.files("radclear.evaluation") / "templates" / "evaluation.css").read_text()
    shared = (resources.files("radclear.results") / "templates" / "style.css").read_text()
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsla?\(", rules)
    assert set(re.findall(r"var\((--[a-z-]+)\)", rules)) <= set(re.findall(r"(--[a-z-]+):", shared))


def test_every_table_says_patients_studies_and_prevalence(run):
    _, folder = run
    *tables, provenance = Outline((folder / "report.html").read_text(encoding="utf-8")).tables
    assert len(tables) == 4
    for text in tables:
        assert "60 patients, 120 studies" in text and "prevalence" in text


def test_folds_have_a_table_too():
    table = ordinal_table()
    table = replace(table, folds=tuple(f"fold {i % 2}" for i in range(table.n_studies)))
    found = evaluate(table, n_resamples=30)
    page = render_page(found, plan_figures(found), title="x", provenance={})
    (folds,) = [text for text in Outline(page).tables if "fold 1" in text]
    assert "120 patients, 120 studies" in folds and "prevalence" in folds
    assert f"{found.by_fold['fold 0']['II']:.3f}" in folds
    assert f"{found.estimates['macro']['quadratic_kappa'].value:.3f}" in page


def test_figures_are_pictures(run):
    _, folder = run
    for name in FIGURES:
        content = (folder / f"{name}.png").read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", content[16:24])
        assert width > 1000 and height > 400


def test_drawing_leaves_matplotlib_alone_and_needs_no_display(monkeypatch):
    import matplotlib

    monkeypatch.delenv("DISPLAY", raising=False)
    before = dict(matplotlib.rcParams)
    found = evaluate(ordinal_table(), n_resamples=10)
    one, two = (draw_png(plan_figures(found)[0], dpi=40) for _ in range(2))
    assert one == two and dict(matplotlib.rcParams) == before


def test_plans_hold_the_curves_of_both_tables():
    first, second = multilabel_table(seed=1, name="a.csv"), multilabel_table(seed=2, name="b.csv")
    first.truth[:, 0] = second.truth[:, 0] = True
    found = evaluate(first, n_resamples=10)
    for plan in plan_figures(found, compare(found, second)):
        assert plan.panels[0].lines == () and "no negative study of 120" in plan.panels[0].note
        roles = [line.role for line in plan.panels[2].lines]
        assert roles.count("first") == roles.count("second") == 1
        assert plan.legend["first"] == "a.csv" and plan.legend["second"] == "b.csv"
        assert (
            f"{found.counts['lung'].n_positive} positive of 120 studies, 60 patients" == plan.panels[2].note
        )


def test_precision_steps_enclose_the_average_precision():
    found = evaluate(multilabel_table(), n_resamples=10)
    plan = next(p for p in plan_figures(found) if p.name == "precision_recall")
    line = plan.panels[2].lines[-1]
    area = sum((line.x[1:] - line.x[:-1]) * line.y[1:])
    assert area == pytest.approx(found.estimates["lung"]["auprc"].value)


def test_a_later_run_leaves_nothing_of_the_comparison_before(tmp_path):
    path = save(multilabel_table(n_patients=20), tmp_path / "p.csv")
    evaluate_predictions(path, tmp_path / "out", other=path, n_resamples=10)
    assert (tmp_path / "out" / "comparison.csv").exists()
    evaluate_predictions(path, tmp_path / "out", n_resamples=10)
    assert not (tmp_path / "out" / "comparison.csv").exists()
    assert "comparison" not in json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_excluded_studies_are_in_the_manifest_without_names(tmp_path):
    path = save(ordinal_table(n=40), tmp_path / "p.csv")
    lines = path.read_text().splitlines()
    lines[3] = lines[3].rsplit(",", 1)[0] + ","
    path.write_text("\n".join(lines))
    done = evaluate_predictions(path, tmp_path / "out", n_resamples=10)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (entry,) = manifest["excluded"]
    assert (
        entry["line"] == 4 and entry["reason"] == "no label in stage" and entry["study_key"][:6] == "study-"
    )
    assert manifest["excluded_by_reason"] == {"no label in stage": 1}
    assert build_document(done.evaluation)["n_excluded"] == 1


def test_a_malformed_table_writes_nothing(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("study,patient\na,b\n")
    with pytest.raises(EvaluationError):
        evaluate_predictions(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
