"""Key slices in the scene: marks in the slice views, small pictures, jumps, and which views show a volume."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from .answer import Answer
from .geometry import grid_to_ijk, slice_middle, slice_middle_in_world
from .voxels import is_ct_like

_COLOR = (1.0, 0.78, 0.2)
_AIR_HU = -1000.0


def nodes(scene, kind: str) -> list:
    """All nodes of a class, in the order they came."""
    found = scene.GetNodesByClass(kind)
    return [found.GetItemAsObject(i) for i in range(found.GetNumberOfItems())]


def volumes(scene) -> list:
    """The volumes of the scene that can be asked about."""
    return [node for node in nodes(scene, "vtkMRMLScalarVolumeNode") if is_ct_like(node)]


def views(scene, volume) -> tuple:
    """Which slice views of the window show a volume: ids of those that do, and of those that show another."""
    by_name = {node.GetLayoutName(): node for node in nodes(scene, "vtkMRMLSliceNode")}
    showing, others = [], []
    for composite in nodes(scene, "vtkMRMLSliceCompositeNode"):
        view, background = by_name.get(composite.GetLayoutName()), composite.GetBackgroundVolumeID()
        if view is None or not view.IsMappedInLayout() or not background:
            continue
        (showing if background == volume.GetID() else others).append(view.GetID())
    return showing, others


def mark_key_slices(scene, answer: Answer, volume):
    """A locked list of points, one in the middle of each key slice; it lies under the volume's transform.

    It is not saved with the scene, where it might be found again beside other voxels.
    """
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", f"{answer.title}: key slices")
    node.CreateDefaultDisplayNodes()
    for key in answer.key_slices:
        text = f"#{key.rank} S{key.number} attention {key.attention:.2f}"
        node.AddControlPoint(vtk.vtkVector3d(*slice_middle(answer, key.index)), text)
    node.SetLocked(True)
    node.SetSaveWithScene(False)
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    display = node.GetDisplayNode()
    display.SetColor(*_COLOR)
    display.SetSelectedColor(*_COLOR)
    display.SetTextScale(3.0)
    display.SetPointLabelsVisibility(True)
    display.SetPropertiesLabelVisibility(False)
    return node


def show_marks(node, *, visible: bool, only: list) -> None:
    """Show marks or not.

    Args:
        node: the list of points.
        visible: whether any view shows them.
        only: ids of the views that may; empty: all.
    """
    display = node.GetDisplayNode()
    display.RemoveAllViewNodeIDs()
    for view in only:
        display.AddViewNodeID(view)
    node.SetDisplayVisibility(visible)


def jump(scene, answer: Answer, volume, index: int) -> None:
    """All slice views to the middle of a slice, wherever the volume's transforms put it."""
    mode = slicer.vtkMRMLSliceNode.OffsetJumpSlice
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *slice_middle_in_world(answer, volume, index), mode)


def thumbnail(answer: Answer, volume, index: int, *, size: int = 96, window=(-1350.0, 150.0)) -> np.ndarray:
    """A small picture of a slice, read out of the volume in the scene.

    Args:
        answer: whose slice it is.
        volume: the node.
        index: of the slice.
        size: pixels of the longer side.
        window: HU that are black and white.

    Returns:
        (rows, columns) uint8: the patient's right on the left, front at the top.
    """
    n_columns, n_rows, _ = answer.shape
    scale = max(n_columns, n_rows) / size
    columns, rows = np.meshgrid(np.arange(0, n_columns, scale), np.arange(0, n_rows, scale))
    grid = np.stack([columns, rows, np.full_like(columns, index), np.ones_like(columns)], axis=-1)
    ijk = grid.reshape(-1, 4) @ grid_to_ijk(answer, volume).T
    i, j, k = np.round(ijk[:, :3]).astype(int).T
    hu = slicer.util.arrayFromVolume(volume)
    inside = (i >= 0) & (j >= 0) & (k >= 0) & (k < hu.shape[0]) & (j < hu.shape[1]) & (i < hu.shape[2])
    values = np.full(columns.size, _AIR_HU)
    values[inside] = hu[k[inside], j[inside], i[inside]]
    low, high = window
    return (np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8).reshape(columns.shape)


def write_png(picture: np.ndarray, path: str) -> str:
    """Write a grey picture as PNG."""
    image = vtk.vtkImageData()
    image.SetDimensions(picture.shape[1], picture.shape[0], 1)
    values = numpy_support.numpy_to_vtk(np.ascontiguousarray(picture[::-1]).ravel(), deep=True)
    image.GetPointData().SetScalars(values)
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(path)
    writer.SetInputData(image)
    writer.Write()
    return path
