from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from radclear.ct.study import Finding
from radclear.results import StudyOutcome, write_manifest, write_result, write_summary

SECRETS = (
    "DOE",
    "JOHN",
    "Mustermann",
    "19611224",
    "1961-12-24",
    "PAT0815",
    "1.2.826.0.1.3680043",
    "/archive",
)
PICTURE = re.compile(r"base64,[A-Za-z0-9+/=]+")  # where three letters stand beside each other by chance


def awkward_study(make):
    """A study whose messages were written without care."""
    study = make.study()
    messages = (
        f"Series {study.series.series_uid} of DOE^JOHN^^Dr lacks a slice.",
        f"/archive/DOE_JOHN_19611224/PAT0815.dcm: slice {study.sop_instance_uids[3]} is a duplicate.",
        "Folder DOE_JOHN_19611224 was scanned on 1961-12-24, file Mustermann.dcm.",
        r"C:\archive\Mustermann\PAT0815 cannot be read.",
    )
    return replace(
        study,
        findings=tuple(Finding("gap", "warning", message, (3,)) for message in messages),
        series=replace(study.series, reason=f"--series {study.series.series_uid} of {study.path}"),
    )


def test_no_output_names_the_patient_unless_asked(make, tmp_path):
    study = awkward_study(make)
    result = make.result(study, make.location(), make.staging())
    write_result(result, tmp_path, study=study)
    outcomes = [
        StudyOutcome("study-1", "ok", result, name="DOE_JOHN_19611224"),
        StudyOutcome(
            "study-2",
            "failed",
            name="Mustermann",
            reason="/archive/Mustermann/PAT0815: DOE^JOHN, Mustermann/x is bad",
        ),
    ]
    write_summary(tmp_path / "summary.csv", outcomes)
    write_manifest(
        tmp_path / "manifest.json", outcomes, config_sha256="0" * 64, started_utc=datetime.now(timezone.utc)
    )
    files = sorted(tmp_path.iterdir())
    assert len(files) == 4
    for file in files:
        text = PICTURE.sub("", file.read_text(encoding="utf-8"))
        for secret in SECRETS:
            assert secret not in text, f"{secret} in {file.name}"
            assert secret not in file.name


def test_identifiers_are_there_when_asked_for(make):
    study = make.study()
    result = make.result(study, identifiers=True)
    assert result["study"]["identifiers"] == {
        "study_instance_uid": study.series.study_uid,
        "series_instance_uid": study.series.series_uid,
        "source_path": str(Path("/archive/DOE_JOHN_19611224")),
    }
    assert result["tasks"][0]["key_slices"][0]["sop_instance_uid"] == study.sop_instance_uids[16]
    assert study.series.series_uid not in json.dumps(make.result(study))
