"""`train.json` of the backbones: one process, a killed one that goes on, two with torchrun; the warm-up."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from bundle_fixtures import BACKBONES, ROOT, run_config

import radclear
from radclear.bundle import load_backbone_bundle
from radclear.bundle.seen_patients import seen_patients
from radclear.phantom import write_cohort

pytestmark = [
    pytest.mark.filterwarnings("ignore:parsing config_file"),
    pytest.mark.usefixtures("clean_process"),
]
TINY = {
    "max_epochs": 3,
    "samples_per_epoch": 24,
    "samples_per_batch": 4,
    "projector_hidden": 16,
    "projection_dim": 8,
    "checkpoint_every_steps": 2,
    "temperature": 0.5,
    "device": "cpu",
    "precision": "float32",
}


#: Kills a run, and the processes that load its slices, where it is about to write the tenth line of its log.
KILLED = """
import os, signal, sys

lines = []

def kill(event, args):
    if event == "open" and str(args[0]).endswith("log.csv") and args[1] == "a":
        lines.append(args)
        if len(lines) == 10:
            os.killpg(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
"""


@pytest.fixture(scope="module")
def bundles(bundles, tmp_path_factory):
    """Bundles for slices of 64 pixels, so that tests are quick; a ViT is for its own size alone."""
    folder = tmp_path_factory.mktemp("bundles")
    for name in BACKBONES:
        shutil.copytree(bundles / name, folder / name)
        for stem in ("train", "inference") if name != "lecl_vit" else ():
            file = config(folder, name, stem)
            file.write_text(json.dumps({**json.loads(file.read_text()), "image_size": 64}))
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, n_studies=10, seed=4, n_slices=24, size=64)
    return folder


def config(bundles: Path, name: str, stem: str = "train") -> Path:
    return bundles / name / "configs" / f"{stem}.json"


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def losses(run_dir: Path) -> list[float]:
    return [float(row["loss"]) for row in rows(run_dir)]


def train(bundles, cohort, folder, name="lecl_gated_cnn", **options):
    output = folder / name
    overrides = {**TINY, "num_workers": 0, **options, "dataset_dir": cohort, "output_bundle": output}
    _, code = run_config(config(bundles, name), workflow_type="train", **overrides)
    return output, folder / f"{name}_lecl_run", code


@pytest.fixture(scope="module")
def whole(bundles, cohort, tmp_path_factory):
    output, run_dir, code = train(bundles, cohort, tmp_path_factory.mktemp("whole"))
    assert code == 0
    return output, run_dir


def started(command: list, log: Path, **environment) -> subprocess.Popen:
    """With as many threads as this process has: sums of other parts are other sums."""
    threads = str(torch.get_num_threads())
    path = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": ""}
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *map(str, command)],
            env={**os.environ, **path, **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run_as_two(files: list[str], arguments: list[str], log: Path) -> None:
    """Two processes of torchrun run these configs to the end."""
    command = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle", "run"]
    process = started([*command, "--config_file", str(files), *arguments], log)
    try:
        assert process.wait(timeout=900) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def options(cohort: Path, output: Path, **changed) -> list[str]:
    values = {**TINY, "dataset_dir": cohort, "output_bundle": output, **changed}
    return [text for key, value in values.items() for text in (f"--{key}", str(value))]


def recorded(bundle: Path) -> dict:
    """What the metadata say of the weights."""
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    return metadata["radclear"]["weights"]["model.pt"]


def test_weights_are_stored_with_what_made_them(bundles, whole):
    output, run_dir = whole
    backbone = load_backbone_bundle(output)
    old = load_backbone_bundle(bundles / "lecl_gated_cnn")
    assert backbone.weights_sha256 != old.weights_sha256
    entry = json.loads((output / "configs" / "metadata.json").read_text())["radclear"]["weights"]["model.pt"]
    assert entry["training"].startswith(
        "Pre-trained with LeCL (similarity weighting, weight 1) for 18 steps of 4"
    )
    assert entry["demonstration"] is True and entry["settings"]["seed"] == 0
    checkpoint = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    assert entry["seconds"] >= round(checkpoint["seconds"], 1)
    assert entry["made_with"] == {"radclear": radclear.__version__, "torch": torch.__version__}
    saved = checkpoint["network"]
    for name, value in backbone.backbone.state_dict().items():
        torch.testing.assert_close(saved[f"backbone.{name}"], value)
    assert len(rows(run_dir)) == 18 and not list(output.glob("**/*.csv"))
    probes = pd.read_csv(run_dir / "probe.csv")
    assert probes["epoch"].tolist() == [1, 2, 3] and probes["balanced_accuracy"].between(0, 1).all()


def test_the_figures_of_the_log_are_in_range(whole):
    found = pd.read_csv(whole[1] / "log.csv")
    assert found["gradient_norm"].gt(0).all() and found["feature_std"].gt(0.02).all()
    assert found["momentum"].is_monotonic_increasing and found["learning_rate"].iloc[-1] < 1e-6


def test_a_killed_run_goes_on_as_if_nothing_had_been(bundles, cohort, whole, tmp_path):
    """SIGKILL in the middle of an epoch; another number of workers before it than after."""
    output, run_dir = tmp_path / "lecl_gated_cnn", tmp_path / "lecl_gated_cnn_lecl_run"
    command = ["monai.bundle", "run", "--config_file", config(bundles, "lecl_gated_cnn")]
    log = tmp_path / "log.txt"
    (tmp_path / "sitecustomize.py").write_text(KILLED)
    path = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    process = started([*command, *options(cohort, output, num_workers=1)], log, **path)
    assert process.wait() == -signal.SIGKILL, log.read_text()
    assert not (output / "models").exists() and len(rows(run_dir)) == 9
    assert (run_dir / "checkpoint.pt").is_file()
    _, same_dir, code = train(bundles, cohort, tmp_path, resume=True)
    assert code == 0 and same_dir == run_dir
    assert losses(run_dir) == pytest.approx(losses(whole[1]), abs=1e-5)
    assert load_backbone_bundle(output).weights_sha256 == load_backbone_bundle(whole[0]).weights_sha256


OTHER_WINDOWS = [
    {"_target_": "radclear.ct.Window", "name": "abdomen", "level_hu": 50, "width_hu": 400},
    {"_target_": "radclear.ct.Window", "name": "lung", "level_hu": -600, "width_hu": 1500},
]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"views#first#noise_hu": 5.0}, "views#first#noise_hu was 20.0 and is 5.0"),
        ({"views#lesion_centred": False}, "views#lesion_centred was True and is False"),
        ({"network_def#name": "vit_nano"}, "network_def#name was 'mambaout_nano' and is 'vit_nano'"),
    ],
)
def test_a_run_with_other_views_or_network_does_not_go_on(bundles, cohort, whole, capsys, changed, said):
    run_dir = whole[1]
    before = (run_dir / "checkpoint.pt").read_bytes()
    *_, code = train(bundles, cohort, run_dir.parent, resume=True, **changed)
    errors = capsys.readouterr().err
    assert code == 2 and said in errors and "another --run_dir" in errors
    assert (run_dir / "checkpoint.pt").read_bytes() == before


def test_a_run_does_not_go_on_with_other_windows(bundles, cohort, whole, tmp_path, capsys):
    """Also where the bundle's inference.json was changed along."""
    copy = shutil.copytree(whole[0].parent, tmp_path / "copy")
    file = config(copy, "lecl_gated_cnn", "inference")
    file.write_text(json.dumps({**json.loads(file.read_text()), "windows": OTHER_WINDOWS}))
    *_, code = train(bundles, cohort, copy, resume=True, windows=OTHER_WINDOWS)
    said = "windows was ['abdomen 40/400', 'lung -600/1500'] and is ['abdomen 50/400', 'lung -600/1500']"
    assert code == 2 and said in capsys.readouterr().err


def test_two_processes_of_torchrun_equal_one(bundles, cohort, whole, tmp_path):
    output = tmp_path / "lecl_gated_cnn"
    files = [str(config(bundles, "lecl_gated_cnn", stem)) for stem in ("train", "multi_gpu_train")]
    run_as_two(files, options(cohort, output, samples_per_batch=2, num_workers=0), tmp_path / "log.txt")
    found = losses(tmp_path / "lecl_gated_cnn_lecl_run")
    assert len(found) == 18
    assert found[:6] == pytest.approx(losses(whole[1])[:6], rel=1e-3)
    assert load_backbone_bundle(output).backbone.name == "mambaout_nano"


@pytest.mark.parametrize("stream", [False, True], ids=["twins", "stream"])
def test_two_processes_warm_up_together_and_one_writes(bundles, tmp_path, stream):
    """Each sees half of a batch, and both take the same steps: gloo would complain of other sums."""
    cohort, output, log = tmp_path / "cohort", tmp_path / "lecl_gated_cnn", tmp_path / "log.txt"
    write_cohort(cohort, n_studies=6, seed=4, n_slices=24, size=64, twins=True, splits=(1, 0, 0))
    stems = ["warm_up", *(["warm_up_stream"] if stream else []), "multi_gpu_train"]
    files = [str(config(bundles, "lecl_gated_cnn", stem)) for stem in stems]
    changed = {"image_size": 64, "max_epochs": 2, "slices_per_batch": 8, "output_bundle": output}
    if stream:
        changed |= {"studies_per_epoch": 4, "samples_per_study": 8, "phantom_slices": 24, "phantom_size": 64}
    else:
        changed |= {"slices_per_epoch": 32, "twins": True, "dataset_dir": cohort}
    run_as_two(files, [text for key, value in changed.items() for text in (f"--{key}", str(value))], log)
    text = log.read_text()
    assert text.count("Epoch: 2/2, Iter: 4/4") == 2 and text.count("weights in ") == 1
    assert load_backbone_bundle(output).backbone.name == "mambaout_nano"
    seen = seen_patients(output / "models" / "model.pt", [f"PHANTOM-{4_000_000 + n}" for n in range(4)])
    assert len(seen.patients) == (0 if stream else 3)


def test_a_warm_up_stores_its_weights_mixed_with_those_it_started_from(bundles, cohort, tmp_path):
    start = bundles / "lecl_gated_cnn" / "models" / "model.pt"
    stored = {}
    for share in (0.0, 0.75):
        options = {"dataset_dir": cohort, "output_bundle": tmp_path / str(share), "image_size": 64}
        options |= {"max_epochs": 1, "slices_per_epoch": 8, "slices_per_batch": 4, "precision": "float32"}
        options |= {"initial_weights": start, "start_share": share}
        _, code = run_config(config(bundles, "lecl_gated_cnn", "warm_up"), workflow_type="train", **options)
        assert not code
        stored[share] = torch.load(tmp_path / str(share) / "models" / "model.pt", weights_only=True)
        record = json.loads((tmp_path / str(share) / "configs" / "metadata.json").read_text())
        assert record["radclear"]["weights"]["model.pt"]["settings"]["start_share"] == share
    began = torch.load(start, weights_only=True)
    for name, mixed in stored[0.75].items():
        expected = 0.75 * began[name].double() + 0.25 * stored[0.0][name].double()
        torch.testing.assert_close(mixed.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"twins": True}, r"patient PHANTOM-4000\d+ is no pair of twins"),
        ({"view_size": 40}, "views of 40 pixels"),
        ({"slices_per_batch": 0}, "slices_per_batch is 0; expected a multiple of 1"),
        ({"frozen_stages": 5}, "frozen_stages is 5"),
        ({"dataset_dir": "nowhere"}, "nowhere/labels.csv does not exist"),
        ({"start_share": 0.5}, "start_share is 0.5 without initial_weights"),
        ({"num_workers": -1}, "num_workers is -1; expected 0 or more"),
    ],
)
def test_a_warm_up_that_cannot_start_says_why_in_a_sentence(bundles, cohort, tmp_path, options, said, capsys):
    options = {"dataset_dir": cohort, "output_bundle": tmp_path / "out", "image_size": 64, **options}
    _, code = run_config(config(bundles, "lecl_gated_cnn", "warm_up"), workflow_type="train", **options)
    assert code == 2 and re.search(rf"^error: .*{said}", capsys.readouterr().err, re.MULTILINE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["lecl_vit", "lecl_vssm", "lecl_gated_cnn"])
