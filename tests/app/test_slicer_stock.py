"""The stock MONAI Label module of 3D Slicer, unmodified, over real MRML and real Qt, against a real server.

One session of a reader (`slicer_client/stock_module.py`) runs in Slicer's environment; what it left in the
scene and in the views is compared here with the JSON answers and with the phantom itself.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from app_server import needs_monailabel
from slicer_environment import CLIENT, run_client
from slicer_server import SlicerServer, expected_grey, likeness, ras_of

pytestmark = needs_monailabel
TASKS = ("tumor_location", "lung_disease", "staging")
MODULE = Path(sys.prefix) / "monailabel" / "plugins" / "slicer" / "MONAILabel"


@dataclass
class Run:
    """What a session left."""

    report: dict
    folder: Path
    site: SlicerServer

    def answer(self, task: str) -> dict:
        """The JSON answer's only task, with the geometry."""
        result = self.site.server.infer(task, self.site.image).json()["result"]
        return {**result["tasks"][0], "geometry": result["geometry"]}

    def picture(self, about: dict) -> np.ndarray:
        from PIL import Image

        return np.asarray(Image.open(self.folder / about["file"]).convert("RGB"))

    def voxels(self, entry: str) -> list[np.ndarray]:
        """RAS positions of the voxels of each segment."""
        with np.load(self.folder / f"{entry}.npz") as found:
            return [found[f"s{i}"] for i in range(len(found.files))]


