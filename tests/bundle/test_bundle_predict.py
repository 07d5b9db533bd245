"""A folder of studies in; checked results, a table and an exit code out, and nothing that names a patient."""

from __future__ import annotations

import csv
import json
import os
import shutil

import pytest
import torch
from bundle_fixtures import HEADS

from radclear.bundle import BundleError, load_head, predict_folder, predict_study
from radclear.cohort import EmbeddingStore
from radclear.ct import find_studies, read_study, slice_stack
from radclear.results import validate_result

TASKS = ("tumor_location", "lung_disease", "staging")


@pytest.fixture(scope="module")
def heads(bundles):
    return [load_head(bundles / name) for name in HEADS]


@pytest.fixture(scope="module")
def answered(studies, heads, tmp_path_factory):
    """The studies answered once, in a folder that tests copy before they change it."""
    output = tmp_path_factory.mktemp("answers")
    steps = []
    report = predict_folder(studies, output, heads, progress=lambda *step: steps.append(step))
    return output, report, steps


@pytest.fixture
def own_answers(answered, tmp_path):
    shutil.copytree(answered[0], tmp_path / "answers")
    return tmp_path / "answers"


def test_two_studies_are_answered_and_the_broken_one_is_reported(answered, studies):
    output, report, steps = answered
    assert report.exit_code == 1 and report.demonstration
    assert [record.name for record in report.done] == ["DOE^JANE_0", "DOE^JANE_1"]
    (failed,) = report.failed
    assert failed.name == "ROE^RICHARD" and failed.reason
    assert steps[0][:2] == (0, 3) and steps[-1][:2] == (3, 3)
    for record in report.done:
        result = json.loads((output / record.key / "result.json").read_text())
        validate_result(result)
        assert result == record.result
        assert tuple(task["task"] for task in result["tasks"]) == TASKS
        assert (output / record.key / "report.html").stat().st_size > 10_000
        assert {"read", "window", "embed", "aggregate", "write"} <= set(record.seconds)
        assert any(warning["code"] == "demonstration_weights" for warning in result["warnings"])
    with (output / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["study_key"] for row in rows} == {source.key for source in find_studies(studies)}
    assert [row["status"] for row in rows].count("failed") == 1
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["exit_code"] == 1 and manifest["counts"]["failed"] == 1


def test_nothing_in_any_output_names_a_patient(answered, studies):
    study = read_study(studies / "DOE^JANE_0")
    secrets = [
        "DOE^",
        "JANE_",
        "ROE^",
        "RICHARD",
        str(studies),
        study.series.series_uid,
        study.series.study_uid,
    ]
    secrets += study.sop_instance_uids
    for file in answered[0].rglob("*"):
        text = file.name + (file.read_text(encoding="utf-8") if file.is_file() else "")
        for secret in secrets:
            assert secret not in text, (file, secret)


def test_answers_are_those_of_the_whole_network(answered, studies, bundles):
    # the heads share one embedding pass; the network of each embeds for itself
    study = read_study(studies / "DOE^JANE_0")
    for task, name in zip(TASKS[1:], HEADS[1:], strict=True):
        head = load_head(bundles / name)
        stack = slice_stack(study, windows=head.windows, size=head.image_size).float() / 255
        with torch.inference_mode():
            expected = head.probabilities(head.network(stack.unsqueeze(0)))[0]
        result = next(record.result for record in answered[1].done if record.name == "DOE^JANE_0")
        (found,) = (entry for entry in result["tasks"] if entry["task"] == task)
        assert [entry["probability"] for entry in found["classes"]] == pytest.approx(
            expected.tolist(), abs=1e-5
        )
        per_slice = head.network.attention[0].reshape(-1, len(head.windows)).sum(dim=1)
        assert found["attention"] == pytest.approx(per_slice.tolist(), abs=1e-5)


def test_one_embedding_pass_serves_three_heads(studies, heads, monkeypatch):
    import radclear.bundle.predict as predict

    calls = []
    original = predict.embed_slices
    monkeypatch.setattr(predict, "embed_slices", lambda *a, **k: calls.append(1) or original(*a, **k))
    prediction = predict_study(studies / "DOE^JANE_0", heads)
    assert len(calls) == 1
    assert [answer.task for answer in prediction.answers] == list(TASKS)


def test_stored_embeddings_are_used_while_they_fit(studies, heads, tmp_path, monkeypatch):
    import radclear.bundle.predict as predict

    store = EmbeddingStore(tmp_path / "store")
    (source, *_) = find_studies(studies)
    first = predict_study(source, heads, store=store)
    assert store.keys() == [source.key]
    monkeypatch.setattr(predict, "embed_slices", lambda *a, **k: pytest.fail("embedded again"))
    again = predict_study(source, heads, store=store)
    assert again.result["tasks"] == first.result["tasks"]
    with pytest.raises(pytest.fail.Exception):
        predict_study(source, heads, store=store, precision="float32" if first_precision(first) else "auto")


def first_precision(prediction) -> bool:
    return prediction.answers[0].model.precision != "float32" or pytest.skip(
        "float32 is the native precision here"
    )