def test_the_published_settings_change_keys_that_train_json_has(name):
    """CLEAR's own run: a batch of 4096 over eight processes; the rate is scaled by batch / 256 in the run."""
    folder = ROOT / "bundles" / name / "configs"
    published, training = (
        json.loads((folder / f"{stem}.json").read_text()) for stem in ("published_settings", "train")
    )
    assert set(published) <= set(training)
    assert published["samples_per_batch"] * 8 == 4096
    expected = {"max_epochs": 100, "warm_up_epochs": 10, "learning_rate": 1e-4, "weight_decay": 1e-6}
    expected |= {"momentum": 0.99, "temperature": 1.0, "projector_hidden": 4096, "projection_dim": 256}
    assert {key: published[key] for key in expected} == expected


def test_processes_that_would_train_alone_are_refused(bundles, cohort, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    *_, code = train(bundles, cohort, tmp_path)
    assert code == 2 and "multi_gpu_train.json" in capsys.readouterr().err


def test_the_weights_know_whom_they_were_trained_on(whole, cohort):
    labels = pd.read_csv(cohort / "labels.csv")
    seen = seen_patients(whole[0] / "models" / "model.pt", labels["patient"])
    assert seen.patients == tuple(sorted(labels.loc[labels["split"] == "train", "patient"]))
    assert seen.on_record == "all"


def test_training_on_an_evaluation_patient_ends_with_a_sentence(bundles, cohort, tmp_path, capsys):
    labels = pd.read_csv(cohort / "labels.csv")
    patient = labels.loc[labels["split"] == "train", "patient"].iloc[0]
    table = tmp_path / "predictions.csv"
    table.write_text(f"study,patient,lung\nx,{patient},0.5\n")
    *_, code = train(bundles, cohort, tmp_path, evaluation_tables=[str(table)])
    errors = capsys.readouterr().err
    assert code == 2 and patient in errors and errors.startswith("error: ")


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "lecl_gated_cnn"])
def test_the_other_backbones_train_as_moco_v3_control(bundles, cohort, tmp_path, name):
    output, run_dir, code = train(
        bundles, cohort, tmp_path, name, max_epochs=1, samples_per_epoch=4, lesion_weight=0
    )
    assert code == 0 and len(rows(run_dir)) == 1
    assert "MoCo-v3 control" in recorded(output)["training"]


