"""`python -m monai.bundle` in processes of its own: from any folder, exit codes, and the packed download."""

from __future__ import annotations

import csv
import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile

import pytest
from bundle_fixtures import HEADS, ROOT, monai_command, run_config
from monai.bundle import download_large_files

from radclear.bundle import BundleError, load_head, pack_bundle, predict_folder
from radclear.cohort import EmbeddingStore
from radclear.ct import find_studies
from radclear.results import validate_result

HEAD = HEADS[1]
BLOCKER = """
import sys


class OnlyFromTheBundle:
    # refuses radclear unless it comes from the download, however it is installed here
    def find_spec(self, name, path=None, target=None):
        if name == "radclear":
            from importlib.machinery import PathFinder
            spec = PathFinder.find_spec(name, [entry for entry in sys.path if entry.startswith({allowed!r})])
            if spec is None:
                raise ModuleNotFoundError("No module named 'radclear'")
            return spec


sys.meta_path.insert(0, OnlyFromTheBundle())
"""


pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


@pytest.fixture
def server(tmp_path):
    """A loopback server of `tmp_path/dist`; yields its address."""
    (tmp_path / "dist").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "dist")
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def answers_of(folder, stem="lung_disease"):
    """Study key → tasks of its result, without what differs from place to place."""
    results = {file.parent.name: json.loads(file.read_text()) for file in folder.glob(f"*/{stem}.json")}
    for result in results.values():
        validate_result(result)
    return {key: result["tasks"] for key, result in results.items()}


