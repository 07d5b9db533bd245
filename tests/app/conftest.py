"""The app's modules on the path, and a real server that tests share."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "monailabel_app"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "bundle"))  # bag_cohorts

from app_server import long_study, server, small_studies  # noqa: E402, F401
from browser import chrome, tab  # noqa: E402, F401
from climbing import secrets  # noqa: E402, F401
from fake_dicomweb import archive  # noqa: E402, F401
from realm import realm  # noqa: E402, F401
from slicer_environment import slicer_python  # noqa: E402, F401
from slicer_server import slicer_server  # noqa: E402, F401
from web_server import answered, web_server  # noqa: E402, F401
