"""`radclear predict` names no patient on any screen or in any file unless it is asked to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from radclear.cli import main
from radclear.cli.run_options import names_shown

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {
    "PatientName": "DOE^JANE^^Dr.",
    "PatientID": "PAT-0815[red]",
    "PatientBirthDate": "19611224",
    "OtherPatientNames": "Mustermann^Erika",
    "AccessionNumber": "ACC4711",
    "StudyDate": "20190708",
    "SeriesDate": "20190709",
    "AcquisitionDateTime": "20190708133742.5",
    "ReferringPhysicianName": "HOUSE^Gregory",
    "InstitutionName": "Sankt-Elsewhere",
    "StationName": "CT-ROOM-99",
    "StudyDescription": "Thorax of Jane Doe, born 1961-12-24",
    "SeriesDescription": "axial DOE 5.0 B31f",
    "StudyID": "STUDY77",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.4242.1",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.4242.2",
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.4242.3",
}
TRACES = (
    "DOE", "JANE", "Jane", "PAT-0815", "1961", "Mustermann", "ACC4711", "20190708", "20190709", "HOUSE",
    "Elsewhere", "ROOM", "Thorax", "B31f", "STUDY77", "1.2.826", "ROE", "RICHARD",
)  # fmt: skip

PICTURE = re.compile(r"base64,[A-Za-z0-9+/=]+")  # where three letters stand beside each other by chance


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> Path:
    """A readable study full of identifiers and one that is broken, in folders called like the patients."""
    from pydicom import dcmread

    from radclear.phantom import make_phantom, write_dicom

    folder = tmp_path_factory.mktemp("studies")
    write_dicom(make_phantom(3, n_slices=24, size=64), folder / "DOE^JANE")
    for number, file in enumerate(sorted((folder / "DOE^JANE").glob("*.dcm"))):
        data_set = dcmread(file)
        for keyword, value in SECRETS.items():
            setattr(data_set, keyword, value)
        data_set.SOPInstanceUID = f"{SECRETS['SeriesInstanceUID']}.{number}"
        data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
        data_set.save_as(file.with_name(f"JANE_19611224_{number}.dcm"))
        file.unlink()
    (folder / "ROE^RICHARD").mkdir()
    cut_off = (folder / "DOE^JANE" / "JANE_19611224_12.dcm").read_bytes()[:1500]
    (folder / "ROE^RICHARD" / "ROE_1.dcm").write_bytes(cut_off.replace(b".498.4242.", b".498.4343."))
    return folder


def options(bundles: Path, output: Path) -> list[str]:
    return ["--output", str(output), "--bundles", str(bundles), "--task", "staging", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(bundles, studies, tmp_path_factory) -> tuple[subprocess.CompletedProcess, Path]:
    """A run over both studies, logged, whose standard output and error go into pipes."""
    output = tmp_path_factory.mktemp("answers")
    done = subprocess.run(
        [sys.executable, "-m", "radclear", "-v", "predict", str(studies), *options(bundles, output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done, output


def test_the_run_answers_one_study_and_reports_the_other(run):
    done, output = run
    assert done.returncode == 1, done.stderr
    assert len(list(output.glob("study-*/report.html"))) == 1
    assert "failed study-" in done.stdout


def test_nothing_printed_names_a_patient(run):
    done, _ = run
    for text in (done.stdout, done.stderr):
        for trace in TRACES:
            assert trace not in text, f"{trace} in {text}"


def test_nothing_written_names_a_patient(run):
    _, output = run
    files = [path for path in output.rglob("*") if path.is_file()]
    assert len(files) >= 5
    for file in files:
        content = PICTURE.sub("", file.read_text(encoding="utf-8"))
        for trace in TRACES:
            assert trace not in content, f"{trace} in {file.name}"
            assert trace not in str(file.relative_to(output))


def test_names_are_beside_the_keys_when_asked_for(run, bundles, studies, tmp_path, capsys):
    assert main(["predict", str(studies), *options(bundles, tmp_path), "--identifiers", "--quiet"]) == 1
    printed = capsys.readouterr().out
    assert "DOE^JANE" in printed and "ROE^RICHARD" in printed and "study-" in printed


@pytest.mark.parametrize("at_terminal", [True, False])
def test_the_series_to_choose_from_are_for_the_person_at_the_terminal(
    at_terminal, bundles, studies, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("radclear.cli.predict.names_shown", lambda args: at_terminal)
    command = ["predict", str(studies / "DOE^JANE"), *options(bundles, tmp_path), "--series", "1.2.3.4.5.6"]
    assert main([*command, "--quiet"]) == 1
    printed = capsys.readouterr().out
    assert (SECRETS["SeriesInstanceUID"] in printed) is at_terminal
    assert ("[withheld]" in printed) is not at_terminal


@pytest.mark.parametrize(
    ("terminal", "identifiers", "shown"), [(True, False, True), (False, True, True), (False, False, False)]
)
def test_names_are_shown_on_a_terminal_or_on_demand(terminal, identifiers, shown, monkeypatch):
    from argparse import Namespace

    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert names_shown(Namespace(identifiers=identifiers)) is shown
