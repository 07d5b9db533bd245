"""Fixtures that choose a tier of the scan."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from radclear.backbones.scan import available_scans, dispatch

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def force_tier(monkeypatch):
    """A function that forces a CPU tier; the test is skipped where the tier cannot run, with the reason."""

    def force(name):
        reason = available_scans()[name]
        if reason != "available":
            pytest.skip(f"{name}: {reason}")
        monkeypatch.setenv("RADCLEAR_SCAN", name)

    yield force
    dispatch._choose.cache_clear()


@pytest.fixture
def in_new_process():
    """A function that starts Python on some code with changed variables (None removes one)."""

    def start(code, **variables):
        changed = {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}
        environment = {name: value for name, value in changed.items() if value is not None}
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
