"""The command line answers fast, says what it wants, and fails with the documented exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from radclear.cli import COMMANDS, main


def heavy_imports(*arguments: str) -> str:
    """Runs the command line in a fresh interpreter; returns which heavy packages it imported."""
    script = (
        "import sys, contextlib, io\n"
        "from radclear.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    main({list(arguments)!r})\n"
        "print(sorted({'torch', 'monai', 'numpy', 'itk', 'pydicom'} & set(sys.modules)))"
    )
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize("arguments", [("--help",), ("info",), ("info", "--json"), ("predict", "--help")])
def test_help_and_info_import_nothing_heavy(arguments):
    assert heavy_imports(*arguments) == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"radclear {command}" in capsys.readouterr().out


def test_unknown_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["divine"])
    assert stop.value.code == 2
    assert "divine" in capsys.readouterr().err


def test_info_json_lists_the_bundles_it_finds(tmp_path, capsys):
    configs = tmp_path / "staging_classification" / "configs"
    configs.mkdir(parents=True)
    configs.joinpath("metadata.json").write_text(
        json.dumps({"name": "staging", "version": "1.2.3", "demonstration": True})
    )
    assert main(["info", "--json", "--bundles", str(tmp_path)]) == 0
    (bundle,) = json.loads(capsys.readouterr().out)["bundles"]
    assert bundle["name"] == "staging" and bundle["version"] == "1.2.3"
    assert bundle["demonstration"] and not bundle["has_weights"]


def test_missing_bundles_folder_is_named(tmp_path, capsys):
    assert main(["info", "--bundles", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_predict_on_a_missing_study_says_so(tmp_path, capsys):
    code = main(["predict", str(tmp_path / "absent"), "--output", str(tmp_path / "out"), "--quiet"])
    assert code == 2
    assert "absent" in capsys.readouterr().err


def test_doctor_names_a_bundle_without_weights(tmp_path, capsys):
    configs = tmp_path / "lecl_vit" / "configs"
    configs.mkdir(parents=True)
    configs.joinpath("metadata.json").write_text(json.dumps({"name": "lecl_vit", "version": "0.1.0"}))
    assert main(["doctor", "--bundles", str(tmp_path)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("missing")]
    assert any("lecl_vit" in line and "model.pt" in line for line in lines)
