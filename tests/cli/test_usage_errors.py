"""What the user did wrong is said in one sentence and with exit code 2, before anything heavy is loaded."""

from __future__ import annotations

import csv
from argparse import ArgumentTypeError

import pytest

from radclear.cli import main
from radclear.cli.run_options import check_output, positive_int


def sentence(capsys) -> str:
    """The one line of standard error."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("text", ["0", "-3", "many", "1.5", ""])
def test_only_whole_numbers_from_one_are_positive(text):
    with pytest.raises(ArgumentTypeError, match="whole number from 1"):
        positive_int(text)
    assert positive_int("12") == 12


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "x", "--output", "y", "--batch-size", "0"),
        ("embed", "x", "--output", "y", "--batch-size", "-1"),
        ("benchmark", "--batch-size", "0"),
        ("benchmark", "--rounds", "0"),
        ("phantom", "--output", "y", "--studies", "0"),
        ("phantom", "--output", "y", "--workers", "0"),
        ("phantom", "--output", "y", "--slices", "-5"),
        ("phantom", "--output", "y", "--size", "big"),
    ],
)
def test_counts_are_whole_numbers_from_one(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert arguments[-2] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "said"), [("--slices", "16", "16"), ("--size", "8", "8"), ("--seed", "-1", "seed")]
)
def test_phantom_says_which_option_is_out_of_range(option, value, said, tmp_path, capsys):
    assert main(["phantom", "--output", str(tmp_path), option, value, "--quiet"]) == 2
    message = sentence(capsys)
    assert said in message and "expected" in message


def test_the_shares_of_the_splits_are_a_cohorts(tmp_path, capsys):
    command = ["phantom", "--output", str(tmp_path), "--studies", "4", "--slices", "24", "--size", "64"]
    assert main([*command, "--quiet", "--splits", "0.5", "0.25", "0.25"]) == 0
    with (tmp_path / "labels.csv").open(newline="") as file:
        splits = sorted(row["split"] for row in csv.DictReader(file))
    assert splits == ["test", "train", "train", "val"]
    capsys.readouterr()
    assert main([*command, "--quiet", "--splits", "0.5", "0.25", "0.5"]) == 2
    assert "sum to 1" in sentence(capsys)


def test_phantom_does_not_mix_two_cohorts(tmp_path, capsys):
    command = ["phantom", "--output", str(tmp_path), "--slices", "24", "--size", "64", "--quiet"]
    assert main(command) == 0
    capsys.readouterr()
    assert main([*command, "--seed", "9"]) == 2
    assert "another folder" in sentence(capsys)


@pytest.mark.parametrize("command", ["predict", "embed", "phantom"])
def test_output_that_is_a_file_is_refused_at_once(command, tmp_path, capsys):
    output = tmp_path / "taken"
    output.write_text("mine")
    studies = [] if command == "phantom" else [str(tmp_path), "--bundles", str(tmp_path / "none")]
    assert main([command, *studies, "--output", str(output), "--quiet"]) == 2
    message = sentence(capsys)
    assert str(output) in message and "name a folder" in message
    assert output.read_text() == "mine"


@pytest.mark.parametrize("command", ["predict", "embed"])
@pytest.mark.parametrize("kind", ["empty folder", "folder of notes", "text", "picture", "empty file"])
def test_an_input_without_a_study_is_a_usage_error_that_leaves_nothing(
    command, kind, bundles, tmp_path, capsys
):
    study = tmp_path / "study"
    if "folder" in kind:
        study.mkdir()
        if "notes" in kind:
            (study / "notes.txt").write_text("nothing")
    else:
        study = tmp_path / {"text": "notes.txt", "picture": "slice.png", "empty file": "IM0001"}[kind]
        study.write_bytes({"text": b"notes", "picture": b"\x89PNG\r\n\x1a\n", "empty file": b""}[kind])
    options = ["--output", str(tmp_path / "new" / "out"), "--bundles", str(bundles), "--device", "cpu"]
    assert main([command, str(study), *options, "--quiet"]) == 2
    message = sentence(capsys)
    assert "no study found" in message and "DICOM" in message
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", ["predict", "embed"])
def test_a_study_that_is_found_and_fails_is_told_once_with_code_1(command, bundles, tmp_path, capsys, caplog):
    (tmp_path / "scan.dcm").write_bytes(b"no DICOM")
    options = ["--output", str(tmp_path / "out"), "--bundles", str(bundles), "--device", "cpu", "--quiet"]
    assert main([command, str(tmp_path / "scan.dcm"), *options]) == 1
    printed = capsys.readouterr()
    assert (printed.out + printed.err + caplog.text).count("DICOM") == 1
    assert (printed.out + printed.err).count("failed study-") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", ".", "--bundles", "none"),
        ("embed", ".", "--bundles", "none"),
        ("phantom", "--slices", "16"),
        ("predict", ".", "--device", "toaster"),
    ],
)
def test_usage_errors_leave_no_folder(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--output", "new/out", "--quiet"]) == 2
    assert not list(tmp_path.iterdir())


def test_an_output_folder_that_is_there_stays(tmp_path):
    (tmp_path / "out").mkdir()
    check_output(str(tmp_path / "out"))
    check_output(str(tmp_path / "out" / "more"))
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


@pytest.mark.parametrize("typed", [True, False])
def test_errors_of_the_system_are_one_sentence(typed, tmp_path, capsys, monkeypatch):
    studies = tmp_path / "studies"
    studies.mkdir()
    denied = studies if typed else studies / "DOE^JANE"

    def deny(args):
        raise PermissionError(13, "Permission denied", str(denied))

    monkeypatch.setattr("radclear.cli.embed.run", deny)
    assert main(["embed", str(studies), "--output", str(tmp_path / "out")]) == 2
    message = sentence(capsys)
    assert "Permission denied" in message
    assert (str(studies) in message) is typed and "DOE" not in message
