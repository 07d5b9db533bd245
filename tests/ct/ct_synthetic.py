"""Small CT series written tag by tag, so that tests know every number in them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
ROW, COLUMN, NORMAL = np.eye(3)
#: Identifying values that must never come out again.
SECRETS = ("Doe^Jane", "MRN-4711", "19521103", "ACC-99")

MARKS = {"right": 101, "left": 202, "anterior": 303, "posterior": 404, "head": 505, "foot": 606}


def torso(shape: Sequence[int] = (6, 32, 32), *, seed: int = 0) -> np.ndarray:
    """(z, y, x) int16 HU: a body of soft tissue with two lungs in air, and noise, so that no two slices are
    alike."""
    n_z, n_y, n_x = shape
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : n_y * 1j, -1 : 1 : n_x * 1j]
    hu = np.full(shape, -1000.0)
    hu[:, (y / 0.7) ** 2 + (x / 0.9) ** 2 < 1] = 40
    for side in (-0.4, 0.4):
        hu[:, (y / 0.45) ** 2 + ((x - side) / 0.28) ** 2 < 1] = -800
    return (hu + rng.normal(0, 15, shape)).round().clip(-1024, 3071).astype(np.int16)


def marked_phantom() -> tuple[np.ndarray, tuple[float, float, float], np.ndarray]:
    """A canonical volume with one mark per direction: (z, y, x) HU, spacing (x, y, z) in mm, LPS of the first
    voxel."""
    hu = torso((33, 36, 40))
    middle_z, middle_y, middle_x = (slice(n // 2 - 2, n // 2 + 2) for n in hu.shape)
    ends = {
        "right": (middle_z, middle_y, slice(1, 4)),
        "left": (middle_z, middle_y, slice(-4, -1)),
        "anterior": (middle_z, slice(1, 4), middle_x),
        "posterior": (middle_z, slice(-4, -1), middle_x),
        "foot": (slice(1, 4), middle_y, middle_x),
        "head": (slice(-4, -1), middle_y, middle_x),
    }
    for name, where in ends.items():
        hu[where] = MARKS[name]
    return hu, (2.0, 2.5, 3.0), np.array([-38.5, -52.25, -417.75])


def uid(*parts: object) -> str:
    """A UID that depends on its parts alone."""
    return "1.2.826.0.1." + ".".join(str(part) for part in parts)


def slice_tags(
    stored: np.ndarray,
    *,
    position: Sequence[float],
    number: int,
    row: Sequence[float] = ROW,
    column: Sequence[float] = COLUMN,
    spacing: Sequence[float] = (4.0, 4.0),
    thickness: float = 3.0,
    series: int = 1,
    study: int = 1,
    intercept: float = -1024,
    slope: float = 1,
    bits_stored: int = 16,
) -> Dataset:
    """One CT slice of stored values: everything but the file meta information."""
    tags = Dataset()
    tags.SOPClassUID = CT_IMAGE
    tags.SOPInstanceUID = uid(study, series, number + 1)
    tags.StudyInstanceUID = uid(study)
    tags.SeriesInstanceUID = uid(study, series)
    tags.Modality = "CT"
    tags.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    tags.PatientName, tags.PatientID, tags.PatientBirthDate, tags.AccessionNumber = SECRETS
    tags.SeriesNumber, tags.AcquisitionNumber, tags.InstanceNumber = series, 1, number + 1
    tags.ImagePositionPatient = [float(f"{v:.6f}") for v in position]
    tags.ImageOrientationPatient = [float(f"{v:.9f}") for v in (*row, *column)]
    tags.SliceThickness = thickness
    tags.PixelSpacing = [float(v) for v in spacing]
    tags.SamplesPerPixel, tags.PhotometricInterpretation = 1, "MONOCHROME2"
    tags.Rows, tags.Columns = stored.shape
    tags.BitsAllocated = stored.itemsize * 8
    tags.BitsStored, tags.HighBit = bits_stored, bits_stored - 1
    tags.PixelRepresentation = int(stored.dtype.kind == "i")
    tags.RescaleIntercept, tags.RescaleSlope, tags.RescaleType = intercept, slope, "HU"
    tags.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    tags["PixelData"].VR = "OW"
    return tags


def save(tags: Dataset, path: Path, *, syntax: str = EXPLICIT) -> Path:
    """Write a slice; its PixelData has to be encoded for the transfer syntax already."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = tags.get("SOPClassUID", CT_IMAGE)
    meta.MediaStorageSOPInstanceUID = tags.get("SOPInstanceUID", "1.2")
    meta.TransferSyntaxUID = syntax
    tags.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    if int(pydicom.__version__.split(".")[0]) >= 3:
        pydicom.dcmwrite(
            path,
            tags,
            implicit_vr=syntax == IMPLICIT,
            little_endian=syntax != BIG_ENDIAN,
            enforce_file_format=True,
        )
    else:
        tags.is_implicit_VR, tags.is_little_endian = syntax == IMPLICIT, syntax != BIG_ENDIAN
        pydicom.dcmwrite(path, tags, write_like_original=False)
    return path


def make_slices(hu: np.ndarray, *, z_mm: Sequence[float] | None = None, **options) -> list[Dataset]:
    """One data set per axial slice of (z, y, x) HU, foot to head, numbered from 1."""
    z_mm = [-300.0 + 3.0 * k for k in range(len(hu))] if z_mm is None else z_mm
    intercept = options.setdefault("intercept", -1024)
    return [
        slice_tags((part - intercept).astype(np.int16), position=(-64, -64, z), number=k, **options)
        for k, (part, z) in enumerate(zip(hu, z_mm, strict=True))
    ]


