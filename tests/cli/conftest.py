"""Bundles with weights, from `tests/bundles/bundle_fixtures.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundles"))

from bundle_fixtures import bundles, studies  # noqa: E402, F401
