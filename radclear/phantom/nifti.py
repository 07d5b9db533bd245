"""Write a phantom as NIfTI-1, without a NIfTI library.

The header follows the NIfTI-1.1 definition (https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h).
NIfTI's world is RAS, DICOM's LPS: the first two rows of the affine change sign.
"""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np

from radclear.phantom.torso import Phantom

_HEADER = struct.Struct("<i10s18sihcB8h3f4h8f3fhbb4f2i80s24s2h6f12f16s4s")
_INT16, _MM_AND_SECONDS, _SCANNER = 4, 2 | 8, 1


def write_nifti(phantom: Phantom, path: str | os.PathLike) -> Path:
    """Write the Hounsfield units as int16 NIfTI; compressed where the name ends in .nii.gz.

    Args:
        phantom: to write.
        path: ending in .nii or .nii.gz. The file appears under this name only when it is whole.

    Returns:
        The path.

    Raises:
        ValueError: another ending.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path.name}: expected a file name that ends in .nii or .nii.gz")
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ phantom.affine
    n_z, n_y, n_x = phantom.hu.shape
    sx, sy, sz = phantom.spacing_mm
    header = _HEADER.pack(
        348, b"", b"", 0, 0, b"r", 0,
        3, n_x, n_y, n_z, 1, 1, 1, 1,
        0.0, 0.0, 0.0, 0, _INT16, 16, 0,
        1.0, sx, sy, sz, 0.0, 0.0, 0.0, 0.0,
        352.0, 1.0, 0.0, 0, 0, _MM_AND_SECONDS,
        0.0, 0.0, 0.0, 0.0, 0, 0,
        b"synthetic CT", b"",
        _SCANNER, _SCANNER,
        0.0, 0.0, 1.0, *ras[:3, 3],  # quaternion of the half turn about z that takes LPS to RAS
        *ras[:3].reshape(-1),
        b"", b"n+1\0",
    )  # fmt: skip
    content = header + b"\0" * 4 + np.ascontiguousarray(phantom.hu, "<i2").tobytes()
    if path.name.endswith(".gz"):
        content = gzip.compress(content, compresslevel=4, mtime=0)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
    return path
