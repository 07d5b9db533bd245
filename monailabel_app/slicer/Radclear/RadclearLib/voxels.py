"""What a volume of the scene holds: whether it can be asked about, and a hash by which a change is seen."""

from __future__ import annotations

import hashlib

import numpy as np
import slicer
import vtk


def geometry(volume) -> np.ndarray:
    """4 × 4 from voxels to RAS millimetres, without the transforms that the volume lies under."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def fingerprint(volume) -> str:
    """sha256 of a volume's voxels and geometry; empty where it holds none any more."""
    image = volume.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        return ""
    voxels = slicer.util.arrayFromVolume(volume)
    digest = hashlib.sha256(f"{voxels.dtype} {voxels.shape}".encode())
    digest.update(geometry(volume).tobytes())
    digest.update(np.ascontiguousarray(voxels))
    return digest.hexdigest()


def is_ct_like(node) -> bool:
    """Whether a node is a volume of one number per voxel: no label map, no colours, no directions."""
    if node.IsA("vtkMRMLLabelMapVolumeNode") or node.IsA("vtkMRMLTensorVolumeNode"):
        return False
    image = node.GetImageData()
    return image is not None and image.GetNumberOfScalarComponents() == 1 and image.GetNumberOfPoints() > 0


def has_no_place(volume) -> bool:
    """Whether a volume lies as one lies of which nobody knows where in the patient it is."""
    return bool(np.array_equal(np.abs(geometry(volume)), np.eye(4)))


def bare_copy(volume):
    """A node with the voxels and the geometry of a volume and nothing else, outside the scene.

    A file that Slicer writes of the volume itself holds its attributes too, such as DICOM UIDs.
    """
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    bare = slicer.vtkMRMLScalarVolumeNode()
    bare.SetAndObserveImageData(volume.GetImageData())
    bare.SetIJKToRASMatrix(matrix)
    return bare
