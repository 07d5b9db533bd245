"""What is shown of answers in the scene, and the files it takes."""

from __future__ import annotations

import os
import shutil
import tempfile

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .plot import AttentionPlot
from .scene import mark_key_slices, show_marks
from .server import ServerError
from .voxels import bare_copy

NO_FILES = "A temporary file that the server needs could not be written. Make room on the disk and ask again."


class RadclearLogic(ScriptedLoadableModuleLogic):
    """Marks and charts of answers, by question."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.folder = slicer.util.tempDirectory("radclear")
        self.plots: dict = {}
        self.marks: dict = {}

    def new_folder(self) -> str:
        """A folder for files of one study, so that none of another is ever taken for them.

        Raises:
            ServerError: it could not be made.
        """
        try:
            os.makedirs(self.folder, exist_ok=True)  # a system may clear temporary files while Slicer runs
            return tempfile.mkdtemp(dir=self.folder)
        except OSError:
            raise ServerError(NO_FILES) from None

    def save(self, volume) -> str:
        """Write a volume of the scene for the server: voxels and geometry, no name and no attributes.

        The volume's own file, and whether it is saved there, stay as they are.

        Raises:
            ServerError: it could not be written.
        """
        path = os.path.join(self.new_folder(), "volume.nrrd")
        storage = slicer.vtkMRMLNRRDStorageNode()
        storage.SetFileName(path)
        storage.SetUseCompression(False)
        if not storage.WriteData(bare_copy(volume)):
            raise ServerError(NO_FILES)
        return path

    def show(self, answers: list, volume) -> None:
        """Marks and charts of answers, instead of earlier ones."""
        self.clear()
        for answer in answers:
            self.plots[answer.task] = AttentionPlot(slicer.mrmlScene, answer)
            self.marks[answer.task] = mark_key_slices(slicer.mrmlScene, answer, volume)

    def show_only(self, task: str, *, views: list) -> None:
        """The marks of one question, as those of three would lie on each other.

        Args:
            task: the question; empty: none.
            views: ids of the slice views that may show them; empty: all.
        """
        for name, node in self.marks.items():
            show_marks(node, visible=name == task, only=views)

    def follow(self, volume) -> None:
        """The volume lies under another transform: the marks too."""
        for node in self.marks.values():
            node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())

    def clear(self) -> None:
        """Take all marks and charts away; those that were removed with the scene are only forgotten."""
        for plot in self.plots.values():
            plot.remove()
        for node in self.marks.values():
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)
        self.plots.clear()
        self.marks.clear()

    def remove_files(self) -> None:
        """Volumes and thumbnails on disk."""
        shutil.rmtree(self.folder, ignore_errors=True)
