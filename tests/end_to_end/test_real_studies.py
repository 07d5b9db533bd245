"""Real CT series through the bundles: answered or refused as designed, and nobody is named in any file."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

HEADS = ("tumor_location_classification", "lung_disease_classification", "staging_classification")
IDENTIFYING = ("patient_id", "study_uid", "series_uid", "sop_uid", "study_date_shifted")
PICTURE = re.compile(r"base64,[A-Za-z0-9+/=]+")


@pytest.fixture(scope="module")
def heads(bundles):
    from radclear.bundle import load_heads

    return load_heads([bundles / name for name in HEADS])


def predict(series: Path, output: Path, heads):
    from radclear.bundle import predict_folder

    return predict_folder(series, output, heads, precision="auto", batch_size=8)


def assert_nobody_named(output: Path, collection: Path) -> None:
    """No patient, UID or date of a collection's manifest in a file below `output`, or in its name."""
    with open(collection / "manifest.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    secrets = {row[column] for row in rows for column in IDENTIFYING} - {""}
    assert len(secrets) > len(rows)
    files = [path for path in output.rglob("*") if path.is_file()]
    assert {"summary.csv", "manifest.json"} <= {path.name for path in files}
    for file in files:
        text = str(file.relative_to(output)) + PICTURE.sub("", file.read_text(encoding="utf-8"))
        named = [secret for secret in secrets if secret in text]
        assert not named, f"{named[:3]} in {file.name}"


@pytest.mark.parametrize(
    ("collection", "below", "n_slices", "findings"),
    [
        ("lung_pet_ct_dx", "Lung_Dx-A0001/series_2", 64, set()),
        ("midrc_ricord_1a", "MIDRC-RICORD-1A-419639-001012/axial", 248, set()),
        ("lung_fused_ct_pathology", "LungFCP-01-0001", 32, {"short_coverage"}),
        ("covid_ny_sbu", "A002304/axial", 1, {"few_slices", "several_studies"}),
    ],
)
def test_an_axial_series_is_answered(shared_data, tmp_path, heads, collection, below, n_slices, findings):
    from radclear.results import validate_result

    report = predict(shared_data / collection / "dicom" / below, tmp_path, heads)
    assert report.exit_code == 0, [record.reason for record in report.failed]
    (study,) = report.done
    result = json.loads((tmp_path / study.key / "result.json").read_text(encoding="utf-8"))
    validate_result(result)
    assert {task["task"] for task in result["tasks"]} == {"tumor_location", "lung_disease", "staging"}
    for task in result["tasks"]:
        assert len(task["attention"]) == n_slices
        assert task["key_slices"]
        assert all(0 <= key["index"] < n_slices for key in task["key_slices"])
    warned = {finding["code"] for finding in result["findings"] if finding["severity"] == "warning"}
    assert findings == warned
    page = (tmp_path / study.key / "report.html").read_text(encoding="utf-8")
    assert PICTURE.search(page), "the report shows key slices"
    assert_nobody_named(tmp_path, shared_data / collection)


@pytest.mark.parametrize(
    ("collection", "below"),
    [("midrc_ricord_1a", "MIDRC-RICORD-1A-419639-000906/sagittal"), ("covid_ny_sbu", "A002304/coronal")],
)
def test_a_series_that_is_not_axial_is_refused(shared_data, tmp_path, heads, collection, below):
    report = predict(shared_data / collection / "dicom" / below, tmp_path, heads)
    assert report.exit_code == 1
    (study,) = report.failed
    assert "axial series is needed" in study.reason
    assert Path(below).name in study.reason, "the plane that was found"
    assert_nobody_named(tmp_path, shared_data / collection)
