"""Key slices in the scene: marks in the slice views, small pictures, and jumps."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from .answer import Answer
from .geometry import points_ras, ras_to_ijk, slice_middle

IMAGE_ATTRIBUTE = "Radclear.Image"
_COLOR = (1.0, 0.78, 0.2)
_AIR_HU = -1000.0


def volumes(scene) -> list:
    """The CT volumes of the scene: scalar volumes that are no label maps, in the order they came."""
    found = scene.GetNodesByClass("vtkMRMLScalarVolumeNode")
    nodes = [found.GetItemAsObject(i) for i in range(found.GetNumberOfItems())]
    return [node for node in nodes if not node.IsA("vtkMRMLLabelMapVolumeNode") and node.GetImageData()]


def mark_key_slices(scene, answer: Answer):
    """A locked list of points, one in the middle of each key slice."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", f"{answer.title}: key slices")
    node.CreateDefaultDisplayNodes()
    for key in answer.key_slices:
        text = f"#{key.rank} S{key.number} attention {key.attention:.2f}"
        node.AddControlPoint(vtk.vtkVector3d(*slice_middle(answer, key.index)), text)
    node.SetLocked(True)
    display = node.GetDisplayNode()
    display.SetColor(*_COLOR)
    display.SetSelectedColor(*_COLOR)
    display.SetTextScale(3.0)
    display.SetPointLabelsVisibility(True)
    display.SetPropertiesLabelVisibility(False)
    return node


def jump(scene, answer: Answer, index: int) -> None:
    """All slice views to the middle of a slice."""
    mode = slicer.vtkMRMLSliceNode.OffsetJumpSlice
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *slice_middle(answer, index), mode)


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
    ras = points_ras(answer, columns, rows, index)
    ijk = np.c_[ras.reshape(-1, 3), np.ones(columns.size)] @ ras_to_ijk(volume).T
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