@pytest.fixture(scope="module")
def run(slicer_python, slicer_server, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("stock")
    done = run_client(
        slicer_python,
        CLIENT / "stock_module.py",
        MODULE,
        slicer_server.server.url,
        folder,
        slicer_server.volume,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Run(json.loads((folder / "report.json").read_text()), folder, slicer_server)


def errors(step: dict) -> list[str]:
    return [dialog["text"] for dialog in step["dialogs"] if dialog["kind"] in ("error", "warning")]


def test_the_module_is_the_one_of_the_installed_wheel():
    assert (MODULE / "MONAILabel.py").is_file()
    assert Path(importlib.util.find_spec("monailabel").origin).is_relative_to(sys.prefix)


def test_connecting_lists_two_entries_per_question_and_no_training(run):
    found = run.report["connect"]
    assert found["dialogs"] == [] and not found["training"]
    assert found["models"] == [f"{task}{suffix}" for task in TASKS for suffix in ("_findings", "_overlay")]
    assert set(found["strategies"]) >= {"first", "random"}


def test_the_next_sample_is_loaded_with_few_empty_segments(run):
    assert run.report["sample"] == {"dialogs": [], "image": run.site.image}
    assert run.report["labels"][:4] == ["key slice 1", "key slice 2", "key slice 3", "attention"]


@pytest.mark.parametrize("task", TASKS)
def test_findings_are_points_on_the_key_slices_with_readable_names(run, task):
    step, answer = run.report[f"{task}_findings"], run.answer(task)
    assert step["dialogs"] == []
    (listed,) = step["points"]
    geometry, top = answer["geometry"], next(c for c in answer["classes"] if c["name"] == answer["top_class"])
    assert listed["locked"] and top["label"] in listed["list"] and "demonstration weights" in listed["list"]
    assert len(listed["points"]) == len(answer["key_slices"])
    for point, key in zip(listed["points"], answer["key_slices"], strict=True):
        middle = (geometry["n_columns"] - 1) / 2, (geometry["n_rows"] - 1) / 2
        assert point["ras"] == pytest.approx(ras_of(geometry, *middle, key["index"]), abs=0.01)
        assert point["ras"][2] == pytest.approx(key["z_mm"], abs=0.01)
        assert point["label"].startswith(f"#{key['rank']} S{key['number']} {top['label']} ")


@pytest.mark.parametrize("task", TASKS)
def test_frames_and_bars_are_on_their_slices_and_at_the_patients_back(run, task):
    """In RAS: frames on the key slices only; bars start at the patient's right, as long as attention."""
    step, answer = run.report[f"{task}_overlay"], run.answer(task)
    geometry, keys = answer["geometry"], answer["key_slices"]
    assert step["dialogs"] == []
    assert len(step["segments"]) == len(keys) + 1
    *frames, bar = run.voxels(f"{task}_overlay")
    corners = ras_of(geometry, [0, geometry["n_columns"] - 1], [0, geometry["n_rows"] - 1], 0)[:, :2]
    for key, segment, frame in zip(keys, step["segments"], frames, strict=False):
        assert f"key {key['rank']}: slice {key['number']} of {geometry['n_slices']}" in segment["name"]
        assert frame[:, 2] == pytest.approx(key["z_mm"], abs=0.01)
        assert frame[:, :2].min(axis=0) == pytest.approx(corners.min(axis=0), abs=0.01)
        assert frame[:, :2].max(axis=0) == pytest.approx(corners.max(axis=0), abs=0.01)
    right, back = corners[:, 0].max(), corners[:, 1].min()
    spacing = geometry["spacing_mm"]
    assert (bar[:, 1] < back + 5 * spacing["y"]).all() and bar[:, 0].max() > right - 2 * spacing["x"]
    ends = [bar[np.abs(bar[:, 2] - z) < 0.01][:, 0] for z in geometry["slice_z_mm"]]
    lengths = [round(np.ptp(x) / spacing["x"]) + 1 if len(x) else 0 for x in ends]
    attention = np.array(answer["attention"])
    wanted = attention / attention.max() * max(lengths)
    assert np.abs(np.array(lengths) - np.maximum(wanted, attention > 0)).max() <= 1


def test_views_show_the_right_slice_the_right_way_round(run):
    """Each view against the phantom; mirrored right to left or front to back it is less alike."""
    for about in run.report["tumor_location_findings"]["pictures"]:
        picture = run.picture(about)
        grey, inside = expected_grey(run.site.phantom, about["to_ras"], picture.shape[:2])
        alike = likeness(picture, grey, inside)
        assert alike > 0.9, about
        assert likeness(picture[:, ::-1], grey, inside) < alike - 0.02, about
        assert likeness(picture[::-1], grey, inside) < alike - 0.02, about
        right, up = np.array(about["to_ras"])[:3, 0], np.array(about["to_ras"])[:3, 1]
        if about["view"] == "Red":  # the patient's right on the left, front at the top
            assert right[0] < 0 and up[1] > 0


def test_the_frame_and_the_bar_are_seen(run):
    """What the overlay changed in the axial views: a rim around the volume, and a bar at its lower edge."""
    step, answer = run.report["tumor_location_overlay"], run.answer("tumor_location")
    plain = {about["file"]: about for about in run.report["tumor_location_findings"]["pictures"]}
    for about in (a for a in step["pictures"] if a["view"] == "Red"):
        before = plain[about["file"].replace("overlay", "findings")]
        key = next(k for k in answer["key_slices"] if abs(k["z_mm"] - about["at"][2]) < 0.01)
        color = np.array(step["segments"][key["rank"] - 1]["color"])
        picture = run.picture(about).astype(int)
        changed = np.abs(picture - run.picture(before).astype(int)).max(axis=-1) > 20
        _, inside = expected_grey(run.site.phantom, about["to_ras"], picture.shape[:2])
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        rim = inside.copy()
        edge = round(np.ptp(columns) / 96) + 3
        rim[rows[0] + edge : rows[-1] - edge, columns[0] + edge : columns[-1] - edge] = False
        for side in (
            changed[rows[0] : rows[0] + edge, columns].any(axis=0),
            changed[rows[-1] - edge : rows[-1] + 1, columns].any(axis=0),
            changed[rows][:, columns[0] : columns[0] + edge].any(axis=1),
            changed[rows][:, columns[-1] - edge : columns[-1] + 1].any(axis=1),
        ):
            assert side.mean() > 0.9, about["file"]
        tint = picture[changed & rim].mean(axis=0) - picture[changed & rim].mean()
        assert np.corrcoef(tint, color)[0, 1] > 0.5, (about["file"], tint, color)


def test_a_submitted_label_is_refused_with_a_sentence_that_says_what_to_do(run):
    for step in ("submit overlay", "submit findings"):
        (told,) = errors(run.report[step])
        assert "labels are not taken" in told and "Give a verdict" in told


def test_a_volume_that_is_open_in_slicer_is_asked_about_and_uploaded(run):
    """In the module's session, and under its name after an upload; it is stored the other way round."""
    own = run.site.server.request("GET", "/datastore/", params={"output": "all"}).json()["objects"]
    assert len(own) == 3 and "my-volume" not in json.dumps(own)
    for step in ("opened", "own volume", "upload", "uploaded volume"):
        assert errors(run.report[step]) == []
    asked, uploaded = run.report["own volume"]["points"], run.report["uploaded volume"]["points"]
    result = run.site.server.infer("lung_disease", "my-volume").json()["result"]
    wanted = [key["z_mm"] for key in result["tasks"][0]["key_slices"]]
    for (listed,) in (asked, uploaded):
        assert [point["ras"][2] for point in listed["points"]] == pytest.approx(wanted, abs=0.01)
    assert asked == uploaded
    z = run.site.volume_phantom.affine[2, 3] + run.site.volume_phantom.affine[2, 2] * np.arange(24)
    assert result["geometry"]["slice_z_mm"] == pytest.approx(z, abs=0.01)


def test_a_server_that_is_not_there_is_a_message(run):
    (told,) = errors(run.report["no server"])
    assert "Make sure server address is correct" in told
