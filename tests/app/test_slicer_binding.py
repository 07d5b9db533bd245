"""An answer and the volume on the screen belong together: two servers, changed voxels, copies.

Two sessions of a reader (`slicer_client/two_servers.py`, `changed_volumes.py`) run in Slicer's environment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
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

    def comments(self, server: Server) -> list[str]:
        """Those of all verdicts on the study."""
        found = server.request("GET", "/radclear/verdicts", params={"image": IMAGE}).json()
        return [verdict["comment"] for verdict in found["verdicts"]]

    def says(self, server: Server) -> list[str]:
        """What a server answers to the three questions about the study, in a line each."""
        tasks = ("tumor_location", "lung_disease", "staging")
        return [server.infer(task, IMAGE).json()["reading"]["verdict"] for task in tasks]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    phantoms = [make_phantom(seed, n_slices=24, size=64) for seed in (11, 5)]
    affine = phantoms[0].affine.copy()
    affine[:2, 3] = -80.12345, -70.76545  # between two of the four decimals that the server's hash knows
    servers = []
    for number, phantom in enumerate(phantoms):
        same_place = replace(phantom, affine=affine)
        write_dicom(same_place, folder / f"{number}" / "studies" / "same-name")
        servers.append(launch(folder / f"{number}", folder / f"{number}" / "studies", "rescan", "1"))
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
    report = report_of(slicer_python, "two_servers.py", folder, *arguments)
    report["says"] = [site.says(server) for server in (site.first, site.second)]
    report["comments"] = [site.comments(server) for server in (site.first, site.second)]
    return report


@pytest.fixture(scope="module")
def volumes(slicer_python, site, servers, tmp_path_factory) -> dict:
    """After `servers`, as this session ends the first server."""
    folder = tmp_path_factory.mktemp("volumes")
    server = site.first
    arguments = (server.url, server.process.pid, server.data.parent, folder, IMAGE, site.volume)
    return report_of(slicer_python, "changed_volumes.py", folder, *arguments)


def lines(step: dict) -> list[str]:
    """The answers that a panel shows."""
    return [tab["verdict"] for tab in step["tabs"]]


def nothing_shown(step: dict) -> bool:
    return step["tabs"] == [] and step["points"] == [] and not step["answers"] and not step["about"]


def test_a_second_server_starts_afresh(servers):
    """No answer, mark or study of the first is left; the second's are its own."""
    first, second = servers["says"]
    assert lines(servers["first"]) == first
    assert nothing_shown(servers["second connected"])
    assert servers["second connected"]["message"].startswith("Connected.")
    assert lines(servers["second"]) == second != first


def test_a_connect_that_failed_changes_nothing(servers):
    """Answers stay, and a verdict on them still goes to the server that gave them."""
    assert servers["nobody there"]["message"].startswith("No server answers at")
    assert lines(servers["nobody there"]) == servers["says"][0]
    assert servers["verdict after a failed connect"].startswith("Stored: agree")
    assert servers["comments"][0] == ["after a failed connect"]


def test_a_volume_of_the_first_server_is_another_study_at_the_second(servers):
    """Its id means another patient there: it is sent, and answered as the first did."""
    step = servers["volume of the first at the second"]
    assert "Sending the volume to the server" in step["said"]
    assert lines(step) == servers["says"][0]


def test_no_verdict_reaches_a_server_that_gave_another_answer(servers):
    """The address is the same, another server stands behind it, and the id means another patient."""
    assert lines(servers["through the relay"]) == servers["says"][0]
    said = servers["verdict to the wrong server"]
    assert not said.startswith("Stored") and "Ask again" in said
    assert servers["comments"][1] == ["at the second"]


def test_no_answer_about_other_voxels_is_shown(servers):
    """The volume is the first's, the answer the second's, id and geometry are the same."""
    step = servers["asked about the first's volume"]
    assert nothing_shown(step) and "not about the volume in Slicer" in step["message"]
    assert lines(servers["its own at the second"]) == servers["says"][1]


