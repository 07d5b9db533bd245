"""Fixtures of the backbone tests."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_KEYS = Path(__file__).resolve().parents[3] / "shared" / "spec" / "keys"


@pytest.fixture(scope="session")
def shared_keys() -> Path:
    """The folder of key and shape lists of the published checkpoints, one `name shape` a line."""
    if not SHARED_KEYS.is_dir():
        pytest.skip(f"key lists of the published checkpoints not found at {SHARED_KEYS}")
    return SHARED_KEYS
