"""A Python environment with Slicer's own MRML, logics and slice views, and Qt, for tests of Slicer clients.

It is made once from the package index, beside the environment that the tests run in, and used again. Set
`RADCLEAR_SLICER_ENV` to a folder to have it there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENT = Path(__file__).resolve().parent / "slicer_client"
PACKAGES = (
    "trame-slicer[standalone]==2.0.0",
    "PySide6-Essentials>=6.6",
    "SimpleITK",
    "requests",
    "pydicom<3",
)
INSTALL_S = 600
DRIVER_S = 600
_CHECK = "import application; application.Application()"


def environment_folder() -> Path:
    """Where the environment is or will be."""
    named = os.environ.get("RADCLEAR_SLICER_ENV")
    return Path(named) if named else Path(f"{sys.prefix}-slicer")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One test process at a time: others wait for the one that installs."""
    name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    with open(Path(tempfile.gettempdir()) / f"radclear-slicer-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(folder: Path) -> str:
    """Make the environment; why not, where that fails."""
    done = folder / "installed"
    if done.exists() and done.read_text() == repr(PACKAGES):
        return ""
    try:
        venv.EnvBuilder(with_pip=True, clear=True).create(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no environment can be made in {folder}: {error}"
    command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run = subprocess.run(
        [*command, "--no-compile", *PACKAGES], capture_output=True, text=True, timeout=INSTALL_S
    )
    if run.returncode:
        return f"pip could not install {' '.join(PACKAGES)}: {run.stderr.strip()[-400:]}"
    check = run_client(folder / "bin" / "python", "-c", _CHECK)
    if check.returncode:
        return f"trame-slicer does not run here: {check.stderr.strip()[-400:]}"
    done.write_text(repr(PACKAGES))
    return ""


def run_client(python: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Run Python in the environment, in the folder of the drivers."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"OMP_NUM_THREADS": "1", "QT_QPA_PLATFORM": "offscreen", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [str(python), *(str(argument) for argument in arguments)],
        cwd=CLIENT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=DRIVER_S,
    )


@pytest.fixture(scope="session")
def slicer_python() -> Path:
    """The environment's Python; tests are skipped with the reason where there is none."""
    folder = environment_folder()
    if not os.environ.get("RADCLEAR_SLICER_ENV") and sys.prefix == sys.base_prefix:
        pytest.skip("tests of Slicer run in an environment only; or set RADCLEAR_SLICER_ENV to a folder")
    if sys.version_info[:2] > (3, 12):
        pytest.skip("the stock Slicer client needs Python 3.12 or older (its `cgi`)")
    with _alone(folder):
        reason = _install(folder)
    if reason:
        pytest.skip(reason)
    return folder / "bin" / "python"
