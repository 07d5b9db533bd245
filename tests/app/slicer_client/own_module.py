"""Runs radclear's own Slicer module through a reader's session; writes `report.json` and pictures.

Usage: own_module.py MODULE_FOLDER SERVER OUTPUT IMAGE VOLUME

The reader connects, asks about the study IMAGE of the server, looks at slices, charts and thumbnails, gives
verdicts, opens VOLUME from disk and asks about it, moves it, and meets a server that is not there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import application
import numpy as np
import slicer
import vtk
from reader import Session


def moved(app: application.Application, session: Session, volume) -> dict:
    """The answered volume is moved, turned by a transform that is no matrix, and asked about again."""
    upwards = np.eye(4)
    upwards[2, 3] = 60.0
    transform = app.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(upwards))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    found = {"points": app.points(), "jumps": session.jumps("moved")}
    found["again"] = session.ask()
    bent = app.scene.AddNewNodeByClass("vtkMRMLTransformNode")
    spline = vtk.vtkThinPlateSplineTransform()
    places = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in np.ndindex(2, 2, 2):
        at = (np.array(corner) - 0.5) * 1000
        places[0].InsertNextPoint(at)
        places[1].InsertNextPoint(at + [0, 0, 25])
    spline.SetSourceLandmarks(places[0])
    spline.SetTargetLandmarks(places[1])
    spline.SetBasisToR()
    bent.SetAndObserveTransformToParent(spline)
    volume.SetAndObserveTransformNodeID(bent.GetID())
    found["bent"] = app.points()
    volume.SetAndObserveTransformNodeID(None)
    return found


def not_asked_about(app: application.Application, session: Session, volume) -> dict:
    """Volumes with colours, with a label map's numbers, and with nothing; and one without a place."""
    colours = app.scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colours")
    slicer.util.updateVolumeFromArray(colours, np.zeros((8, 16, 16, 3), np.uint8))
    labels = app.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.util.updateVolumeFromArray(labels, np.zeros((8, 16, 16), np.uint8))
    app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    nowhere = app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nowhere")
    voxels = slicer.util.arrayFromVolume(volume).astype(np.float32)
    slicer.util.updateVolumeFromArray(nowhere, voxels[::-1, ::-1, ::-1] + np.float32(0.3))
    nowhere.CreateDefaultDisplayNodes()
    session.widget.enter()
    listed = [session.form.study.itemText(i) for i in range(session.form.study.count)]
    session.choose_volume(nowhere)
    return {"listed": listed, "nowhere": session.ask()}


def sent_file(app: application.Application, session: Session, volume) -> dict:
    """What the module writes for the server of a volume that carries a name and UIDs."""
    volume.SetName("DOE JANE")
    volume.SetAttribute("DICOM.instanceUIDs", "2.25.1 2.25.2")
    own_file = volume.GetStorageNode() and volume.GetStorageNode().GetFileName()
    path = session.widget.logic.save(volume)
    content = Path(path).read_bytes()
    kept = volume.GetStorageNode() and volume.GetStorageNode().GetFileName()
    return {
        "name": Path(path).name,
        "traces": [t for t in ("DOE", "2.25.1") if t.encode() in content],
        "own file kept": own_file == kept,
    }


def main(folder: str, server: str, output: str, image: str, volume: str) -> None:
    out, report = Path(output), {}
    app = application.Application()
    sys.path.insert(0, folder)
    session = Session(app, server, out)
    form = session.form
    report["before"] = {"message": form.message.text, "can ask": form.askButton.enabled}
    form.connectButton.click()
    session.wait()
    report["connected"] = {
        "message": form.message.text,
        "studies": [form.study.itemText(i) for i in range(form.study.count)],
    }
    session.choose(f"On the server: {image}")
    report["asked"] = session.ask()
    report["jumps"] = session.jumps("jump")
    report["chart"] = session.chart()
    report["verdicts"] = {
        "none chosen": session.verdict(0, ""),
        "no reader": session.verdict(0, "agree", reader=""),
        "agree": session.verdict(0, "agree", comment="as I see it"),
        "none of the classes": session.verdict(1, "correct"),
        "two stages are no stage": session.verdict(2, "correct"),
        "stage": session.verdict(2, "correct", right=("II",)),
    }
    for number in range(len(session.widget.shown.tabs)):
        session.widget.shown.panel.box.setCurrentIndex(number)
        session.grab(f"panel-{number}.png")
    session.widget.shown.panel.box.setCurrentIndex(0)
    for view in app.views:
        app.picture(view, out / f"view-{view}.png")
    app.scene.Clear(0)
    report["closed"] = {"tabs": len(session.widget.shown.tabs), "points": app.points()}
    own = app.load_volume(volume)
    session.widget.enter()
    session.choose("In Slicer: ")
    report["own volume"] = session.ask()
    report["own volume"]["jumps"] = session.jumps("own")
    report["own volume"]["again"] = session.ask()["said"]
    report["moved volume"] = moved(app, session, own)
    report["not asked about"] = not_asked_about(app, session, own)
    report["sent file"] = sent_file(app, session, own)
    form.address.setText("127.0.0.1:9")
    form.connectButton.click()
    session.wait()
    report["no server"] = form.message.text
    form.address.setText("ftp://x")
    form.connectButton.click()
    report["no address"] = form.message.text
    report["dialogs"] = app.dialogs
    session.widget.cleanup()
    report["files left"] = Path(session.widget.logic.folder).exists()
    (out / "report.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