def test_head_runs_from_any_folder_and_goes_on_after_a_broken_study(bundles, studies, tmp_path):
    elsewhere = tmp_path / "some folder"
    elsewhere.mkdir()
    config = os.path.relpath(bundles / HEAD / "configs" / "inference.json", elsewhere)
    # the working directory holds another bundle of the same name, which must not be taken for it
    shutil.copytree(ROOT / "bundles" / HEAD / "configs", elsewhere / "configs")
    arguments = [
        "run",
        "--config_file",
        config,
        "--dataset_dir",
        studies,
        "--output_dir",
        "out",
        "--device",
        "cpu",
    ]
    ended = monai_command(*arguments, cwd=elsewhere)
    assert ended.returncode == 1, ended.stderr
    assert "2 done, 0 done before, 1 failed" in ended.stdout
    assert "Demonstration weights" in ended.stdout
    assert "Traceback" not in ended.stderr
    assert "DOE^" not in ended.stdout + ended.stderr
    out = elsewhere / "out"
    tasks = answers_of(out)
    assert len(tasks) == 2
    with (out / "lung_disease_summary.csv").open() as file:
        assert sorted(row["status"] for row in csv.DictReader(file)) == ["failed", "ok", "ok"]

    report = predict_folder(studies, tmp_path / "predicted", [load_head(bundles / HEAD)])
    predicted = {record.key: record.result["tasks"] for record in report.done}
    assert predicted.keys() == tasks.keys()
    for key, (task,) in tasks.items():
        (other,) = predicted[key]
        assert task["model"] == other["model"]
        assert [entry["index"] for entry in task["key_slices"]] == [
            entry["index"] for entry in other["key_slices"]
        ]
        for entry, expected in zip(task["classes"], other["classes"], strict=True):
            assert entry["probability"] == pytest.approx(expected["probability"], abs=1e-4)


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        ({"backbone_bundle": "../lecl_vit"}, "has no weights for backbone lecl_vit"),
        ({"backbone_bundle": "../nothing"}, "not found"),
        ({"device": "cuda:0"}, "sees no GPU"),
        ({"precision": "float7"}, "float7"),
        ({"dataset_dir": "empty"}, "no study found"),
        ({"dataset_dir": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_wrong_usage_ends_with_code_2(
    overrides, found, bundles, studies, tmp_path, capsys, clean_process, monkeypatch
):
    import torch

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = {"dataset_dir": studies, "output_dir": tmp_path / "out", "device": "cpu", **overrides}
    _, code = run_config(bundles / HEAD / "configs" / "inference.json", **options)
    assert code == 2
    said = capsys.readouterr().err
    assert found in said and said.count("error: ") == 1
    assert not (tmp_path / "out").exists()


def test_backbone_fills_an_embedding_store_and_resumes(bundles, studies, tmp_path, capsys, clean_process):
    config = bundles / "lecl_gated_cnn" / "configs" / "inference.json"
    options = {"dataset_dir": studies, "output_dir": tmp_path / "store", "device": "cpu"}
    _, code = run_config(config, **options)
    assert code == 1
    store = EmbeddingStore(tmp_path / "store")
    assert len(store.keys()) == 2
    feats = store.read(store.keys()[0]).feats
    report = predict_folder(
        studies, tmp_path / "out", [load_head(bundles / HEAD)], embeddings=tmp_path / "store"
    )
    assert len(report.done) == 2 and sum(record.seconds["window"] for record in report.done) == 0
    assert store.read(store.keys()[0]).feats.equal(feats)
    capsys.readouterr()
    _, code = run_config(config, **options)
    assert code == 1 and "0 done, 2 done before, 1 failed" in capsys.readouterr().out


@pytest.mark.parametrize("n_damaged", [1, 2])
def test_a_damaged_file_in_the_store_is_that_studys_failure(
    n_damaged, bundles, studies, tmp_path, capsys, clean_process
):
    shutil.copytree(studies, tmp_path / "studies", ignore=shutil.ignore_patterns("ROE*"))
    config = bundles / "lecl_gated_cnn" / "configs" / "inference.json"
    options = {"dataset_dir": tmp_path / "studies", "output_dir": tmp_path / "store", "device": "cpu"}
    store = EmbeddingStore(tmp_path / "store")
    keys = [source.key for source in find_studies(tmp_path / "studies")]
    store.folder.mkdir()
    for key in keys[:n_damaged]:
        store.path(key).write_bytes(b"damaged")
    _, code = run_config(config, **options)
    assert code == 1
    said = capsys.readouterr()
    assert f"{2 - n_damaged} done, 0 done before, {n_damaged} failed" in said.out
    assert said.err.count("is damaged") == n_damaged and "Traceback" not in said.err
    with (store.folder / "embedding_summary.csv").open() as file:
        status = {row["study_key"]: row["status"] for row in csv.DictReader(file)}
    assert [status[key] for key in keys] == ["failed"] * n_damaged + ["ok"] * (2 - n_damaged)
    assert store.path(keys[0]).read_bytes() == b"damaged"


def test_packing_twice_gives_the_same_bytes(bundles, tmp_path):
    first = pack_bundle(bundles / HEAD, tmp_path / "a")
    copies = tmp_path / "copies"
    shutil.copytree(bundles, copies)  # other folder, other times
    second = pack_bundle(copies / HEAD, tmp_path / "b")
    assert first.name == second.name == f"{HEAD}_v0.1.0.zip"
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        assert names == sorted(names) and all(name.startswith(f"{HEAD}/") for name in names)
        assert not [name for name in names if "__pycache__" in name or name.endswith((".so", ".pyc"))]
        for needed in (
            "LICENSE",
            "models/model.pt",
            "radclear/__init__.py",
            "radclear/backbones/scan/ss2d_scan.cpp",
            "radclear/backbones/scan/vectors.h",
            "backbones/lecl_gated_cnn/models/model.pt",
        ):
            assert f"{HEAD}/{needed}" in names
        for info in archive.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0) and not info.extra


def test_packing_a_head_without_fitting_weights_is_refused(bundles, tmp_path):
    copies = tmp_path / "copies"
    for name in (HEAD, "lecl_gated_cnn"):
        shutil.copytree(bundles / name, copies / name)
    (copies / "lecl_gated_cnn" / "models" / "model.pt").write_bytes(b"0")
    with pytest.raises(BundleError, match="damaged"):
        pack_bundle(copies / HEAD, tmp_path / "dist")


def test_large_files_are_listed_and_fetched(bundles, tmp_path, server):
    with pytest.raises(BundleError, match="large_file_url"):
        pack_bundle(bundles / "lecl_vit", tmp_path / "dist", large_file_bytes=200_000)
    packed = pack_bundle(
        bundles / "lecl_vit", tmp_path / "dist", large_file_url=server, large_file_bytes=500_000
    )
    with zipfile.ZipFile(packed) as archive:
        assert "lecl_vit/models/model.pt" not in archive.namelist()
        archive.extractall(tmp_path / "here")
    listing = (tmp_path / "here" / "lecl_vit" / "large_files.yml").read_text()
    content = (bundles / "lecl_vit" / "models" / "model.pt").read_bytes()
    assert "hash_type: sha256" in listing and hashlib.sha256(content).hexdigest() in listing
    pytest.importorskip("yaml", reason="MONAI reads large_files.yml with pyyaml, which is not installed")
    download_large_files(bundle_path=str(tmp_path / "here" / "lecl_vit"))
    assert (tmp_path / "here" / "lecl_vit" / "models" / "model.pt").read_bytes() == content


def test_download_answers_like_the_repository_where_radclear_is_not_installed(
    bundles, studies, tmp_path, server
):
    packed = pack_bundle(bundles / HEAD, tmp_path / "dist")
    target = tmp_path / "downloaded"
    target.mkdir()
    ended = monai_command(
        "download", "--name", HEAD, "--url", f"{server}/{packed.name}", "--bundle_dir", target, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr

    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(BLOCKER.format(allowed=str(target)))
    away = tmp_path / "away"
    away.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "guard"), "PYTHONSAFEPATH": "1"}
    blocked = subprocess.run(
        [sys.executable, "-c", "import radclear"], cwd=away, env=environment, capture_output=True
    )
    assert blocked.returncode != 0 and b"ModuleNotFoundError" in blocked.stderr

    config = target / HEAD / "configs" / "inference.json"
    study = studies / "DOE^JANE_0"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config)]
    command += ["--dataset_dir", str(study), "--output_dir", "out", "--device", "cpu"]
    ended = subprocess.run(command, cwd=away, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    found = answers_of(away / "out")

    _, code = run_config(
        bundles / HEAD / "configs" / "inference.json",
        dataset_dir=study,
        output_dir=tmp_path / "out",
        device="cpu",
    )
    assert code == 0
    assert found == answers_of(tmp_path / "out") and len(found) == 1
