"""A Slicer application without its window: the real scene, logics and slice views of trame-slicer.

What stands in for Slicer here: dialogs (recorded), settings (a dictionary), and reading and writing of files
through the same storage nodes and logics that Slicer's own readers and writers use.
"""

from __future__ import annotations

import os
import sys
import tempfile
import types
from pathlib import Path
from unittest.mock import MagicMock

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import pythonqt
import slicer
import vtk
from trame_slicer.core.slicer_app import SlicerApp
from trame_slicer.views.render_scheduler import NoScheduleRendering
from trame_slicer.views.slice_view import SliceView
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy

VIEWS = (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal"))


class Application:
    """The application, its dialogs and its views."""

    def __init__(self, *, size: tuple[int, int] = (512, 512)) -> None:
        """
        Args:
            size: of a slice view, in pixels.
        """
        self.settings: dict[str, str] = {}
        self.dialogs: list[dict[str, str]] = []
        self.folder = tempfile.mkdtemp(prefix="radclear-slicer-")
        self.qt = pythonqt.install(self.settings)
        self.core = SlicerApp()
        self.scene = self.core.scene
        self.markups = self.core.register_module_logic(slicer.vtkSlicerMarkupsLogic(), logic_name="Markups")
        slicer.mrmlScene = self.scene
        slicer.app = MagicMock()
        slicer.app.processEvents = self.qt.processEvents
        self._modules()
        self._util()
        self._scripted_modules()
        self.views = {}
        for name, orientation in VIEWS:
            view = SliceView(self.scene, self.core.app_logic, name)
            view.set_scheduled_render(NoScheduleRendering())  # a picture is drawn when one is taken
            view.render_window().SetOffScreenRendering(1)
            view.render_window().SetSize(*size)
            view.set_orientation(orientation)
            view.set_mapped_in_layout(True)  # as Slicer's layout does with the views that its window shows
            self.views[name] = view

    def _modules(self) -> None:
        def module(logic):
            return types.SimpleNamespace(logic=lambda: logic)

        slicer.modules = types.SimpleNamespace(
            segmentations=module(self.core.segmentations_logic),
            markups=module(self.markups),
            volumes=module(self.core.volumes_logic),
            plots=module(self._logic(slicer.vtkSlicerPlotsLogic())),
        )

    def _logic(self, logic):
        logic.SetMRMLApplicationLogic(self.core.app_logic)
        logic.SetMRMLScene(self.scene)
        return logic

    def _util(self) -> None:
        util = slicer.util

        def shown(kind):
            def record(text, windowTitle=None, detailedText=None, **_):
                self.dialogs.append({"kind": kind, "text": str(text), "details": str(detailedText or "")})
                return True

            return record

        util.errorDisplay, util.warningDisplay = shown("error"), shown("warning")
        util.infoDisplay, util.confirmOkCancelDisplay = shown("info"), shown("question")
        util.mainWindow = MagicMock()
        util.createProgressDialog = lambda *args, **options: MagicMock()
        util.settingsValue = lambda name, default=None, converter=None: self.settings.get(name, default)
        util.tempDirectory = lambda key="": tempfile.mkdtemp(prefix=key, dir=self.folder)
        util.loadMarkups = self._load_markups
        util.loadVolume = self.load_volume
        util.saveNode = self._save
        util.setSliceViewerLayers = lambda background=None, **_: self.show(background)
        util.loadUI = pythonqt.load_ui
        util.childWidgetVariables = lambda loaded: types.SimpleNamespace(**loaded.named)

    def _load_markups(self, path: str):
        return self.scene.GetNodeByID(self.markups.LoadMarkups(path, Path(path).stem))

    def load_volume(self, path, properties: dict | None = None):
        """As `slicer.util.loadVolume`: through the volumes module's own reader."""
        name = (properties or {}).get("name") or Path(path).name.split(".")[0]
        node = self.core.volumes_logic.AddArchetypeVolume(str(path), name)
        if node is None:
            raise RuntimeError(f"Failed to load node from file: {Path(path).name}")
        self.show(node)
        return node

    def _save(self, node, path: str, properties: dict | None = None) -> bool:
        storage = node.CreateDefaultStorageNode()
        storage.SetFileName(str(path))
        return bool(storage.WriteData(node))

    def _scripted_modules(self) -> None:
        base = types.ModuleType("slicer.ScriptedLoadableModule")

        class Part:
            def __init__(self, parent=None) -> None:
                self.parent = parent

        class Widget(Part):
            def setup(self) -> None:
                self.layout = sys.modules["qt"].QVBoxLayout(self.parent)

            def resourcePath(self, name: str) -> str:
                return str(Path(sys.modules[type(self).__module__].__file__).parent / "Resources" / name)

        class Logic(Part):
            def getParameterNode(self):
                tag = type(self).__name__
                node = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLScriptedModuleNode")
                if node is None:
                    node = slicer.vtkMRMLScriptedModuleNode()
                    node.SetSingletonTag(tag)
                    node = slicer.mrmlScene.AddNode(node)
                return node

        names = {"": Part, "Widget": Widget, "Logic": Logic, "Test": Part}
        for suffix, kind in names.items():
            setattr(
                base, f"ScriptedLoadableModule{suffix}", type(f"ScriptedLoadableModule{suffix}", (kind,), {})
            )
        base.__all__ = [f"ScriptedLoadableModule{suffix}" for suffix in names]
        translated = types.ModuleType("slicer.i18n")
        translated.tr, translated.translate = (lambda text: text), (lambda context, text: text)
        sys.modules.update({base.__name__: base, translated.__name__: translated})

    def show(self, volume, *, window: float = 1500, level: float = -500) -> None:
        """Put a volume into the views' background, as Slicer does with what it loads."""
        display = volume.GetDisplayNode()
        display.AutoWindowLevelOff()
        display.SetWindowLevel(window, level)
        for view in self.views.values():
            view.set_background_volume_id(volume.GetID())
            view.fit_view_to_content()

    def views_show(self):
        """The volume in the background of the axial view."""
        composite = self.scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
        return self.scene.GetNodeByID(composite.GetBackgroundVolumeID() or "")

    def views_of_marks(self) -> list[list[str]]:
        """The views that each list of points is visible in."""
        shown = [
            n.GetDisplayNode() for n in self.nodes("vtkMRMLMarkupsFiducialNode") if n.GetDisplayVisibility()
        ]
        return [
            [
                name
                for name, view in self.views.items()
                if display.IsDisplayableInView(view.get_view_node_id())
            ]
            for display in shown
        ]

    def picture(self, name: str, path: Path | str | None = None) -> np.ndarray:
        """What a slice view shows: (rows, columns, 3), the top row first; written as PNG where asked."""
        window = self.views[name].render_window()
        window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(window)
        grab.ReadFrontBufferOff()
        grab.Update()
        if path is not None:
            writer = vtk.vtkPNGWriter()
            writer.SetFileName(str(path))
            writer.SetInputConnection(grab.GetOutputPort())
            writer.Write()
        image = grab.GetOutput()
        columns, rows, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1].copy()

    def view_matrix(self, name: str) -> list[list[float]]:
        """Pixel of a view (x to the right, y upwards) to RAS millimetres."""
        matrix = self.scene.GetNodeByID(self.views[name].get_view_node_id()).GetXYToRAS()
        return [[matrix.GetElement(i, j) for j in range(4)] for i in range(4)]

    def nodes(self, kind: str) -> list:
        """All nodes of a class."""
        found = self.scene.GetNodesByClass(kind)
        return [found.GetItemAsObject(i) for i in range(found.GetNumberOfItems())]

    def points(self) -> list[dict]:
        """All lists of points: name, and label, RAS position and lock of each point."""
        return [
            {
                "list": node.GetName(),
                "locked": bool(node.GetLocked()),
                "points": [
                    {
                        "label": node.GetNthControlPointLabel(i),
                        "ras": list(node.GetNthControlPointPositionWorld(i)),
                    }
                    for i in range(node.GetNumberOfControlPoints())
                ],
            }
            for node in self.nodes("vtkMRMLMarkupsFiducialNode")
            if node.GetNumberOfControlPoints()
        ]

    def jump(self, ras) -> None:
        """All views to a point, as a double click on a point's row does in Slicer."""
        slicer.vtkMRMLSliceNode.JumpAllSlices(self.scene, *ras, slicer.vtkMRMLSliceNode.CenteredJumpSlice)


def push_volume(image, target=None, name=None, className: str = "vtkMRMLScalarVolumeNode"):
    """`sitkUtils.PushVolumeToSlicer`: a SimpleITK image as a node."""
    import SimpleITK

    node = slicer.mrmlScene.AddNewNodeByClass(className)
    data = vtk.vtkImageData()
    data.SetDimensions(image.GetSize())
    data.GetPointData().SetScalars(
        numpy_to_vtk(np.ascontiguousarray(SimpleITK.GetArrayFromImage(image)).ravel(), deep=True)
    )
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    node.SetAndObserveImageData(data)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.diag([-1, -1, 1, 1]) @ lps))
    return node
