"""What the user did wrong is said in one sentence and with exit code 2, before anything heavy is loaded."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from radclear.cli import main
from radclear.cli.run_options import positive_int


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


def test_embed_expects_a_study(tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["embed", str(empty), "--output", str(tmp_path / "out"), "--quiet"]) == 2
    message = sentence(capsys)
    assert "no study found" in message and "DICOM" in message


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
