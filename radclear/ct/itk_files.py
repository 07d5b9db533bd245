"""NRRD and MHA through ITK, after a look at the header that ITK does not take.

ITK fills in an orientation where a file has none, follows headers that point to other files, and takes what
happens to be in memory for voxels where an MHA does not inflate, and looks at no checksum; all of it is
refused here.
"""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path

import numpy as np

from radclear.ct.errors import CTInputError
from radclear.errors import MissingDependencyError

_HEADER_BYTES = 64 * 1024
_PIECE_BYTES = 2**20
_NAMES = {"nrrd": "NRRD", "mha": "MHA"}


def read_itk(path: Path, kind: str, *, cap_bytes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read one file.

    Args:
        path: the file.
        kind: ``"nrrd"`` or ``"mha"``.
        cap_bytes: largest memory for the stored and the converted volume together.

    Returns:
        (i, j, k) values; (3, 3) LPS mm steps, one column per axis; (3,) LPS mm of the first voxel.

    Raises:
        CTInputError: it is damaged, too large, not three-dimensional, or does not say how it lies in the
        patient.
        MissingDependencyError: ITK is not installed.
    """
    from radclear.ct.volume_files import check_size

    _check_header(path, kind)
    try:
        import itk
    except ImportError:
        raise MissingDependencyError("itk", purpose=f"read {_NAMES[kind]} files", install="itk-io") from None
    try:
        shape, itemsize = _announced(itk, path, kind)
        check_size(shape, itemsize, cap_bytes=cap_bytes, loaded=True)
        _check_voxels(path, kind, math.prod(shape) * itemsize)
        image = itk.imread(str(path))
        values = itk.array_from_image(image).reshape(shape[::-1]).transpose(2, 1, 0)
        direction = np.asarray(itk.array_from_matrix(image.GetDirection()), np.float64)[:3, :3]
        spacing = np.array([float(v) for v in image.GetSpacing()])[:3]
        origin = np.array([float(v) for v in image.GetOrigin()])[:3]
    except CTInputError:
        raise
    except Exception as error:  # ITK reports everything as RuntimeError, with file names in its text
        message = f"the {_NAMES[kind]} file is damaged or unusual ({type(error).__name__})"
        raise CTInputError("unreadable", message) from error
    return values, direction * spacing, origin


def _announced(itk, path: Path, kind: str) -> tuple[tuple[int, int, int], int]:
    """(x, y, z) and bytes per voxel from the header, before anything is decoded."""
    reader = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if reader is None:
        raise CTInputError("unreadable", f"the file is no {_NAMES[kind]}")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    dimensions = [int(reader.GetDimensions(i)) for i in range(reader.GetNumberOfDimensions())]
    n_components = int(reader.GetNumberOfComponents())
    if len(dimensions) < 3 or any(n != 1 for n in dimensions[3:]) or n_components != 1 or min(dimensions) < 1:
        size = " x ".join(map(str, dimensions))
        found = f"{size} with {n_components} values"
        raise CTInputError("bad_tag", f"expected one volume with one value per voxel, found {found}")
    return tuple(dimensions[:3]), int(reader.GetComponentSize())


def _check_header(path: Path, kind: str) -> None:
    """Refuse files without an orientation of their own, and headers that point to other files."""
    try:
        with open(path, "rb") as stream:
            header = stream.read(_HEADER_BYTES)
    except OSError as error:
        message = f"the {_NAMES[kind]} file cannot be opened ({type(error).__name__})"
        raise CTInputError("unreadable", message) from None
    if kind == "nrrd":
        _check_nrrd(header)
    else:
        _check_mha(header)


def _unknown_orientation(detail: str) -> CTInputError:
    return CTInputError(
        "unknown_orientation",
        f"{detail}: left and right cannot be told apart. Convert the study again with its orientation",
    )


def _points_elsewhere(kind: str) -> CTInputError:
    message = f"the {kind} header points to another file; store header and data in one file"
    return CTInputError("unreadable", message)


def _check_nrrd(header: bytes) -> None:
    if not header.startswith(b"NRRD000"):
        raise CTInputError("unreadable", "the file is no NRRD")
    fields = re.split(rb"\r?\n\r?\n", header, maxsplit=1)[0].lower()
    if re.search(rb"^data ?file\s*:", fields, re.MULTILINE):
        raise _points_elsewhere("NRRD")
    compressed = not re.search(rb"^encoding\s*:\s*(raw|txt|text|ascii|hex)\s*$", fields, re.MULTILINE)
    if compressed and re.search(rb"^(byte|line) ?skip\s*:\s*(?!\s|0+\s*$)", fields, re.MULTILINE):
        # to skip from the end ITK inflates all there is, whatever the header promises
        raise CTInputError(
            "unreadable", "the NRRD skips compressed bytes; write it without byte or line skip"
        )
    if not re.search(rb"^space\s*:", fields, re.MULTILINE) or b"space directions:" not in fields:
        raise _unknown_orientation("the NRRD header has no space or no space directions")


def _check_mha(header: bytes) -> None:
    fields, found, rest = header.partition(b"ElementDataFile")
    if not found or b"NDims" not in fields:
        raise CTInputError("unreadable", "the file is no MHA")
    if not re.match(rb"\s*=\s*LOCAL\s*[\r\n]", rest):
        raise _points_elsewhere("MHA")
    if not re.search(rb"^(TransformMatrix|Orientation|Rotation)\s*=", fields, re.MULTILINE):
        raise _unknown_orientation("the MHA header has no TransformMatrix")


def _check_voxels(path: Path, kind: str, n_bytes: int) -> None:
    """Refuse compressed voxels that are damaged or do not inflate to what the header promises."""
    with open(path, "rb") as stream:
        header = stream.read(_HEADER_BYTES)
        end = re.search(rb"\r?\n\r?\n" if kind == "nrrd" else rb"ElementDataFile\s*=\s*LOCAL[^\n]*\n", header)
        compressed = rb"^encoding\s*:\s*gz(ip)?\s*$" if kind == "nrrd" else rb"^CompressedData\s*=\s*[Tt1]"
        if end is None or not re.search(compressed, header[: end.start()], re.MULTILINE):
            return
        stream.seek(end.end())
        engine, n_inflated = zlib.decompressobj(zlib.MAX_WBITS | 32), 0  # 32: zlib or gzip
        while not engine.eof and n_inflated <= n_bytes:
            packed = engine.unconsumed_tail or stream.read(_PIECE_BYTES)
            if not packed:
                break
            n_inflated += len(engine.decompress(packed, _PIECE_BYTES))
    if not engine.eof or n_inflated != n_bytes:
        raise CTInputError(
            "unreadable", f"the {_NAMES[kind]}'s voxels do not inflate to the {n_bytes} bytes of its header"
        )
