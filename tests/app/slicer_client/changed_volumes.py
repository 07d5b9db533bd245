"""A reader changes volumes of the scene after, before and while an answer comes; writes `report.json`.

Usage: changed_volumes.py MODULE_FOLDER SERVER OUTPUT IMAGE VOLUME
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


def mirror(volume) -> None:
    """Other voxels in the same places, as a module writes them: left and right changed."""
    voxels = slicer.util.arrayFromVolume(volume)
    voxels[:] = voxels[:, :, ::-1].copy()
    slicer.util.arrayFromVolumeModified(volume)


def copied(app: application.Application, volume):
    """A copy of a volume with all attributes, and its voxels changed, as the Data module clones."""
    clone = app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", volume.GetName())
    clone.CopyContent(volume)
    for name in volume.GetAttributeNames():
        clone.SetAttribute(name, volume.GetAttribute(name))
    clone.CreateDefaultDisplayNodes()
    mirror(clone)
    return clone


class Story:
    """What happens to the volumes, step by step."""

    def __init__(self, app: application.Application, session: Session, path: str) -> None:
        self.app, self.session = app, session
        self.volume = app.load_volume(path)

    def changed(self) -> dict:
        """Voxels that change below an answer; then the question again."""
        self.session.choose_volume(self.volume)
        found = {"before": self.session.ask()}
        mirror(self.volume)
        self.session.pause()
        found["changed"] = self.session.shown()
        found["again"] = self.session.ask()
        return found

    def clone(self) -> dict:
        """A copy with other voxels is asked about; the list keeps what was chosen of two with one name."""
        other = copied(self.app, self.volume)
        self.session.choose_volume(other)
        self.app.scene.AddNewNodeByClass("vtkMRMLModelNode")
        chosen = self.session.form.study.currentData
        asked = self.session.ask()
        return {"chosen": chosen == f"scene:{other.GetID()}", "asked": asked}

    def while_waiting(self) -> dict:
        """Voxels that change while the answer is on its way."""
        self.session.form.askButton.click()
        mirror(self.volume)
        self.session.wait()
        return self.session.shown()


def main(folder: str, server: str, output: str, image: str, volume: str) -> None:
    report: dict = {}
    app = application.Application()
    sys.path.insert(0, folder)
    session = Session(app, server, Path(output))
    session.form.connectButton.click()
    session.wait()
    story = Story(app, session, volume)
    report["changed"] = story.changed()
    report["clone"] = story.clone()
    session.choose_volume(story.volume)
    report["while waiting"] = story.while_waiting()
    (Path(output) / "report.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