def test_second_run_does_nothing_but_the_broken_study(own_answers, studies, heads):
    before = {path: path.stat().st_mtime_ns for path in own_answers.glob("*/*")}
    report = predict_folder(studies, own_answers, heads)
    assert not report.done and len(report.skipped) == 2 and len(report.failed) == 1
    assert {path: path.stat().st_mtime_ns for path in own_answers.glob("*/*")} == before
    assert all(record.result["tasks"] for record in report.skipped)


@pytest.mark.parametrize(
    ("change", "n_again"),
    [
        ("nothing", 1),
        ("policy", 3),
        ("precision", 3),
        ("head", 3),
        ("resume", 3),
        ("page", 2),
        ("killed", 2),
        ("source", 2),
    ],
)
def test_studies_are_done_again_when_something_changed(
    change, n_again, own_answers, answered, studies, heads, tmp_path, monkeypatch
):
    import radclear.bundle.predict_many as predict

    def asked(*args, **kwargs):
        raise RuntimeError("asked again")

    monkeypatch.setattr(predict, "predict_study", asked)
    record = answered[1].done[0]
    options, used, source = {}, heads, studies
    if change == "policy":
        options["policy"] = "strict"
    if change == "precision":
        native = record.result["tasks"][0]["model"]["precision"]
        if native == "float32":
            pytest.skip("float32 is what this machine computes in natively")
        options["precision"] = "float32"
    if change == "head":
        used = heads[:2]
    if change == "resume":
        options["resume"] = False
    if change == "page":
        (own_answers / record.key / "report.html").unlink()
    if change == "killed":  # a run that was killed leaves no mark, whatever else it left
        (own_answers / record.key / "result.done.json").unlink()
    if change == "source":
        source = tmp_path / "studies"
        shutil.copytree(studies, source)
        os.utime(next((source / record.name).iterdir()), ns=(1, 1))
    report = predict_folder(source, own_answers, used, **options)
    assert len(report.failed) == n_again and len(report.skipped) == 3 - n_again


def test_another_patients_study_of_the_same_name_replaces_nothing(studies, heads, tmp_path):
    for folder, number in (("a", 0), ("b", 1)):
        shutil.copytree(studies / f"DOE^JANE_{number}", tmp_path / folder / "scan")
    output = tmp_path / "out"
    (first,) = predict_folder(tmp_path / "a" / "scan", output, heads[:1]).done
    before = {path: path.read_bytes() for path in output.glob("*/*")}
    report = predict_folder(tmp_path / "b" / "scan", output, heads[:1])
    (failed,) = report.failed
    assert failed.key == first.key and not report.done
    assert "another study of the same name" in failed.reason and "--no-resume" in failed.reason
    assert {path: path.read_bytes() for path in output.glob("*/*")} == before
    assert str(tmp_path) not in "".join(path.read_text() for path in output.rglob("*.json"))
    (replaced,) = predict_folder(tmp_path / "b" / "scan", output, heads[:1], resume=False).done
    assert replaced.result["tasks"] != first.result["tasks"]


@pytest.mark.parametrize("change", ["moved and copied anew", "other slices in the same place"])
def test_the_same_study_is_answered_again(change, studies, heads, tmp_path):
    source = tmp_path / "a" / "scan"
    shutil.copytree(studies / "DOE^JANE_0", source)
    predict_folder(source, tmp_path / "out", heads[:1])
    file = sorted(source.iterdir())[0]
    if change == "moved and copied anew":
        source = source.rename(tmp_path / "scan")
        os.utime(source / file.name, ns=(1, 1))
    else:
        shutil.rmtree(source)
        shutil.copytree(studies / "DOE^JANE_1", source)
    report = predict_folder(source, tmp_path / "out", heads[:1])
    assert len(report.done) == 1


def test_identifiers_are_written_when_asked(studies, heads, tmp_path):
    predict_folder(studies / "DOE^JANE_0", tmp_path / "out", heads[:1], identifiers=True)
    text = "".join(path.read_text() for path in (tmp_path / "out").rglob("*.*") if path.suffix != ".html")
    assert read_study(studies / "DOE^JANE_0").series.series_uid in text
    assert "DOE^JANE_0" in (tmp_path / "out" / "summary.csv").read_text()


@pytest.mark.parametrize("problem", ["nothing there", "no study", "no heads"])
def test_usage_that_cannot_work_is_one_error(problem, tmp_path, heads, studies):
    (tmp_path / "empty").mkdir()
    source = {"nothing there": tmp_path / "nowhere", "no study": tmp_path / "empty"}.get(problem, studies)
    with pytest.raises(BundleError):
        predict_folder(source, tmp_path / "out", [] if problem == "no heads" else heads)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_gpu_answers_like_the_cpu(studies, bundles):
    heads = [load_head(bundles / name, device="cuda") for name in HEADS]
    found = predict_study(studies / "DOE^JANE_0", heads, device="cuda", precision="float32")
    expected = predict_study(
        studies / "DOE^JANE_0", [load_head(bundles / n) for n in HEADS], precision="float32"
    )
    for answer, other in zip(found.answers, expected.answers, strict=True):
        assert answer.probabilities == pytest.approx(other.probabilities, abs=2e-3)
