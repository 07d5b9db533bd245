"""Watches an answered volume: whether its voxels are still those that were answered, and who shows it."""

from __future__ import annotations

from collections.abc import Callable

import qt
import vtk
from slicer.util import VTKObservationMixin

from .scene import nodes
from .voxels import fingerprint

_SETTLE_MS = 200


class Watch(VTKObservationMixin):
    """One volume at a time."""

    def __init__(self, *, on_change: Callable, on_move: Callable, on_views: Callable) -> None:
        """
        Args:
            on_change: called when the voxels or the geometry are others than those that were answered.
            on_move: called when the volume lies under another transform.
            on_views: called when a slice view may show something else.
        """
        VTKObservationMixin.__init__(self)
        self.volume = None
        self._answered = ""
        self._on_change, self._on_move, self._on_views = on_change, on_move, on_views
        # A module that works on a volume tells of every step; the hash is taken when it is done.
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SETTLE_MS)
        self._timer.connect("timeout()", self.check)

    def begin(self, volume, answered: str) -> None:
        """Watch a volume.

        Args:
            volume: the node.
            answered: its `fingerprint` when it was asked about.
        """
        self.end()
        self.volume, self._answered = volume, answered
        for event in (vtk.vtkCommand.ModifiedEvent, volume.ImageDataModifiedEvent):
            self.addObserver(volume, event, self._modified)
        self.addObserver(volume, volume.TransformModifiedEvent, self._moved)
        self.look_for_views()

    def end(self) -> None:
        """Watch nothing any more."""
        self._timer.stop()
        self.removeObservers()
        self.volume = None

    def look_for_views(self) -> None:
        """Watch the slice views too, those that came since as well."""
        if self.volume is None:
            return
        for node in nodes(self.volume.GetScene(), "vtkMRMLSliceCompositeNode"):
            if not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._viewed):
                self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._viewed)

    def check(self) -> bool:
        """Whether the voxels are those that were answered; tells where they are not."""
        if self.volume is None or fingerprint(self.volume) == self._answered:
            return True
        self._on_change()
        return False

    def _modified(self, caller, event) -> None:
        self._timer.start()

    def _moved(self, caller, event) -> None:
        self._on_move()

    def _viewed(self, caller, event) -> None:
        self._on_views()
