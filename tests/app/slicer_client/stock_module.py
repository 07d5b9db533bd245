"""Runs the stock MONAI Label module of Slicer, unmodified, through a reader's session; prints JSON.

Usage: stock_module.py MODULE_FOLDER SERVER OUTPUT VOLUME

The reader connects, fetches the next sample, asks for every entry, submits a label, closes the scene, opens
VOLUME from disk, asks, uploads it, and asks again.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import application
import numpy as np
import requests
import slicer
import vtk
from vtkmodules.util.numpy_support import vtk_to_numpy


def install_imports(app: application.Application, folder: str) -> None:
    """Modules that the stock module imports and trame-slicer has under another name or not at all."""
    import slicer_core.vtkSegmentationCore

    class SampleDataLogic:
        def downloadFromURL(self, nodeNames, fileNames, uris, checksums=None):
            path = Path(app.folder) / fileNames
            reply = requests.get(uris, timeout=120)
            reply.raise_for_status()
            path.write_bytes(reply.content)
            return [app.load_volume(path, {"name": nodeNames})]

    sys.modules["vtkSegmentationCore"] = slicer_core.vtkSegmentationCore
    sys.modules["SampleData"] = types.SimpleNamespace(SampleDataLogic=SampleDataLogic)
    sys.modules["sitkUtils"] = types.SimpleNamespace(PushVolumeToSlicer=application.push_volume)
    sys.path.insert(0, folder)


def open_module(app: application.Application, server: str):
    """The module's widget after its setup, with the server's address typed in."""
    import MONAILabel
    import qt

    parent = qt.QWidget()
    parent.isEntered = True
    widget = MONAILabel.MONAILabelWidget(parent)
    widget.setup()
    widget.ui.serverComboBox.setCurrentText(server)
    return widget


def segments(app: application.Application) -> dict[str, dict]:
    """Each segment: its colour, and the RAS positions of its voxels."""
    found = {}
    for node in app.nodes("vtkMRMLSegmentationNode"):
        segmentation = node.GetSegmentation()
        for i in range(segmentation.GetNumberOfSegments()):
            segment = segmentation.GetNthSegment(i)
            places = voxels(node, segmentation.GetNthSegmentID(i))
            found[segment.GetName()] = {"color": list(segment.GetColor()), "ras": places}
    return found


def voxels(node, segment_id: str) -> np.ndarray:
    """RAS positions of a segment's voxels, (n, 3)."""
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segment_id, image)
    scalars = image.GetPointData().GetScalars()
    if scalars is None:
        return np.empty((0, 3))
    data = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])
    places = np.argwhere(data)[:, ::-1] + image.GetExtent()[::2]
    world = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(world)
    to_world = slicer.util.arrayFromVTKMatrix(world)
    return (np.c_[places, np.ones(len(places))] @ to_world.T)[:, :3]


def paint(app: application.Application) -> None:
    """Colours that differ from grey images; those of Slicer are random, grey among them."""
    for node in app.nodes("vtkMRMLSegmentationNode"):
        segmentation = node.GetSegmentation()
        for i in range(segmentation.GetNumberOfSegments()):
            segmentation.GetNthSegment(i).SetColor(*COLORS[i % len(COLORS)])


def ask(app: application.Application, widget, entry: str) -> None:
    """Choose a model and press Run."""
    selector = widget.ui.segmentationModelSelector
    selector.setCurrentIndex(selector.findText(entry))
    widget.ui.segmentationButton.click()


def taken(app: application.Application) -> list[dict]:
    """The dialogs since the last time."""
    dialogs, app.dialogs[:] = list(app.dialogs), []
    return dialogs


def answered(app: application.Application, widget, entry: str, output: Path, *, pictures: bool) -> dict:
    """Ask for an entry, and tell what is in the scene then; the views are looked at where asked."""
    for node in app.nodes("vtkMRMLMarkupsFiducialNode"):
        app.scene.RemoveNode(node)
    for node in app.nodes("vtkMRMLSegmentationNode"):
        node.GetSegmentation().RemoveAllSegments()
    ask(app, widget, entry)
    report = {"dialogs": taken(app), "points": app.points()}
    paint(app)
    found = segments(app)
    np.savez(output / f"{entry}.npz", **{f"s{i}": each["ras"] for i, each in enumerate(found.values())})
    report["segments"] = [{"name": name, "color": each["color"]} for name, each in found.items()]
    report["pictures"] = []
    if pictures:
        for node in app.nodes("vtkMRMLSegmentationNode"):
            node.CreateDefaultDisplayNodes()
        places = [point["ras"] for listed in report["points"] for point in listed["points"]]
        for number, ras in enumerate(places or PLACES):
            app.jump(ras)
            for view in app.views:
                name = f"{entry}-{number}-{view}.png"
                app.picture(view, output / name)
                about = {"file": name, "view": view, "at": ras, "to_ras": app.view_matrix(view)}
                report["pictures"].append(about)
        PLACES[:] = places or PLACES
    return report


COLORS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 1.0))
#: Where the last list of points was: label maps name no place to look at.
PLACES: list[list[float]] = []


def session(app: application.Application, widget, output: Path, volume: str) -> dict:
    """What the reader does; the answers and dialogs of every step."""
    report: dict = {}
    widget.ui.fetchServerInfoButton.click()
    selector, strategies = widget.ui.segmentationModelSelector, widget.ui.strategyBox
    report["connect"] = {
        "dialogs": taken(app),
        "models": [selector.itemText(i) for i in range(selector.count)],
        "strategies": [strategies.itemText(i) for i in range(strategies.count)],
        "training": widget.ui.trainingButton.enabled,
    }
    widget.ui.nextSampleButton.click()
    report["sample"] = {"dialogs": taken(app), "image": (widget.current_sample or {}).get("id")}
    report["labels"] = list(segments(app))
    for task in ("tumor_location", "lung_disease", "staging"):
        for suffix in ("_findings", "_overlay"):
            entry = task + suffix
            report[entry] = answered(app, widget, entry, output, pictures=task == "tumor_location")
    widget.ui.saveLabelButton.click()
    report["submit overlay"] = {"dialogs": taken(app)}
    selector.setCurrentIndex(selector.findText("staging_findings"))
    widget.ui.saveLabelButton.click()
    report["submit findings"] = {"dialogs": taken(app)}
    app.scene.Clear(0)
    widget.ui.fetchServerInfoButton.click()
    own = app.load_volume(volume)
    widget.enter()
    report["opened"] = {"dialogs": taken(app), "name": own.GetName()}
    report["own volume"] = answered(app, widget, "lung_disease_findings", output, pictures=False)
    widget.ui.uploadImageButton.click()
    report["upload"] = {"dialogs": taken(app), "image": widget.current_sample["id"]}
    report["uploaded volume"] = answered(app, widget, "lung_disease_findings", output, pictures=False)
    widget.ui.serverComboBox.setCurrentText("http://127.0.0.1:9")
    widget.ui.fetchServerInfoButton.click()
    report["no server"] = {"dialogs": taken(app)}
    return report


def main(folder: str, server: str, output: str, volume: str) -> None:
    app = application.Application()
    install_imports(app, folder)
    report = session(app, open_module(app, server), Path(output), volume)
    (Path(output) / "report.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
