"""Fixtures for tests of bundles: copies with weights, small studies, a way to run configs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BACKBONES = ("lecl_vit", "lecl_vssm", "lecl_gated_cnn")
HEADS = ("tumor_location_classification", "lung_disease_classification", "staging_classification")


@cache
def _seeded_copies(folder: Path) -> Path:
    from radclear.bundle import seed_weights

    for name in (*BACKBONES, *HEADS):
        shutil.copytree(ROOT / "bundles" / name, folder / name, ignore=shutil.ignore_patterns("eval"))
        if not (folder / name / "models" / "model.pt").is_file():
            seed_weights(folder / name, seed=len(name))
    return folder


@pytest.fixture(scope="session")
def bundles(tmp_path_factory) -> Path:
    """A folder with copies of the six bundles; those without weights have seeded ones. Do not write there."""
    base = tmp_path_factory.getbasetemp() / "bundles_with_weights"
    return _seeded_copies(base)


@cache
def _written_studies(folder: Path) -> Path:
    from pydicom import dcmread

    from radclear.phantom import make_phantom, write_dicom

    for number in range(2):
        study = folder / f"DOE^JANE_{number}"
        write_dicom(make_phantom(number, n_slices=24, size=64), study)
        by_height = sorted(study.glob("*.dcm"), key=lambda file: dcmread(file).ImagePositionPatient[2])
        for file in (*by_height[:10], *by_height[18:]):
            file.unlink()  # eight slices do
    (folder / "ROE^RICHARD").mkdir()
    (folder / "ROE^RICHARD" / "broken.dcm").write_bytes(by_height[12].read_bytes()[:1500])
    return folder


@pytest.fixture(scope="session")
def studies(tmp_path_factory) -> Path:
    """A folder of two readable studies and one that is broken, with names that must not get out."""
    return _written_studies(tmp_path_factory.getbasetemp() / "studies_for_bundles")


@pytest.fixture
def clean_process(monkeypatch):
    """What running a workflow changes in this process is changed back."""
    import torch
    from monai.utils import set_determinism

    monkeypatch.setattr(sys, "path", list(sys.path))
    state = torch.random.get_rng_state()
    yield
    set_determinism(None)
    torch.random.set_rng_state(state)


def monai_command(
    *arguments: str | Path, cwd: Path, pythonpath: str = str(ROOT)
) -> subprocess.CompletedProcess:
    """`python -m monai.bundle …` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": pythonpath, "OMP_NUM_THREADS": "2"}
    return subprocess.run(
        [sys.executable, "-m", "monai.bundle", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_config(config_file: Path, *, workflow_type: str = "infer", **overrides):
    """Run a config in this process as `monai.bundle run` does.

    Returns:
        The workflow and the exit code.
    """
    from monai.bundle import create_workflow

    overrides = {key: str(value) if isinstance(value, Path) else value for key, value in overrides.items()}
    workflow = create_workflow(
        config_file=str(config_file), workflow_type=workflow_type, logging_file=False, **overrides
    )
    try:
        workflow.run()
    except SystemExit as end:
        return workflow, end.code
    return workflow, 0
