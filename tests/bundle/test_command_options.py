"""A typing error in an option of `python -m monai.bundle run` is told before anything is done."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from bundle_fixtures import BACKBONES, HEADS, ROOT, monai_command

from radclear.bundle.command_options import check_options

TRAIN = ROOT / "bundles" / HEADS[1] / "configs" / "train.json"
WARM_UP = ROOT / "bundles" / "lecl_gated_cnn" / "configs"


def monai_argv(*arguments: str) -> list[str]:
    """`sys.argv` of `python -m monai.bundle run …`."""
    return ["/site-packages/monai/bundle/__main__.py", "run", *arguments]


@pytest.mark.parametrize(
    "arguments",
    [
        [f"--config_file={TRAIN}", "--boxs", "boxes.csv"],
        ["--max-epoch", "3", "--config-file", str(TRAIN)],
        ["--config_file", str(TRAIN), "--tabel#column", "stage"],
        ["--config_file", f"['{WARM_UP}/train.json','{WARM_UP}/multi_gpu_train.json']", "-lesionweight=0"],
    ],
)
def test_an_unknown_option_ends_the_run(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        check_options(monai_argv(*arguments))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    suggested = {
        "boxs": "boxes",
        "max_epoch": "max_epochs",
        "tabel": "table",
        "lesionweight": "lesion_weight",
    }
    (typed,) = (name for name in suggested if f"--{name}" in line)
    assert "is no key of train.json" in line and line.endswith(f"did you mean --{suggested[typed]}?")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--+resume", "true"], "--+resume true is text, which is as good as True; write True"),
        (["--resume", "false"], "--resume false is text, which is as good as True; write False"),
        (["--demonstration=FALSE"], "--demonstration FALSE is text, which is as good as True; write False"),
        (
            ["--cosine-momentum", "true"],
            "--cosine_momentum true is text, which is as good as True; write True",
        ),
        (["--resume", "False", "--demonstration=True", "--noresume", "--run_dir", "true"], None),
    ],
)
def test_true_and_false_as_text_are_refused_where_the_config_has_one_of_them(arguments, said, capsys):
    """MONAI's command line takes `false` for a text, and a text is true."""
    argv = monai_argv("--config_file", str(WARM_UP / "train.json"), *arguments)
    if said is None:
        return check_options(argv)
    with pytest.raises(SystemExit) as end:
        check_options(argv)
    assert end.value.code == 2 and capsys.readouterr().err == f"error: {said}\n"


def test_nested_keys_have_switches_too(capsys):
    argv = monai_argv("--config_file", str(WARM_UP / "warm_up.json"), "--train#trainer#decollate", "false")
    with pytest.raises(SystemExit):
        check_options(argv)
    assert "write False" in capsys.readouterr().err


@pytest.mark.parametrize("typed", [[], ["--max_epochs", "3"]])
def test_the_options_of_a_file_of_arguments_are_looked_at_too(typed, tmp_path, capsys):
    file = tmp_path / "args.json"
    file.write_text(json.dumps({"config_file": [str(TRAIN)], "workflow_type": "train", "boxs": "b.csv"}))
    with pytest.raises(SystemExit) as end:
        check_options(monai_argv(*typed, f"--args_file={file}"))
    assert end.value.code == 2 and "--boxs is no key of train.json" in capsys.readouterr().err
    file.write_text(json.dumps({"config_file": str(TRAIN), "boxes": "b.csv", "table#column": "stage"}))
    check_options(monai_argv(*typed, "--args_file", str(file)))


def test_where_nothing_is_alike_the_keys_are_listed(capsys):
    with pytest.raises(SystemExit):
        check_options(monai_argv("--config_file", str(TRAIN), "--xyz", "1"))
    assert (
        "attention_weight, auxiliary, auxiliary_labels, auxiliary_weight, average_decay, backbone_bundle"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config_file", str(TRAIN), "--max-epochs=3", "--train#trainer#max_epochs", "5", "--nobalance"],
        ["--config_file", str(TRAIN), "--table::classes::effusion", "effusion", "--learning_rate", "-1"],
        ["--config_file", str(TRAIN), "--logging_file", "x", "--run_id", "run", "--_meta_#name", "x"],
        ["--config_file", str(TRAIN), "--boxes", "b.csv", "--", "--trace"],
        [
            "--config_file",
            f"['{WARM_UP}/warm_up.json','{WARM_UP}/warm_up_stream.json']",
            "--phantom_seed=1",
            "--frozen_stages=3",
        ],
        ["--config_file", str(TRAIN), "--workflow_type", "train", "--properties_path", "p.json"],
        ["--config_file", str(TRAIN), "--workflow_name", "ConfigWorkflow"],
        ["--config_file", "mine.yaml", "--mine", "1"],
        ["--args_file", "mine.json", "--mine", "1"],
    ],
)
def test_options_that_are_keys_pass(arguments):
    check_options(monai_argv(*arguments))


def test_other_programs_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest", "run", f"--config_file={TRAIN}", "--boxs"])
    check_options()


def test_every_config_that_is_run_looks_at_its_options():
    configs = [path for path in (ROOT / "bundles").glob("*/configs/*.json") if '"run": [' in path.read_text()]
    assert len(configs) == 2 * len(BACKBONES) + 3 * len(HEADS) + 1  # the last is the warm-up
    for path in configs:
        first = path.read_text().split('"run": [')[1].strip()
        assert first.startswith(
            (
                '"$radclear.bundle.check_options(',
                '"$radclear.bundle.check_usage(',
                '"$radclear.bundle.check_tr',
            )
        ), Path(path).relative_to(ROOT)


def test_a_training_with_a_typing_error_writes_nothing(tmp_path):
    ended = monai_command(
        "run", "--config_file", TRAIN, "--boxs", "boxes.csv", "--output_bundle", "trained", cwd=tmp_path
    )
    assert ended.returncode == 2
    assert "error: --boxs is no key of train.json" in ended.stderr and "Traceback" not in ended.stderr
    assert not list(tmp_path.iterdir())