@pytest.mark.parametrize("name", BACKBONES)
def test_the_workflow_has_monais_training_properties(bundles, cohort, tmp_path, name):
    from monai.bundle import create_workflow

    workflow = create_workflow(
        config_file=str(config(bundles, name)),
        workflow_type="train",
        logging_file=False,
        bundle_root=str(bundles / name),
        dataset_dir=str(cohort),
        output_bundle=str(tmp_path / name),
    )
    assert not workflow.check_properties()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weighting": "depth"}, "weighting is 'depth'; expected one of similarity, density"),
        ({"temperature": 0}, "temperature is 0"),
        ({"samples_per_batch": 1000}, "lower --samples_per_batch"),
        ({"warm_up_epochs": 5}, "expected 0 to total_steps"),
        ({"initial_weights": "none.pt"}, "initial_weights none.pt does not exist"),
        ({"flip_probability": 2}, "flip_probability is 2"),
        ({"image_size": 32}, "image_size is 32 in training and 64 in"),
        ({"windows": OTHER_WINDOWS}, "lung -600/1500 in training and abdomen 40/400, lung -600/1500 in"),
        ({"dataset_dir": "nowhere"}, "dataset_dir nowhere does not exist"),
    ],
)
def test_what_cannot_work_ends_with_a_sentence(bundles, cohort, tmp_path, capsys, wrong, message):
    overrides = {**TINY, "num_workers": 0, "dataset_dir": cohort, "output_bundle": tmp_path / "b", **wrong}
    _, code = run_config(config(bundles, "lecl_gated_cnn"), workflow_type="train", **overrides)
    assert code == 2 and message in capsys.readouterr().err


def test_options_reach_the_loss(bundles, cohort, tmp_path, monkeypatch):
    from radclear.pretraining import LeCLTrainer

    seen = []
    monkeypatch.setattr(LeCLTrainer, "run", lambda self: seen.append(self))
    train(
        bundles, cohort, tmp_path, weighting="density", lesion_weight=3, temperature=0.2, exclude="patient",
        lesion_queries_only=True,
    )  # fmt: skip
    loss = seen[0].loss_function
    found = (loss.weighting, loss.weight, loss.temperature, loss.exclude, loss.lesion_queries_only)
    assert found == ("density", 3, 0.2, "patient", True)
    assert seen[0].non_blocking and not seen[0].data_loader.pin_memory  # the latter on the CPU
