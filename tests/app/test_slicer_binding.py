"""An answer and the volume on the screen belong together: two servers, changed voxels, copies.

Two sessions of a reader (`slicer_client/two_servers.py`, `changed_volumes.py`) run in Slicer's environment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from app_server import ROOT, Server, launch, needs_monailabel, wait_until_up
from slicer_environment import CLIENT, run_client
from slicer_server import mirrored

from radclear.ct import study_key
from radclear.phantom import make_phantom, write_dicom, write_nifti

pytestmark = needs_monailabel
MODULE = ROOT / "monailabel_app" / "slicer" / "Radclear"
IMAGE = study_key("same-name")


@dataclass
class Site:
    """Two servers that know two patients under one id, and a volume on the reader's disk."""

    first: Server
    second: Server
    volume: Path

    def verdicts(self, server: Server) -> list[dict]:
        return server.request("GET", "/radclear/verdicts", params={"image": IMAGE}).json()["verdicts"]

    def says(self, server: Server, image: str = IMAGE) -> list[str]:
        """What a server answers to the three questions, in a line each."""
        tasks = ("tumor_location", "lung_disease", "staging")
        return [server.infer(task, image).json()["reading"]["verdict"] for task in tasks]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    servers = []
    for number, seed in enumerate((11, 5)):
        write_dicom(make_phantom(seed, n_slices=24, size=64), folder / f"{number}" / "studies" / "same-name")
        servers.append(launch(folder / f"{number}", folder / f"{number}" / "studies"))
    write_nifti(mirrored(make_phantom(3, n_slices=24, size=64)), folder / "my-volume.nii.gz")
    yield Site(*(wait_until_up(server) for server in servers), folder / "my-volume.nii.gz")
    for server in servers:
        server.stop()


def report_of(python: Path, driver: str, folder: Path, *arguments: object) -> dict:
    """Run a session; what it wrote."""
    done = run_client(python, CLIENT / driver, MODULE, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def servers(slicer_python, site, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("servers")
    arguments = (site.first.url, site.second.url, folder, IMAGE)
    return report_of(slicer_python, "two_servers.py", folder, *arguments)


@pytest.fixture(scope="module")
def volumes(slicer_python, site, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("volumes")
    arguments = (site.first.url, folder, IMAGE, site.volume)
    return report_of(slicer_python, "changed_volumes.py", folder, *arguments)


def lines(step: dict) -> list[str]:
    return [tab["verdict"] for tab in step["tabs"]]


def test_a_second_server_starts_afresh(servers, site):
    """No answer, mark or study of the first is left; the second's are its own."""
    assert lines(servers["first"]) == site.says(site.first)
    left = servers["second connected"]
    assert left["tabs"] == [] and left["points"] == []
    assert left["message"].startswith("Connected.")
    assert lines(servers["second"]) == site.says(site.second) != lines(servers["first"])


def test_a_connect_that_failed_changes_nothing(servers, site):
    """Answers stay, and a verdict on them still goes to the server that gave them."""
    assert servers["nobody there"]["message"].startswith("No server answers at")
    assert lines(servers["nobody there"]) == lines(servers["first"])
    assert servers["verdict after a failed connect"].startswith("Stored: agree")
    assert [v["comment"] for v in site.verdicts(site.first)] == ["after a failed connect"]


def test_a_volume_of_the_first_server_is_another_study_at_the_second(servers, site):
    """Its id means another patient there: it is sent, and answered as the first did."""
    step = servers["volume of the first at the second"]
    assert "Sending the volume to the server" in step["said"]
    assert lines(step) == site.says(site.first)


def test_no_verdict_reaches_a_server_that_gave_another_answer(servers, site):
    """The address is the same, another server stands behind it, and the id means another patient."""
    assert lines(servers["through the relay"]) == site.says(site.first)
    said = servers["verdict to the wrong server"]
    assert not said.startswith("Stored") and "Ask again" in said
    assert [v["comment"] for v in site.verdicts(site.second)] == ["at the second"]


def test_no_answer_about_other_voxels_is_shown(servers):
    step = servers["asked about the first's volume"]
    assert step["tabs"] == [] and step["points"] == []
    assert "not about the volume" in step["message"]


def test_an_answer_goes_when_its_voxels_change(volumes):
    steps = volumes["changed"]
    assert len(steps["before"]["tabs"]) == 3
    assert steps["changed"]["tabs"] == [] and steps["changed"]["points"] == []
    assert "was changed" in steps["changed"]["message"]


def test_changed_voxels_are_sent_and_answered_anew(volumes):
    """Mirrored, the key slices' pictures are others; the server has not seen them."""
    steps = volumes["changed"]
    assert "Sending the volume to the server" in steps["again"]["said"]
    classes = [[tab["classes"] for tab in steps[name]["tabs"]] for name in ("before", "again")]
    assert len(classes[1]) == 3 and classes[0] != classes[1]


def test_a_copy_with_other_voxels_is_another_study(volumes):
    assert volumes["clone"]["chosen"], "another volume of the same name was chosen when the list was made anew"
    asked = volumes["clone"]["asked"]
    assert "Sending the volume to the server" in asked["said"] and len(asked["tabs"]) == 3


def test_voxels_that_change_while_the_answer_comes_are_not_given_it(volumes):
    step = volumes["while waiting"]
    assert step["tabs"] == [] and step["points"] == []
    assert "was changed" in step["message"]
