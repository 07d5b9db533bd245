"""NIfTI-1 and NIfTI-2 in one file, after the published headers (nifti1.h, nifti2.h).

Read here and not through a library, because libraries fill truncated files with zeros, turn "not a number"
into 0 HU, and invent an orientation where both codes are 0. World coordinates of NIfTI are RAS; the study's
are LPS.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from radclear.ct.errors import CTInputError
from radclear.ct.study import Finding

_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
#: qform and sform may differ by this much of a voxel over the whole volume before it is worth a warning.
_FORM_TOLERANCE_VOXELS = 0.5
_MOST_BEHIND = 64 << 20  # bytes behind the last voxel that are read for the sake of the checksum


@dataclass(frozen=True)
class NiftiHeader:
    """What is needed to read the voxels and to place them.

    Attributes:
        shape: (i, j, k).
        dtype: of the stored voxels, with byte order.
        offset: first byte of the voxels.
        slope, intercept: stored to real value.
        steps: (3, 3) LPS mm, column i is the step of stored axis i.
        origin: (3,) LPS mm of the first voxel.
        findings: what was noticed.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float
    steps: np.ndarray
    origin: np.ndarray
    findings: tuple[Finding, ...]


def opened(path: Path) -> BinaryIO:
    """The file, through gzip where it is compressed (whatever its name says)."""
    with open(path, "rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else open(path, "rb")


def read_nifti_header(stream: BinaryIO) -> NiftiHeader:
    """Parse and validate the header.

    Args:
        stream: positioned at the start.

    Raises:
        CTInputError: it is no single-file NIfTI, not one scalar volume, or has no orientation.
    """
    raw = stream.read(540)
    for order in "<>":
        if len(raw) >= 348 and struct.unpack_from(order + "i", raw)[0] == 348 and raw[344:347] == b"n+1":
            return _header(raw, order, _Layout1)
        if len(raw) >= 540 and struct.unpack_from(order + "i", raw)[0] == 540 and raw[4:7] == b"n+2":
            return _header(raw, order, _Layout2)
    raise CTInputError("unreadable", "the file is no single-file NIfTI")


class _Layout1:
    """(offset, format) of the fields in nifti1.h."""

    dim, datatype, pixdim = (40, "8h"), (70, "h"), (76, "8f")
    vox_offset, scale, units, forms = (108, "f"), (112, "2f"), (123, "B"), (252, "2h")
    quatern, srows = (256, "6f"), (280, "12f")


class _Layout2:
    """(offset, format) of the fields in nifti2.h."""

    dim, datatype, pixdim = (16, "8q"), (12, "h"), (104, "8d")
    vox_offset, scale, units, forms = (168, "q"), (176, "2d"), (500, "i"), (344, "2i")
    quatern, srows = (352, "6d"), (400, "12d")


def _header(raw: bytes, order: str, layout: type) -> NiftiHeader:
    def field(place: tuple[int, str]) -> tuple:
        return struct.unpack_from(order + place[1], raw, place[0])

    n_dims, *dims = field(layout.dim)
    if not 3 <= n_dims <= 7 or min(dims[:3]) < 1 or any(n != 1 for n in dims[3:n_dims]):
        size = " x ".join(map(str, dims[: max(1, min(n_dims, 7))]))
        raise CTInputError(
            "bad_tag", f"expected one volume with one value per voxel, found dimensions {size}"
        )
    datatype = field(layout.datatype)[0]
    if datatype not in _TYPES:
        raise CTInputError(
            "bad_tag", f"NIfTI datatype {datatype} is not a grey value; store whole numbers or floats"
        )
    offset = field(layout.vox_offset)[0]
    if not (math.isfinite(offset) and 348 <= offset <= 2**31):
        raise CTInputError("bad_tag", "vox_offset of the NIfTI header is impossible")
    slope, intercept = field(layout.scale)
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        slope, intercept = 1.0, 0.0
    unit_mm = _UNIT_MM.get(field(layout.units)[0] & 7)
    if unit_mm is None:
        raise CTInputError("bad_tag", "xyzt_units of the NIfTI header is no unit of length")
    affine, findings = _affine(field, layout, dims[:3])
    return NiftiHeader(
        shape=tuple(dims[:3]),
        dtype=np.dtype(order + _TYPES[datatype]),
        offset=int(offset),
        slope=float(slope),
        intercept=float(intercept),
        steps=_RAS_TO_LPS @ affine[:, :3] * unit_mm,
        origin=_RAS_TO_LPS @ affine[:, 3] * unit_mm,
        findings=findings,
    )


def _affine(field, layout: type, shape: list[int]) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """(3, 4) voxel to RAS; the sform where there is one, as other readers do."""
    qform_code, sform_code = field(layout.forms)
    sform = np.array(field(layout.srows), np.float64).reshape(3, 4) if sform_code > 0 else None
    qform = _qform(field(layout.quatern), field(layout.pixdim)) if qform_code > 0 else None
    if sform is None and qform is None:
        raise CTInputError(
            "unknown_orientation",
            "qform_code and sform_code of the NIfTI header are 0: left and right cannot be told apart. "
            "Convert the "
            "study again with its orientation",
        )
    if sform is None or qform is None:
        return (qform if sform is None else sform), ()
    corners = np.array([[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])]).T
    apart = float(np.linalg.norm(sform @ corners - qform @ corners, axis=0).max())
    smallest = float(np.linalg.norm(sform[:, :3], axis=0).min())
    if apart <= _FORM_TOLERANCE_VOXELS * smallest:
        return sform, ()
    message = f"sform and qform of the NIfTI header differ by up to {apart:.1f} mm; the sform is used"
    return sform, (Finding("sform_qform_differ", "warning", message),)


def _qform(quatern: tuple, pixdim: tuple) -> np.ndarray:
    """Rotation from the quaternion (nifti1.h, method 2); pixdim[0] is the handedness."""
    b, c, d, *offset = quatern
    a = math.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    scale = np.array(pixdim[1:4], np.float64) * [1, 1, -1 if pixdim[0] < 0 else 1]
    return np.column_stack([rotation * scale, offset])


def voxel_slabs(stream: BinaryIO, header: NiftiHeader) -> Iterator[np.ndarray]:
    """The stored values, one (i, j) slab for each k; nothing more is ever in memory.

    Args:
        stream: the file the header came from.
        header: its header.

    Raises:
        CTInputError: the file ends early.
    """
    slab_bytes = header.shape[0] * header.shape[1] * header.dtype.itemsize
    try:
        stream.seek(header.offset)
        for _ in range(header.shape[2]):
            raw = stream.read(slab_bytes)
            if len(raw) != slab_bytes:
                raise CTInputError("unreadable", "the NIfTI file ends early. Copy it again")
            yield np.frombuffer(raw, header.dtype).reshape(header.shape[1::-1]).T
        if isinstance(stream, gzip.GzipFile):  # at its end the checksum is compared
            _read_on(stream)
    except (EOFError, OSError, zlib.error) as error:
        raise CTInputError("unreadable", f"the NIfTI file is damaged ({type(error).__name__})") from None


def _read_on(stream: BinaryIO) -> None:
    """To the end of the file; what may lie behind the voxels is not for the image."""
    left = _MOST_BEHIND
    while chunk := stream.read(1 << 20):
        left -= len(chunk)
        if left < 0:
            raise CTInputError(
                "unreadable",
                f"the NIfTI file has more than {_MOST_BEHIND >> 20} MiB behind its last voxel; expected its "
                "end. Write it anew",
            )
