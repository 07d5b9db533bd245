"""radclear's own Slicer module over real MRML and real Qt widgets, against a real server.

One session of a reader (`slicer_client/own_module.py`) runs in Slicer's environment.
"""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from app_server import ROOT, needs_monailabel
from slicer_environment import CLIENT, run_client
from slicer_server import SlicerServer, expected_grey, likeness, ras_of

MODULE = ROOT / "monailabel_app" / "slicer" / "Radclear"
TASKS = ("tumor_location", "lung_disease", "staging")
IN_SLICER = {"numpy", "vtk", "qt", "ctk", "slicer", "requests", "RadclearLib"}


@dataclass
class Run:
    """What a session left."""

    report: dict
    folder: Path
    site: SlicerServer

    def answer(self, task: str) -> dict:
        return self.site.server.infer(task, self.site.image).json()

    def picture(self, name: str) -> np.ndarray:
        from PIL import Image

        return np.asarray(Image.open(self.folder / name).convert("RGB"))


@pytest.fixture(scope="module")
def run(slicer_python, slicer_server, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("own")
    arguments = [MODULE, slicer_server.server.url, folder, slicer_server.image, slicer_server.volume]
    done = run_client(slicer_python, CLIENT / "own_module.py", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return Run(json.loads((folder / "report.json").read_text()), folder, slicer_server)


def test_the_module_imports_only_what_slicer_has():
    allowed = IN_SLICER | set(sys.stdlib_module_names)
    files = list(MODULE.rglob("*.py"))
    assert len(files) >= 8
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            assert {name.split(".")[0] for name in names} <= allowed, file.name


@needs_monailabel
def test_connecting_finds_the_studies(run):
    assert run.report["before"]["message"].startswith("Enter the server's address")
    assert not run.report["before"]["can ask"]
    assert run.report["connected"]["studies"] == [f"On the server: {run.site.image}"]
    assert run.report["connected"]["message"].startswith("Connected. Studies on the server: 1.")


@needs_monailabel
def test_three_answers_with_probabilities_and_their_meaning(run):
    asked = run.report["asked"]
    assert [tab["title"] for tab in asked["tabs"]] == ["Tumor location", "Lung disease", "Staging"]
    for task, tab in zip(TASKS, asked["tabs"], strict=True):
        answer = run.answer(task)
        (entry,) = answer["result"]["tasks"]
        assert tab["verdict"] == answer["reading"]["verdict"]
        assert tab["meaning"].startswith(answer["reading"]["meaning"])
        assert [row[0] for row in tab["classes"]] == [c["label"] for c in answer["reading"]["classes"]]
        shown = {label: text.lstrip("<>") for label, text, _ in tab["classes"]}
        for c in entry["classes"]:
            assert float(shown[c["label"]]) == pytest.approx(c["probability"], abs=0.011)
        for key, text in zip(entry["key_slices"], tab["keys"], strict=True):
            assert f"slice {key['number']} of 32" in text
        assert set(tab["choices"]) == {c["name"] for c in entry["classes"]}
        assert any("Demonstration weights" in banner for banner in tab["banners"])


@needs_monailabel
def test_the_window_lives_while_the_server_works(run):
    asked = run.report["asked"]
    assert asked["turns"] > 3
    assert any(text.startswith("Reading the study") for text in asked["said"])
    assert asked["message"].startswith("Answered")


@needs_monailabel
def test_marks_and_jumps_go_to_the_key_slices(run):
    """The list's points, and where the views are after a key slice was picked."""
    result = run.answer("tumor_location")["result"]
    (entry,), geometry = result["tasks"], result["geometry"]
    middle = (geometry["n_columns"] - 1) / 2, (geometry["n_rows"] - 1) / 2
    listed = next(p for p in run.report["asked"]["points"] if p["list"].startswith("Tumor location"))
    assert listed["locked"]
    for point, key, jump in zip(listed["points"], entry["key_slices"], run.report["jumps"], strict=True):
        assert point["ras"] == pytest.approx(ras_of(geometry, *middle, key["index"]), abs=0.01)
        assert point["ras"][2] == pytest.approx(key["z_mm"], abs=0.01)
        assert point["label"].startswith(f"#{key['rank']} S{key['number']} ")
        assert jump["index"] == key["index"]
        assert jump["offsets"]["Red"] == pytest.approx(key["z_mm"], abs=0.01)
        assert abs(jump["offsets"]["Yellow"]) == pytest.approx(abs(point["ras"][0]), abs=0.01)
        picture = run.picture(jump["file"])
        grey, inside = expected_grey(run.site.phantom, jump["to_ras"], picture.shape[:2])
        assert likeness(picture, grey, inside) > 0.9


@needs_monailabel
def test_thumbnails_show_the_key_slices_upright(run):
    for jumps, phantom in (
        (run.report["jumps"], run.site.phantom),
        (run.report["own volume"]["jumps"], run.site.volume_phantom),
    ):
        for jump in jumps:
            shown = np.asarray(jump["thumbnail"], dtype=float)
            scale = max(phantom.hu.shape[1:]) / max(shown.shape)
            rows, columns = (np.round(np.arange(n) * scale).astype(int) for n in shown.shape)
            hu = phantom.hu[jump["index"]][np.ix_(rows.clip(0, phantom.hu.shape[1] - 1), columns)]
            wanted = np.clip((hu + 1350.0) / 1500.0, 0, 1)
            alike = np.corrcoef(shown.ravel(), wanted.ravel())[0, 1]
            assert alike > 0.95
            assert np.corrcoef(shown[:, ::-1].ravel(), wanted.ravel())[0, 1] < alike - 0.02


@needs_monailabel
def test_the_chart_holds_the_attention_and_a_click_jumps(run):
    chart, answer = run.report["chart"], run.answer("tumor_location")["result"]
    (entry,), z_mm = answer["tasks"], answer["geometry"]["slice_z_mm"]
    assert chart["shown"] and chart["series"] == ["attention", "key slices"]
    assert [row[0] for row in chart["rows"]] == list(range(1, 33))
    assert [row[1] for row in chart["rows"]] == pytest.approx(entry["attention"])
    assert chart["keys"] == sorted(key["number"] for key in entry["key_slices"])
    on_line, on_key = chart["clicks"]
    assert on_line["offsets"]["Red"] == pytest.approx(z_mm[2], abs=0.01)
    assert on_key["offsets"]["Red"] == pytest.approx(z_mm[chart["keys"][0] - 1], abs=0.01)


@needs_monailabel
def test_verdicts_are_stored_and_what_is_missing_is_said(run):
    said = run.report["verdicts"]
    assert said["none chosen"].startswith("Choose agree")
    assert said["no reader"].startswith("Enter your name")
    assert said["two stages are no stage"] == "Choose the one class that is right."
    for name in ("agree", "none of the classes", "stage"):
        assert said[name].startswith("Stored: "), said[name]
    found = run.site.server.request("GET", "/radclear/verdicts", params={"image": run.site.image}).json()
    stored = [(v["task"], v["verdict"], v["classes"], v["reader"]) for v in found["verdicts"]]
    assert stored[0][:2] == ("tumor_location", "agree") and stored[0][3] == "Dr. Test"
    assert found["verdicts"][0]["comment"] == "as I see it" and found["verdicts"][0]["answer"]
    assert stored[1:] == [
        ("lung_disease", "correct", [], "Dr. Test"),
        ("staging", "correct", ["II"], "Dr. Test"),
    ]


@needs_monailabel
def test_a_volume_of_the_scene_is_asked_about_where_it_lies(run):
    """Stored from left to right and from head to feet; sent once, and known the second time."""
    assert run.report["closed"] == {"tabs": 0, "points": []}
    own, phantom = run.report["own volume"], run.site.volume_phantom
    assert own["said"][0] == "Sending the volume to the server"
    assert not any(text.startswith("Sending") for text in own["again"])
    assert [banner for tab in own["tabs"] for banner in tab["banners"] if "voxels apart" in banner] == []
    for jump in own["jumps"]:
        z = phantom.affine[2, 3] + phantom.affine[2, 2] * jump["index"]
        assert jump["offsets"]["Red"] == pytest.approx(z, abs=0.01)
        picture = run.picture(jump["file"])
        grey, inside = expected_grey(phantom, jump["to_ras"], picture.shape[:2])
        assert likeness(picture, grey, inside) > 0.9


@needs_monailabel
def test_marks_and_jumps_follow_a_volume_that_is_moved(run):
    """Moved upwards by 60 mm the answer is the same one; the views go where the slice is seen."""
    moved, before = run.report["moved volume"], run.report["own volume"]
    assert [t["classes"] for t in moved["again"]["tabs"]] == [t["classes"] for t in before["tabs"]]
    for listed, higher, bent in zip(before["points"], moved["points"], moved["bent"], strict=True):
        for point, other, third in zip(listed["points"], higher["points"], bent["points"], strict=True):
            assert other["ras"] == pytest.approx([*point["ras"][:2], point["ras"][2] + 60], abs=0.01)
            assert third["ras"] == pytest.approx([*point["ras"][:2], point["ras"][2] + 25], abs=0.01)
    for jump, other in zip(before["jumps"], moved["jumps"], strict=True):
        assert other["offsets"]["Red"] == pytest.approx(jump["offsets"]["Red"] + 60, abs=0.01)
        assert other["thumbnail"] == jump["thumbnail"]
        alike = np.corrcoef(run.picture(jump["file"]).ravel(), run.picture(other["file"]).ravel())[0, 1]
        assert alike > 0.98


@needs_monailabel
def test_only_volumes_of_numbers_are_listed_and_doubts_are_said(run):
    found = run.report["not asked about"]
    assert "In Slicer: nowhere" in found["listed"]
    assert not {f"In Slicer: {name}" for name in ("colours", "labels", "empty")} & set(found["listed"])
    assert len(found["nowhere"]["tabs"]) == 3, found["nowhere"]["message"]
    for tab in found["nowhere"]["tabs"]:
        assert "no place in a patient" in " ".join(tab["banners"])


@needs_monailabel
def test_what_is_sent_names_nobody_and_the_volumes_own_file_stays(run):
    assert run.report["sent file"] == {"name": "volume.nrrd", "traces": [], "own file kept": True}


@needs_monailabel
def test_errors_are_sentences_and_nothing_is_left(run):
    assert run.report["no server"].startswith("No server answers at http://127.0.0.1:9.")
    assert run.report["no address"].startswith("This is no address of a server.")
    assert run.report["dialogs"] == [] and not run.report["files left"]
