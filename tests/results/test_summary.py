from __future__ import annotations

import csv
import json
from datetime import datetime, timezone

import pytest

from radclear import __version__
from radclear.results import ResultError, StudyOutcome, write_manifest, write_summary

STARTED = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.fixture
def outcomes(result):
    return [
        StudyOutcome("study-a", "ok", result, seconds=3.5, name="folder a"),
        StudyOutcome("study-b", "failed", reason="12 slices,\nexpected an axial CT series.", name="folder b"),
        StudyOutcome("study-c", "skipped", result, reason="a result was there already", name="folder c"),
    ]


def _read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_one_row_per_study_and_task_and_one_for_a_failure(outcomes, tmp_path):
    rows = _read(write_summary(tmp_path / "out" / "summary.csv", outcomes))
    assert [(row["study_key"], row["task"], row["status"]) for row in rows] == [
        ("study-a", "tumor_location", "ok"),
        ("study-a", "staging", "ok"),
        ("study-b", "", "failed"),
        ("study-c", "tumor_location", "skipped"),
        ("study-c", "staging", "skipped"),
    ]
    first, second, failed = rows[:3]
    assert first["top_class"] == "lung" and float(first["top_probability"]) == 0.93
    assert first["positive_classes"] == "lung" and first["calibrated"] == "yes"
    assert first["key_slices"] == "17 18 5" and first["key_slices_z_mm"] == "20.0 25.0 -40.0"
    assert first["n_findings"] == "1" and first["n_warnings"] == "3"
    assert first["seconds"] == "3.50" and rows[3]["seconds"] == "2.75"
    assert float(first["probability_lung"]) == 0.93 and first["probability_III"] == ""
    assert float(second["probability_III"]) == 0.61 and second["probability_lung"] == ""
    assert failed["reason"] == "12 slices, expected an axial CT series." and failed["top_class"] == ""
    assert "name" not in first


def test_numbers_stay_numbers_and_formulas_become_text(make, tmp_path):
    study = make.study()
    below = make.result(study, make.location(key_slices=(0, 1)))
    outcomes = [
        StudyOutcome("study-a", "ok", below),
        StudyOutcome("study-b", "failed", reason="=cmd|' /C calc'!A0"),
    ]
    rows = _read(write_summary(tmp_path / "summary.csv", outcomes))
    assert rows[0]["key_slices_z_mm"] == "-60.0 -55.0"
    assert rows[1]["reason"].startswith("'=")


def test_names_only_on_request(outcomes, tmp_path):
    rows = _read(write_summary(tmp_path / "summary.csv", outcomes, identifiers=True))
    assert rows[0]["name"] == "folder a" and rows[2]["name"] == "folder b"


def test_the_manifest_counts_and_names_the_software(outcomes, tmp_path):
    path = write_manifest(
        tmp_path / "manifest.json", outcomes, config_sha256="ab" * 32, started_utc=STARTED, settings={"k": 3}
    )
    manifest = json.loads(path.read_text(encoding="utf-8"))
    assert manifest["radclear_version"] == __version__ and manifest["config_sha256"] == "ab" * 32
    assert manifest["counts"] == {"total": 3, "ok": 1, "skipped": 1, "failed": 1}
    assert manifest["exit_code"] == 1 and manifest["started_utc"] == "2030-01-02T03:04:05Z"
    assert [model["task"] for model in manifest["models"]] == ["tumor_location", "staging"]
    assert manifest["packages"]["numpy"][0].isdigit() and manifest["settings"] == {"k": 3}
    assert all("name" not in study for study in manifest["studies"])
    assert "folder" not in path.read_text(encoding="utf-8")


def test_the_exit_code_follows_the_outcomes_unless_given(outcomes, tmp_path):
    def code(some, **options):
        path = write_manifest(
            tmp_path / "m.json", some, config_sha256="0" * 64, started_utc=STARTED, **options
        )
        return json.loads(path.read_text())["exit_code"]

    assert (
        code(outcomes[:1]) == 0
        and code(outcomes) == 1
        and code([]) == 0
        and code(outcomes[:1], exit_code=2) == 2
    )


def test_outcomes_and_times_are_checked(result, tmp_path):
    with pytest.raises(ResultError, match="failed without a reason"):
        StudyOutcome("study-a", "failed")
    with pytest.raises(ResultError, match="without a result"):
        StudyOutcome("study-a", "ok")
    with pytest.raises(ResultError, match="status is 'done'"):
        StudyOutcome("study-a", "done", result)
    with pytest.raises(ResultError, match="without a time zone"):
        write_manifest(tmp_path / "m.json", [], config_sha256="0" * 64, started_utc=datetime(2030, 1, 1))
