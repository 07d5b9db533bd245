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
from reader import Session


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
    moved = slicer.vtkMRMLLinearTransformNode()
    app.scene.AddNode(moved)
    upwards = np.eye(4)
    upwards[2, 3] = 60.0
    moved.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(upwards))
    own.SetAndObserveTransformNodeID(moved.GetID())
    report["moved volume"] = session.ask()["tabs"][0]["banners"]
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