def save_all(slices: Sequence[Dataset], folder: Path, *, syntax: str = EXPLICIT) -> Path:
    """Write slices under names that say nothing about their order."""
    for k, tags in enumerate(slices):
        save(tags, folder / f"i{(k * 7919) % 10007:05d}.dcm", syntax=syntax)
    return folder


def write_series(
    folder: Path,
    hu: np.ndarray | None = None,
    *,
    change: Callable[[list[Dataset]], object] | None = None,
    **options,
) -> Path:
    """Write an axial series.

    Args:
        folder: made if missing.
        hu: (z, y, x); six slices of ``torso`` when omitted.
        change: gets the list of data sets before they are written; may change it in place.
        options: of ``make_slices``.
    """
    slices = make_slices(torso() if hu is None else hu, **options)
    if change is not None:
        change(slices)
    return save_all(slices, folder)


def write_turned_series(
    folder: Path,
    hu: np.ndarray,
    spacing: Sequence[float],
    origin: np.ndarray,
    stored: Sequence[int],
    flips: Sequence[bool],
) -> Path:
    """Write a canonical volume as a DICOM series stored along any axes.

    Args:
        folder: made if missing.
        hu: (z, y, x).
        spacing: along x, y, z in mm.
        origin: LPS of the first canonical voxel.
        stored: which of x, y, z runs along columns, along rows, and from slice to slice.
        flips: whether each of those runs backwards.
    """
    values, steps, start = turned(hu, spacing, origin, stored, flips)
    directions = steps / np.linalg.norm(steps, axis=0)
    slices = [
        slice_tags(
            (values[:, :, k].T.astype(np.int32) + 1024).astype(np.uint16),
            position=start + k * steps[:, 2],
            number=k,
            row=directions[:, 0],
            column=directions[:, 1],
            spacing=(np.linalg.norm(steps[:, 1]), np.linalg.norm(steps[:, 0])),
        )
        for k in range(values.shape[2])
    ]
    return save_all(slices, folder)


def turned(hu, spacing, origin, stored, flips) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values along stored axes, (3, 3) LPS steps as columns, and LPS of the first stored voxel."""
    values = hu.transpose(2, 1, 0).transpose(stored)
    steps = np.diag(spacing)[:, list(stored)].astype(float)
    start = np.array(origin, float)
    for i, flip in enumerate(flips):
        if flip:
            values = np.flip(values, i)
            start = start + steps[:, i] * (values.shape[i] - 1)
            steps[:, i] *= -1
    return values, steps, start


def write_nifti(
    path: Path, values: np.ndarray, steps: np.ndarray, start: np.ndarray, *, sform_code: int = 1
) -> Path:
    """Write (i, j, k) values as NIfTI-1, by the standard's byte offsets.

    Args:
        path: ends in ``.nii``.
        values: int16, float32 or uint8.
        steps: (3, 3) LPS steps as columns.
        start: LPS of the first voxel.
        sform_code: 0 leaves the file without an orientation.
    """
    codes = {"uint8": 2, "int16": 4, "float32": 16, "uint16": 512}
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *values.shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, codes[values.dtype.name], values.itemsize * 8)
    struct.pack_into("<8f", header, 76, 1, *np.linalg.norm(steps, axis=0), 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<2f", header, 112, 1, 0)
    header[123] = 2  # millimetres
    struct.pack_into("<2h", header, 252, 0, sform_code)
    to_ras = np.diag([-1.0, -1.0, 1.0])
    rows = np.column_stack([to_ras @ steps, to_ras @ start])
    struct.pack_into("<12f", header, 280, *rows.ravel())
    header[344:348] = b"n+1\0"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(header) + values.astype(values.dtype.newbyteorder("<")).tobytes(order="F"))
    return path


def codes(study) -> set[str]:
    """Codes of a study's findings."""
    return {finding.code for finding in study.findings}


def finding(study, code: str):
    """The one finding with a code."""
    (found,) = [f for f in study.findings if f.code == code]
    return found


ENHANCED, LEGACY = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"
_MOVED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope")
_MOVED += ("RescaleIntercept", "RescaleType", "InstanceNumber")


def item(**tags) -> Dataset:
    made = Dataset()
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return made


def enhanced(slices: list[Dataset], *, sop_class: str = ENHANCED) -> Dataset:
    """All slices in one data set, in the order given."""
    first = slices[0]
    whole = Dataset()
    for element in first:
        if element.keyword not in (*_MOVED, "PixelData"):
            whole.add(element)
    whole.SOPClassUID = sop_class
    whole.NumberOfFrames = len(slices)
    spacing = item(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)
    plane = item(ImageOrientationPatient=first.ImageOrientationPatient)
    kind = item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    whole.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[spacing], PlaneOrientationSequence=[plane], CTImageFrameTypeSequence=[kind]
        )
    ]
    whole.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=tags.ImagePositionPatient)],
            FrameContentSequence=[item(InStackPositionNumber=k + 1, FrameAcquisitionNumber=1)],
            PixelValueTransformationSequence=[
                item(RescaleSlope=tags.RescaleSlope, RescaleIntercept=tags.RescaleIntercept, RescaleType="HU")
            ],
        )
        for k, tags in enumerate(slices)
    ]
    whole.PixelData = b"".join(tags.PixelData for tags in slices)
    whole["PixelData"].VR = "OW"
    return whole
