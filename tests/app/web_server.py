"""A server for tests of the results page, and what they ask of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from app_server import Server, launch, until, wait_until_up, write_long_study

from radclear.ct import study_key

DICOM, NIFTI = study_key("DOE^JANE_0"), study_key("ROE_RICHARD.nii.gz")
BROKEN, LONG = study_key("DOE^BROKEN"), study_key("DOE^LONG.nii")
TASKS = ("tumor_location", "lung_disease", "staging")


def start_web_server(folder: Path, small_studies: Path) -> Server:
    """A server with room for one waiting request, over four studies.

    Args:
        folder: for all that is written.
        small_studies: three of the studies; copied.
    """
    studies = folder / "studies"
    shutil.copytree(small_studies, studies)
    write_long_study(studies / "DOE^LONG.nii", n_slices=96)
    return wait_until_up(launch(folder, studies, "waiting", "1"))


@pytest.fixture(scope="session")
def web_server(tmp_path_factory, small_studies):
    """Shared by tests of one study."""
    server = start_web_server(tmp_path_factory.mktemp("web"), small_studies)
    yield server
    server.stop()


@pytest.fixture
def answered(web_server, tab):
    """The DICOM study, with its pictures; answered before, as an answer draws an open page anew."""
    if told(web_server, DICOM)["state"] != "answered":
        assert web_server.request("POST", f"/radclear/study/{DICOM}/ask").status_code == 202
        until(lambda: told(web_server, DICOM)["state"] == "answered")
    tab.goto(f"{web_server.url}/radclear/#/study/{DICOM}")
    tab.locator(".cursor-dot.chosen").wait_for()
    tab.locator(".frame img[src^=blob]").wait_for()
    return tab


def told(server: Server, key: str) -> dict:
    """What the server says of a study."""
    return server.request("GET", f"/radclear/study/{key}").json()
