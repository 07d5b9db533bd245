"""Write a phantom as a DICOM CT series."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from radclear.phantom.disease import stream
from radclear.phantom.torso import Phantom

INSTANCE_ORDERS = ("head_first", "feet_first", "shuffled")
_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
_RESCALE_INTERCEPT = -1024


def phantom_uid(*parts: object) -> str:
    """A UID under 2.25 that depends on nothing but the parts (a UUID made of their SHA-256)."""
    digest = hashlib.sha256("/".join(str(part) for part in ("radclear phantom", *parts)).encode()).digest()
    value = int.from_bytes(digest[:16], "big")
    value = value & ~(0xF << 76) | (8 << 76)  # UUID version 8: vendor specific
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return f"2.25.{value}"


def write_dicom(
    phantom: Phantom,
    folder: str | os.PathLike,
    *,
    instance_order: str = "head_first",
    patient_id: str | None = None,
    series_number: int = 2,
    series_description: str = "Torso portal venous",
) -> list[Path]:
    """Write one CT series, one uncompressed file per slice, with UIDs that depend on the phantom alone.

    Args:
        phantom: to write.
        folder: made if missing.
        instance_order: how InstanceNumber and file names run: "head_first" as most scanners do (so against
            z),
            "feet_first", or "shuffled", which no reader may trust.
        patient_id: ``PHANTOM-<seed>`` when omitted.
        series_number: of the series.
        series_description: of the series.

    Returns:
        The files, in the order of z.

    Raises:
        ValueError: an unknown instance order.
    """
    if instance_order not in INSTANCE_ORDERS:
        raise ValueError(
            f"instance_order is {instance_order!r}; expected one of {', '.join(INSTANCE_ORDERS)}"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    n_slices = phantom.hu.shape[0]
    numbers = np.arange(1, n_slices + 1)
    if instance_order == "head_first":
        numbers = numbers[::-1]
    elif instance_order == "shuffled":
        numbers = stream(phantom.patient.seed, "instance numbers").permutation(numbers)
    key = hashlib.sha256(np.ascontiguousarray(phantom.hu, "<i2").tobytes()).hexdigest()
    common = _common_tags(phantom, key, patient_id, series_number, series_description)
    paths = []
    for k in range(n_slices):
        path = folder / f"IM{int(numbers[k]):04d}.dcm"
        _save(_slice(phantom, common, key, k, int(numbers[k])), path)
        paths.append(path)
    return paths


def _common_tags(
    phantom: Phantom, key: str, patient_id: str | None, series_number: int, series_description: str
) -> Dataset:
    """Tags that all slices of the series share."""
    patient = phantom.patient
    x_axis, y_axis = (phantom.affine[:3, n] / phantom.spacing_mm[n] for n in (0, 1))
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = _CT_IMAGE_STORAGE
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20000101"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "120000"
    ds.AccessionNumber = ""
    ds.Modality = "CT"
    ds.Manufacturer = "radclear phantom"
    ds.ManufacturerModelName = "synthetic torso"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Synthetic CT chest, abdomen, pelvis"
    ds.SeriesDescription = series_description
    ds.PatientName = f"PHANTOM^{patient.seed:04d}"
    ds.PatientID = patient_id or f"PHANTOM-{patient.seed:04d}"
    ds.PatientBirthDate = ""
    ds.PatientSex = patient.sex
    ds.PatientAge = f"{patient.age_years:03d}Y"
    ds.BodyPartExamined = "CHESTABDPELVIS"
    ds.ScanOptions = "HELIX"
    ds.SliceThickness = _decimal(phantom.spacing_mm[2])
    ds.SpacingBetweenSlices = _decimal(phantom.spacing_mm[2])
    ds.KVP = "120"
    ds.ContrastBolusAgent = "APPLIED"
    ds.PatientPosition = "HFS"
    ds.GantryDetectorTilt = "0"
    ds.ConvolutionKernel = "STANDARD"
    ds.StudyInstanceUID = phantom_uid(key, "study")
    ds.SeriesInstanceUID = phantom_uid(key, "series", series_number)
    ds.StudyID = "1"
    ds.SeriesNumber = str(series_number)
    ds.AcquisitionNumber = "1"
    ds.ImageOrientationPatient = [_decimal(v) for v in (*x_axis, *y_axis)]
    ds.FrameOfReferenceUID = phantom_uid(key, "frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = phantom.hu.shape[1:]
    ds.PixelSpacing = [
        _decimal(phantom.spacing_mm[1]),
        _decimal(phantom.spacing_mm[0]),
    ]  # row distance comes first
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(_RESCALE_INTERCEPT), "1", "HU"
    return ds


def _slice(phantom: Phantom, common: Dataset, key: str, k: int, number: int) -> Dataset:
    ds = Dataset()
    ds.update(common)
    position = phantom.affine @ np.array([0, 0, k, 1.0])
    ds.SOPInstanceUID = phantom_uid(key, "slice", k)
    ds.InstanceNumber = str(number)
    ds.ImagePositionPatient = [_decimal(v) for v in position[:3]]
    ds.SliceLocation = _decimal(position[2])
    ds.add_new(
        0x7FE00010, "OW", (phantom.hu[k].astype(np.int32) - _RESCALE_INTERCEPT).astype("<u2").tobytes()
    )
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = phantom_uid("implementation")
    ds.file_meta = meta
    ds.preamble = b"\0" * 128
    return ds


def _save(ds: Dataset, path: Path) -> None:
    if int(pydicom.__version__.split(".")[0]) >= 3:
        ds.save_as(path, enforce_file_format=True)
    else:
        ds.is_little_endian, ds.is_implicit_VR = True, False
        ds.save_as(path, write_like_original=False)


def _decimal(value: float) -> str:
    """A DS value: at most 16 characters."""
    text = f"{float(value):.6f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