def test_an_answer_goes_when_its_voxels_change(volumes):
    steps = volumes["changed"]
    assert len(steps["before"]["tabs"]) == 3 and steps["before"]["about"].startswith(
        "These answers are about"
    )
    assert nothing_shown(steps["changed"]) and "was changed" in steps["changed"]["message"]


def test_changed_voxels_are_sent_and_answered_anew(volumes):
    steps = volumes["changed"]
    assert "Sending the volume to the server" in steps["again"]["said"]
    classes = [[tab["classes"] for tab in steps[name]["tabs"]] for name in ("before", "again")]
    assert len(classes[1]) == 3 and classes[0] != classes[1]


def test_no_verdict_on_voxels_that_changed_silently(volumes):
    step = volumes["changed"]["changed silently"]
    assert nothing_shown(step) and "was changed" in step["message"]
    assert volumes["changed"]["verdict"] == ""


def test_a_copy_with_other_voxels_is_another_study(volumes):
    """It has the name, the geometry and the attributes of the first, and stays chosen in the list."""
    assert volumes["clone"]["chosen"]
    asked = volumes["clone"]["asked"]
    assert "Sending the volume to the server" in asked["said"] and len(asked["tabs"]) == 3


def test_marks_and_answers_keep_to_the_views_that_show_their_volume(volumes):
    steps = volumes["views"]
    assert steps["one view"]["answers"] and "Some views show another volume" in steps["one view"]["about"]
    assert steps["one view"]["marks"] == [["Yellow", "Green"]]
    assert not steps["all views"]["answers"]
    assert "the views show another volume" in steps["all views"]["about"]
    clicked = steps["chart clicked"]
    assert clicked["answers"] and "another" not in clicked["about"], (
        "a click must not move another volume's views"
    )
    assert clicked["offsets"]["Red"] == pytest.approx(clicked["third from the feet"], abs=0.01)
    assert steps["put back"]["answers"] and "another" not in steps["put back"]["about"]
    assert "was not asked about yet" in steps["another chosen"]["about"]


def test_an_answer_that_comes_too_late_is_not_shown(volumes):
    """The voxels changed, the volume was removed, the scene was closed meanwhile."""
    steps = volumes["while waiting"]
    for step, said in (("changed", "was changed while"), ("removed", "was removed"), ("closed", "Stopped")):
        assert nothing_shown(steps[step]), step
        assert said in steps[step]["message"]
    assert steps["removed"]["chosen"] == -1, "another study was chosen in the place of one that is gone"
    assert steps["closed"]["nodes"] == 0


def test_answers_go_with_their_volume_and_are_in_no_saved_scene(volumes):
    steps = volumes["removed below"]
    assert len(steps["before"]["tabs"]) == 3 and steps["saved"] == []
    assert nothing_shown(steps["after"]) and "was removed" in steps["after"]["message"]


def test_the_same_verdict_is_sent_once(volumes):
    steps = volumes["verdicts"]
    assert steps["first"].startswith("Stored") and steps["another"].startswith("Stored")
    assert steps["again"] == "This verdict is stored already."


def test_what_the_server_lost_is_sent_again_or_said(volumes):
    steps = volumes["server"]
    sent = steps["upload removed"]
    assert "Sending the volume to the server" in sent["said"] and len(sent["tabs"]) == 3
    assert steps["study removed"]["message"].startswith("The server has this study no more.")


def test_a_long_wait_can_be_left_and_a_server_may_end(volumes):
    steps = volumes["server"]
    assert "Asking" in steps["long"] or "Reading the study" in steps["long"]
    assert steps["left"]["message"] == "Stopped waiting." and steps["left"]["can ask"]
    assert len(steps["left"]["tabs"]) == 3
    assert "may be stored" in steps["verdict left"]
    assert steps["ended"]["message"].startswith("No server answers at")
    assert len(steps["ended"]["tabs"]) == 3 and volumes["dialogs"] == []
