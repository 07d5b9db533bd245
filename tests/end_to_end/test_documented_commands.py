"""Every command and Python example in README and docs runs, on small studies, in a copy of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NOT_RUN = {
    "make test": "it is what runs this test",
    "make serve": "it runs until it is stopped; tests/app starts servers",
    "python -m monailabel.main": "as make serve",
    "curl": "needs a running server; tests/app asks one",
    ".venv/bin/python -m radclear.experiments.compare_": "needs many phantoms or real slices; "
    "tests/experiments runs both",
    "pip install": "the environment of this test was made by it; see the Makefile",
}
SMALLER = {
    r"pretrain_arms ": "pretrain_arms --arms control random --image-size 32 --epochs 1 --samples-per-epoch 8 "
    "--samples-per-batch 4 --probe-slices 4 ",
    r"pretraining_cost .*": "pretraining_cost --backbones vit_nano --image-size 64 --slices 4 --steps 1 "
    "--epochs 2",
    r"--studies (300|436|520|600|840|1000|3600)": "--studies 12",
    r" --splits 0\.8 0\.1 0\.1": "",
    r"--slices 64": "--slices 24",
    r"--size (96|128|256)": "--size 64",
    r"--num_workers 14 --device cuda": "--num_workers 2",
    r"--max_epochs \d+": "--max_epochs 2",
    r"--max-epochs \d+": "--max-epochs 2",
    r" --slices_per_(epoch|batch) \d+": "",
    r"--samples_per_epoch \d+": "--samples_per_epoch 8 --probe_slices 4 --projector_hidden 16",
    r"--samples_per_batch \d+": "--samples_per_batch 2",
    r"configs/warm_up.json ": "configs/warm_up.json --slices_per_epoch 8 --slices_per_batch 4 ",
    r"warm_up.json',('\S*/multi_gpu_train.json'\].)": r"warm_up.json',\1 --slices_per_epoch 16 "
    "--slices_per_batch 8",
    r"configs/warm_up_stream.json'\]\"": "configs/warm_up_stream.json']\" --phantom_slices 24 "
    "--phantom_size 64 --studies_per_epoch 2 --max_epochs 1 --samples_per_study 4 --slices_per_batch 4",
}


def commands(page: str) -> list[tuple[str, str]]:
    """(language, text) of each example on a page; each command of a bash block by itself."""
    found = []
    for language, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        if language == "python":
            found.append((language, text))
            continue
        for line in text.replace("\\\n", " ").splitlines():
            command = line.split("  #")[0].strip()
            if command and not command.startswith("#"):
                found.append((language, command))
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A folder with the checkout's bundles, Makefile and this environment as `.venv`."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("bundles", "radclear", "Makefile", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    environment = folder / ".venv" / "bin"
    environment.mkdir(parents=True)
    (environment / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (environment / "radclear").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m radclear "$@"\n')
    for script in environment.iterdir():
        script.chmod(0o755)
    (folder / ".venv" / ".installed-from-setup.cfg").touch()
    write_deeplesion(folder / "DeepLesion")
    (folder / "evaluation.csv").write_text("study,patient,split\nsomething,99,test\n")
    return folder


def write_deeplesion(folder: Path) -> None:
    """A few slices in the form in which the NIH publishes DeepLesion."""
    rows = ["File_name,Patient_index,Bounding_boxes,Coarse_lesion_type,Possibly_noisy,Train_Val_Test"]
    for patient in range(1, 5):
        series = f"{patient:06d}_01_01"
        (folder / "Images_png" / series).mkdir(parents=True)
        for z in range(1, 9):
            pixels = np.random.default_rng([patient, z]).integers(31768, 33768, (64, 64))
            image = imagecodecs.png_encode(pixels.astype(np.uint16))
            (folder / "Images_png" / series / f"{z:03d}.png").write_bytes(image)
        rows.append(f'{series}_004.png,{patient},"10, 12, 30, 31",5,0,{min(patient, 3)}')
    (folder / "DL_info.csv").write_text("\n".join(rows) + "\n")


def run_in(folder: Path, command: list[str] | str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(folder), "RADCLEAR_BUNDLES": str(folder / "bundles")}
    return subprocess.run(
        command, shell=isinstance(command, str), cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("page", PAGES)
def test_examples_of(page, checkout):
    for language, text in commands(page):
        reason = next((why for start, why in NOT_RUN.items() if text.startswith(start)), None)
        if reason:
            continue
        if language == "python":
            done = run_in(checkout, [sys.executable, "-c", text])
        else:
            for pattern, replacement in SMALLER.items():
                text = re.sub(pattern, replacement, text)
            text = text.replace("STUDY", "demo/phantom/studies").replace(" OUT", " demo/out")
            done = run_in(checkout, text)
        allowed = (0, 1) if "doctor" in text else (0,)
        assert done.returncode in allowed, f"{page}: {text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


def test_every_page_is_linked_from_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        if page.startswith("docs/"):
            assert f"({page})" in readme, f"{page} is not reachable from README"


def test_every_relative_link_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", (ROOT / page).read_text(encoding="utf-8")):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"
