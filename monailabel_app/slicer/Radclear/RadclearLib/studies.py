"""The list of what can be asked about: the volumes of the scene first, then the server's studies."""

from __future__ import annotations

from . import scene as in_scene

SCENE, SERVER = "scene", "server"


class StudyList:
    """Fills the box of studies. What the reader chose stays chosen; nothing else is chosen in its place."""

    def __init__(self, box, *, on_change) -> None:
        """
        Args:
            box: the combo box.
            on_change: called when another study, or none, is chosen.
        """
        self.box = box
        self._on_change = on_change
        box.connect("currentIndexChanged(int)", lambda *_: on_change())

    def fill(self, scene, images: list, *, afresh: bool = False) -> None:
        """List the studies anew.

        Args:
            scene: whose volumes come first.
            images: ids of the server's studies.
            afresh: forget what was chosen; the first study is chosen then.
        """
        afresh = afresh or self.box.count == 0
        chosen = self.box.currentData
        self.box.blockSignals(True)
        self.box.clear()
        for node in in_scene.volumes(scene):
            self.box.addItem(f"In Slicer: {node.GetName()}", f"{SCENE}:{node.GetID()}")
        for image in images:
            self.box.addItem(f"On the server: {image}", f"{SERVER}:{image}")
        self.box.setCurrentIndex(0 if afresh else self.box.findData(chosen))
        self.box.blockSignals(False)
        self._on_change()

    @property
    def chosen(self) -> tuple:
        """Where the chosen study is, `scene` or `server`, and its id there; empty texts where none is."""
        if self.box.currentIndex < 0:
            return "", ""
        where, _, name = str(self.box.currentData).partition(":")
        return where, name
