"""A server with one phantom for the Slicer clients, and how slice views are compared with the phantom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from app_server import Server, launch, wait_until_up

from radclear.ct import study_key
from radclear.phantom import Phantom, make_phantom, write_dicom, write_nifti

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
WINDOW, LEVEL = 1500.0, -500.0


@dataclass
class SlicerServer:
    """A running server, its phantom, and another phantom that is on disk only."""

    server: Server
    image: str
    phantom: Phantom
    volume: Path
    volume_phantom: Phantom


def mirrored(phantom: Phantom) -> Phantom:
    """The same body, stored from left to right and from head to feet."""
    affine = phantom.affine.copy()
    last = np.array(phantom.hu.shape[::-1]) - 1
    for axis in (0, 2):
        affine[:3, 3] += affine[:3, axis] * last[axis]
        affine[:3, axis] *= -1
    return replace(phantom, hu=np.ascontiguousarray(phantom.hu[::-1, :, ::-1]), affine=affine)


@pytest.fixture(scope="module")
def slicer_server(tmp_path_factory) -> SlicerServer:
    folder = tmp_path_factory.mktemp("slicer")
    studies = folder / "studies"
    phantom, other = make_phantom(11, n_slices=32, size=96), make_phantom(3, n_slices=24, size=64)
    write_dicom(phantom, studies / "phantom-a")
    volume = folder / "my-volume.nii.gz"
    write_nifti(mirrored(other), volume)
    server = wait_until_up(launch(folder, studies))
    yield SlicerServer(server, study_key("phantom-a"), phantom, volume, other)
    server.stop()


def expected_grey(phantom: Phantom, to_ras, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What a slice view should show of a phantom, from the phantom itself.

    Args:
        phantom: the body, in the canonical order.
        to_ras: 4 × 4 from pixels of the view (x to the right, y upwards) to RAS.
        shape: (rows, columns) of the picture.

    Returns:
        Grey in [0, 255], and whether the pixel is inside the volume.
    """
    rows, columns = np.indices(shape)
    pixels = np.stack([columns, shape[0] - 1 - rows, np.zeros(shape), np.ones(shape)], axis=-1)
    to_voxel = np.linalg.inv(LPS_TO_RAS @ phantom.affine) @ np.asarray(to_ras)
    x, y, z = np.round(pixels @ to_voxel.T)[..., :3].astype(int).transpose(2, 0, 1)
    depth, height, width = phantom.hu.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (z >= 0) & (z < depth)
    hu = phantom.hu[z.clip(0, depth - 1), y.clip(0, height - 1), x.clip(0, width - 1)].astype(float)
    return np.clip((hu - LEVEL) / WINDOW + 0.5, 0, 1) * 255, inside


def likeness(picture: np.ndarray, grey: np.ndarray, inside: np.ndarray) -> float:
    """Correlation of a rendered view with what it should show."""
    return float(np.corrcoef(picture[..., :3].mean(axis=-1)[inside], grey[inside])[0, 1])


def ras_of(geometry: dict, columns, rows, index) -> np.ndarray:
    """RAS positions on the grid of a result document."""
    columns, rows, index = np.broadcast_arrays(columns, rows, index)
    grid = np.stack([columns, rows, index, np.ones(columns.shape)], axis=-1)
    return (grid @ (LPS_TO_RAS @ np.asarray(geometry["affine_lps"])).T)[..., :3]
