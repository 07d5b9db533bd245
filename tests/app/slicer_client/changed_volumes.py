"""A reader changes volumes, views and the scene below answers and before they come; writes `report.json`.

Usage: changed_volumes.py MODULE_FOLDER SERVER PROCESS FILES OUTPUT IMAGE VOLUME

PROCESS is the server's process, which is held and ended; FILES is the folder that holds its studies and data.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import application
import numpy as np
import slicer
import vtk
from reader import Session


def flip(volume, axis: int) -> None:
    """Other voxels in the same places, as a module writes them."""
    voxels = slicer.util.arrayFromVolume(volume)
    voxels[:] = np.flip(voxels, axis).copy()
    slicer.util.arrayFromVolumeModified(volume)


def heights(volume) -> list[float]:
    """Where the slices lie along the body in mm, from the feet on."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return sorted(
        matrix.MultiplyPoint((0, 0, k, 1))[2] for k in range(volume.GetImageData().GetDimensions()[2])
    )


class Story:
    """What happens, step by step."""

    def __init__(self, app: application.Application, session: Session, path: str) -> None:
        self.app, self.session, self.path = app, session, path
        self.volume = app.load_volume(path)

    def changed(self) -> dict:
        """Voxels that change below an answer; then the question again."""
        self.session.choose_volume(self.volume)
        found = {"before": self.session.ask()}
        flip(self.volume, 2)
        self.session.pause()
        found["changed"] = self.session.shown()
        found["again"] = self.session.ask()
        voxels = slicer.util.arrayFromVolume(self.volume)
        voxels[0] += 1  # as a script that forgets to tell
        found["verdict"] = self.session.verdict(0, "agree")
        found["changed silently"] = self.session.shown()
        voxels[0] -= 1
        return found

    def clone(self) -> dict:
        """A copy with other voxels is asked about; the list keeps what was chosen of two with one name."""
        self.other = self.app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", self.volume.GetName())
        self.other.CopyContent(self.volume)
        for name in self.volume.GetAttributeNames():
            self.other.SetAttribute(name, self.volume.GetAttribute(name))
        self.other.CreateDefaultDisplayNodes()
        flip(self.other, 1)
        self.session.choose_volume(self.other)
        self.app.scene.AddNewNodeByClass("vtkMRMLModelNode")
        chosen = self.session.form.study.currentData
        return {"chosen": chosen == f"scene:{self.other.GetID()}", "asked": self.session.ask()}

    def views(self) -> dict:
        """Another volume is put into one view, into all, the answered one back; then another is chosen."""
        found = {}
        red, *rest = self.app.views.values()
        red.set_background_volume_id(self.volume.GetID())
        found["one view"] = {**self.session.shown(), "marks": self.app.views_of_marks()}
        for view in rest:
            view.set_background_volume_id(self.volume.GetID())
        found["all views"] = self.session.shown()
        series = self.session.widget.logic.plots["tumor_location"].series[0].GetID()
        self.session.click_point(series, 2)
        height = heights(self.other)[2]
        found["chart clicked"] = {
            **self.session.shown(),
            "offsets": self.session.offsets(),
            "third from the feet": height,
        }
        for view in self.app.views.values():
            view.set_background_volume_id(self.volume.GetID())
        self.session.widget.shown.panel.showButton.click()
        found["put back"] = self.session.shown()
        self.session.choose_volume(self.volume)
        found["another chosen"] = self.session.shown()
        return found

    def while_waiting(self) -> dict:
        """What happens to the volume while the answer is on its way."""
        found = {}
        self.session.form.askButton.click()
        flip(self.volume, 2)
        self.session.wait()
        found["changed"] = self.session.shown()
        self.session.form.askButton.click()
        self.app.scene.RemoveNode(self.volume)
        self.session.wait()
        found["removed"] = {**self.session.shown(), "chosen": self.session.form.study.currentIndex}
        self.session.choose_volume(self.other)
        self.session.form.askButton.click()
        self.app.scene.Clear(0)
        self.session.pause()
        found["closed"] = {**self.session.shown(), "nodes": len(self.app.nodes("vtkMRMLPlotChartNode"))}
        return found

    def removed_below_the_answer(self) -> dict:
        """The answered volume is removed, and what a saved scene would hold of its answer."""
        volume = self.app.load_volume(self.path)
        self.session.choose_volume(volume)
        before = self.session.ask()
        kinds = ("vtkMRMLMarkupsFiducialNode", "vtkMRMLPlotChartNode", "vtkMRMLTableNode")
        saved = [node.GetName() for kind in kinds for node in self.app.nodes(kind) if node.GetSaveWithScene()]
        self.app.scene.RemoveNode(volume)
        return {"before": before, "saved": saved, "after": self.session.shown()}

    def verdicts(self) -> dict:
        """The same verdict twice, and one that is not waited for."""
        self.volume = self.app.load_volume(self.path)
        self.session.choose_volume(self.volume)
        self.session.ask()
        found = {"first": self.session.verdict(0, "agree", comment="once")}
        found["again"] = self.session.verdict(0, "agree", comment="once")
        found["another"] = self.session.verdict(0, "agree", comment="twice")
        return found

    def server(self, process: int, folders: tuple[Path, Path], image: str) -> dict:
        """What was sent, and a study, are gone on the server; it does not answer for long; it ends."""
        studies, uploads = folders
        for file in uploads.glob("study-*"):
            file.unlink()
        for folder in studies.iterdir():
            shutil.rmtree(folder)
        shutil.rmtree(self.session.widget.logic.folder)  # the reader's temporary files, too
        server = self.session.widget.connection.server
        self.session.wait_for(lambda: not server.studies())  # it looks at its folders again, every second
        found = {"upload removed": self.session.ask()}
        self.session.choose(f"On the server: {image}")
        found["study removed"] = self.session.ask()
        self.session.choose_volume(self.volume)
        os.kill(process, signal.SIGSTOP)
        self.session.form.askButton.click()
        self.session.pause(1.2)
        found["long"] = self.session.form.message.text
        self.session.form.stopButton.click()
        found["left"] = {**self.session.shown(), "can ask": self.session.form.askButton.enabled}
        tab = self.session.widget.shown.tabs[0]
        tab.choices["disagree"].setChecked(True)
        tab.sendButton.click()
        self.session.form.stopButton.click()
        found["verdict left"] = tab.sent.text
        self.session.form.askButton.click()
        os.kill(process, signal.SIGKILL)
        self.session.wait()
        found["ended"] = self.session.shown()
        return found


def main(folder: str, server: str, process: str, files: str, output: str, image: str, volume: str) -> None:
    report: dict = {}
    app = application.Application()
    sys.path.insert(0, folder)
    session = Session(app, server, Path(output))
    session.form.connectButton.click()
    session.wait()
    story = Story(app, session, volume)
    report["changed"] = story.changed()
    report["clone"] = story.clone()
    report["views"] = story.views()
    report["while waiting"] = story.while_waiting()
    report["removed below"] = story.removed_below_the_answer()
    report["verdicts"] = story.verdicts()
    report["server"] = story.server(
        int(process), (Path(files) / "studies", Path(files) / "data" / "uploads"), image
    )
    report["dialogs"] = app.dialogs
    session.widget.cleanup()
    (Path(output) / "report.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
