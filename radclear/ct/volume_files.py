"""NIfTI, NRRD and MHA through ITK, after a look at the header that ITK does not take.

ITK fills in an orientation where a file has none and follows headers that point to other files; both are
refused here.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radclear.ct.axes import (
    AXIS_NAMES,
    canonical_affine,
    centre_z_mm,
    nearest_axes,
    oblique_findings,
    stored_view,
)
from radclear.ct.errors import CTInputError
from radclear.ct.geometry import (
    SMALLEST_SIDE_MM,
    SMALLEST_SIDE_PIXELS,
    not_axial,
)
from radclear.ct.header import LARGEST_POSITION_MM, LARGEST_SPACING_MM, SMALLEST_SPACING_MM
from radclear.ct.pixels import AIR_HU, HIGHEST_HU
from radclear.ct.study import Finding
from radclear.errors import MissingDependencyError

_HEADER_BYTES = 64 * 1024
_NAMES = {"nifti": "NIfTI", "nrrd": "NRRD", "mha": "MHA"}


@dataclass(frozen=True)
class Volume:
    """A volume file on the canonical grid, before its values are judged.

    Attributes:
        hu: (z, y, x) int16, rounded and clipped.
        affine: (4, 4) canonical voxel to LPS mm.
        z_mm: (z,) LPS z of each slice's centre voxel.
        lowest, highest: range of the values as stored.
        findings: what was noticed.
    """

    hu: np.ndarray
    affine: np.ndarray
    z_mm: np.ndarray
    lowest: float
    highest: float
    findings: tuple[Finding, ...]


def read_volume(path: Path, kind: str, *, cap_bytes: int) -> Volume:
    """Read a volume file.

    Args:
        path: the file.
        kind: ``"nifti"``, ``"nrrd"`` or ``"mha"``.
        cap_bytes: largest memory for the stored and the converted volume together.

    Raises:
        CTInputError: it is damaged, too large, not three-dimensional, or does not say how it lies in the
        patient.
        MissingDependencyError: ITK is not installed.
    """
    try:
        import itk
    except ImportError:
        raise MissingDependencyError("itk", purpose=f"read {_NAMES[kind]} files", install="itk-io") from None
    _check_header(path, kind)
    try:
        shape, itemsize = _announced(itk, path, kind)
        needed = math.prod(shape) * (itemsize + 2)
        if needed > cap_bytes:
            size = " x ".join(map(str, shape))
            raise CTInputError(
                "too_large",
                f"the volume has {size} voxels and needs {needed} bytes, above the cap of {cap_bytes}",
            )
        image = itk.imread(str(path))
        values = itk.array_view_from_image(image)
        direction = np.asarray(itk.array_from_matrix(image.GetDirection()), np.float64)[:3, :3]
        spacing = np.array([float(v) for v in image.GetSpacing()])[:3]
        origin = np.array([float(v) for v in image.GetOrigin()])[:3]
        return _to_canonical(values.reshape(shape[::-1]), direction * spacing, origin)
    except CTInputError:
        raise
    except Exception as error:  # ITK reports everything as RuntimeError, with file names in its text
        raise CTInputError(
            "unreadable", f"the {_NAMES[kind]} file is damaged or unusual ({type(error).__name__})"
        ) from error


def _announced(itk, path: Path, kind: str) -> tuple[tuple[int, int, int], int]:
    """(x, y, z) and bytes per voxel from the header, before anything is decoded."""
    reader = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if reader is None:
        raise CTInputError("unreadable", f"the file is no {_NAMES[kind]}")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    dimensions = [int(reader.GetDimensions(i)) for i in range(reader.GetNumberOfDimensions())]
    if len(dimensions) < 3 or any(n != 1 for n in dimensions[3:]) or reader.GetNumberOfComponents() != 1:
        size = " x ".join(map(str, dimensions))
        raise CTInputError(
            "bad_tag",
            f"expected one volume with one value per voxel, found {size} with "
            f"{reader.GetNumberOfComponents()} values",
        )
    if min(dimensions) < 1:
        raise CTInputError("bad_tag", "the volume has no voxels")
    return tuple(dimensions[:3]), max(int(reader.GetComponentSize()), 4)


def _to_canonical(values: np.ndarray, steps: np.ndarray, origin: np.ndarray) -> Volume:
    """Args: values (k, j, i) as ITK has them; steps (3, 3) with column i the LPS step of stored axis i."""
    lengths = np.linalg.norm(steps, axis=0)
    if (
        not (np.isfinite(steps).all() and np.isfinite(origin).all())
        or np.abs(origin).max() > LARGEST_POSITION_MM
    ):
        raise CTInputError("bad_tag", "origin, spacing or direction hold impossible numbers")
    if lengths.min() < SMALLEST_SPACING_MM or lengths.max() > LARGEST_SPACING_MM:
        raise CTInputError(
            "bad_tag", f"voxel spacing must lie between {SMALLEST_SPACING_MM} and {LARGEST_SPACING_MM} mm"
        )
    if abs(np.linalg.det(steps / lengths)) < 0.5:
        raise CTInputError("bad_tag", "the axes of the volume are not at right angles")
    by_axis = values.transpose(2, 1, 0)
    axes = nearest_axes(steps)
    shape = tuple(by_axis.shape[axes.stored[k]] for k in (2, 1, 0))
    affine = canonical_affine(steps, origin, by_axis.shape, axes)
    _require_axial(shape, lengths[list(axes.stored)])
    hu = np.empty(shape, np.int16)
    target = stored_view(hu, axes)
    lowest, highest = math.inf, -math.inf
    for k in range(by_axis.shape[2]):
        part = by_axis[:, :, k].astype(np.float64)
        if not np.isfinite(part).all():
            raise CTInputError("not_hounsfield", "the volume holds values that are not finite numbers")
        lowest, highest = min(lowest, float(part.min())), max(highest, float(part.max()))
        target[:, :, k] = np.clip(np.rint(part), AIR_HU, HIGHEST_HU)
    return Volume(
        hu,
        affine,
        centre_z_mm(affine, shape),
        lowest,
        highest,
        tuple(oblique_findings(steps / lengths, axes)),
    )


def _require_axial(shape: tuple[int, int, int], spacing: np.ndarray) -> None:
    """Refuse a handful of sagittal or coronal slices: 12 x 512 pixels are no axial slices."""
    for axis, n in ((0, shape[2]), (1, shape[1])):
        if n < SMALLEST_SIDE_PIXELS or n * spacing[axis] < SMALLEST_SIDE_MM:
            raise not_axial(f"a volume with only {n} {AXIS_NAMES[axis]} slices")


def _check_header(path: Path, kind: str) -> None:
    """Refuse files without an orientation of their own, and headers that point to other files."""
    try:
        if kind == "nifti":
            _check_nifti(_first_bytes(path, gzipped=path.name.lower().endswith(".gz")))
        elif kind == "nrrd":
            _check_nrrd(_first_bytes(path, gzipped=False))
        else:
            _check_mha(_first_bytes(path, gzipped=False))
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise CTInputError(
            "unreadable", f"the {_NAMES[kind]} file is damaged ({type(error).__name__})"
        ) from None


def _first_bytes(path: Path, *, gzipped: bool) -> bytes:
    with open(path, "rb") as stream:
        if gzipped or stream.peek(2)[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=stream) as inflated:
                return inflated.read(_HEADER_BYTES)
        return stream.read(_HEADER_BYTES)


def _unknown_orientation(detail: str) -> CTInputError:
    return CTInputError(
        "unknown_orientation",
        f"{detail}: left and right cannot be told apart. Convert the study again with its orientation",
    )


def _check_nifti(header: bytes) -> None:
    for order in "<>":
        if struct.unpack_from(f"{order}i", header)[0] == 348 and header[344:347] == b"n+1":
            qform, sform = struct.unpack_from(f"{order}2h", header, 252)
            break
        if struct.unpack_from(f"{order}i", header)[0] == 540 and header[4:7] == b"n+2":
            qform, sform = struct.unpack_from(f"{order}2i", header, 344)
            break
    else:
        raise CTInputError("unreadable", "the file is no single-file NIfTI")
    if qform <= 0 and sform <= 0:
        raise _unknown_orientation("qform_code and sform_code of the NIfTI header are 0")


def _check_nrrd(header: bytes) -> None:
    if not header.startswith(b"NRRD000"):
        raise CTInputError("unreadable", "the file is no NRRD")
    fields = re.split(rb"\r?\n\r?\n", header, maxsplit=1)[0].lower()
    if re.search(rb"^data ?file\s*:", fields, re.MULTILINE):
        raise CTInputError(
            "unreadable", "the NRRD header points to another file; store header and data in one file"
        )
    if not re.search(rb"^space\s*:", fields, re.MULTILINE) or b"space directions:" not in fields:
        raise _unknown_orientation("the NRRD header has no space or no space directions")


def _check_mha(header: bytes) -> None:
    fields, found, rest = header.partition(b"ElementDataFile")
    if not found or b"NDims" not in fields:
        raise CTInputError("unreadable", "the file is no MHA")
    if not re.match(rb"\s*=\s*LOCAL\s*[\r\n]", rest):
        raise CTInputError(
            "unreadable", "the MHA header points to another file; store header and data in one file"
        )
    if not re.search(rb"^(TransformMatrix|Orientation|Rotation)\s*=", fields, re.MULTILINE):
        raise _unknown_orientation("the MHA header has no TransformMatrix")
