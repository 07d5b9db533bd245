"""What is shown of answers in the scene, and the files it takes."""

from __future__ import annotations

import os
import shutil

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .plot import AttentionPlot
from .scene import mark_key_slices


class RadclearLogic(ScriptedLoadableModuleLogic):
    """Marks and charts of answers, by question."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.folder = slicer.util.tempDirectory("radclear")
        self.plots: dict = {}
        self.marks: dict = {}

    def save(self, volume) -> str:
        """Write a volume of the scene for the server: no name of it, and no header but geometry."""
        path = os.path.join(self.folder, "volume.nrrd")
        slicer.util.saveNode(volume, path, {"useCompression": False})
        return path

    def show(self, answer, volume) -> None:
        """Marks and chart of an answer, instead of earlier ones of its question."""
        self.clear(answer.task)
        self.plots[answer.task] = AttentionPlot(slicer.mrmlScene, answer)
        self.marks[answer.task] = mark_key_slices(slicer.mrmlScene, answer)

    def show_only(self, task: str) -> None:
        """The marks of one question, as those of three would lie on each other."""
        for name, node in self.marks.items():
            node.SetDisplayVisibility(name == task)

    def clear(self, task: str) -> None:
        """Take an answer's nodes away."""
        if task in self.plots:
            self.plots.pop(task).remove()
        if task in self.marks:
            slicer.mrmlScene.RemoveNode(self.marks.pop(task))

    def forget(self) -> None:
        """The scene was closed, and its nodes with it."""
        self.plots.clear()
        self.marks.clear()

    def remove_files(self) -> None:
        """Volumes and thumbnails on disk."""
        shutil.rmtree(self.folder, ignore_errors=True)
