"""One DICOM file to validated records; every missing or impossible attribute is named."""

from __future__ import annotations

import re

from radclear.ct.errors import CTInputError
from radclear.ct.parse import NotDicomError, PixelLocation, parse
from radclear.ct.records import Broken, Rejected, SliceHeader
from radclear.ct.sources import ByteSource
from radclear.ct.tags import Elements, Tags, bad, label

_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_ENHANCED = frozenset({"1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"})
_DICOMDIR = "1.2.840.10008.1.3.10"
_NOT_SLICES = ("LOCALIZER", "SCOUT", "TOPOGRAM")
_NOT_IMAGES = ("SCREEN SAVE", "SCREENSHOT", "DOSE_INFO", "DOSE REPORT")
_NOT_HOUNSFIELD = ("OD", "US_OD", "MGML", "PCT", "Z_EFF", "ED", "EDW", "HU_MOD")

LARGEST_POSITION_MM = 1e5
LARGEST_SPACING_MM = 50.0
SMALLEST_SPACING_MM = 0.01


def read_header(source: ByteSource, index: int, *, cap_bytes: int) -> list[SliceHeader] | Rejected | Broken:
    """Read one file's header.

    Args:
        source: the file.
        index: its position in the sorted listing.
        cap_bytes: memory cap, for deflated files.

    Returns:
        Its slices (one, or one per frame), or why it has none.
    """
    try:
        data_set, pixels = parse(source, cap_bytes=cap_bytes)
    except NotDicomError:
        return Rejected("not_dicom")
    except CTInputError as error:
        return Broken(error)
    return judge_header(data_set, pixels, index)


def judge_header(
    data_set: Elements, pixels: PixelLocation | None, index: int
) -> list[SliceHeader] | Rejected | Broken:
    """Read the attributes of one image, from a file or from an archive's metadata.

    Args:
        data_set: the attributes.
        pixels: where the pixels are, None where there are none.
        index: position of the image in its listing.

    Returns:
        Its slices (one, or one per frame), or why it has none.
    """
    series_uid = ""
    try:
        tags = Tags(data_set)
        rejected = _reject(tags)
        if rejected is not None:
            return rejected
        series_uid = tags.uid("SeriesInstanceUID")
        if pixels is None:
            raise CTInputError(
                "pixel_data", "PixelData (7FE0,0010) is missing. Export the series with its pixels."
            )
        if tags.text("SOPClassUID") in _ENHANCED or tags.has("PerFrameFunctionalGroupsSequence"):
            from radclear.ct.multiframe import frame_headers

            return frame_headers(data_set, pixels, index)
        if (tags.integer("NumberOfFrames") or 1) != 1:
            raise bad("NumberOfFrames", "1, as the file has no per-frame positions")
        return [build_header(tags, pixels, index=index)]
    except CTInputError as error:
        return Broken(error, series_uid)
    except Exception as error:  # damaged sequences make pydicom raise anything
        return Broken(
            CTInputError("unreadable", f"a DICOM header is damaged ({type(error).__name__})"), series_uid
        )


def peek_study_uid(source: ByteSource, *, cap_bytes: int) -> str | None:
    """StudyInstanceUID of one file.

    Returns:
        The identifier, empty where it cannot be read, None where the file is not DICOM (or a DICOMDIR).
    """
    try:
        data_set, _ = parse(source, cap_bytes=cap_bytes)
        tags = Tags(data_set)
        return None if tags.text("SOPClassUID") == _DICOMDIR else tags.uid("StudyInstanceUID")
    except NotDicomError:
        return None
    except Exception:  # damaged files make pydicom raise anything; reading the study will say what is wrong
        return ""


def _reject(tags: Tags) -> Rejected | None:
    sop_class = tags.text("SOPClassUID")
    if sop_class == _DICOMDIR:
        return Rejected("not_an_image")
    modality = tags.required_text("Modality").upper()
    if modality != "CT":
        return Rejected(
            "other_modality", modality if re.fullmatch(r"[A-Z0-9_]{2,16}", modality) else "unknown"
        )
    image_type = tags.text("ImageType").upper()
    if any(word in image_type for word in _NOT_SLICES):
        return Rejected("localizer")
    if sop_class not in _ENHANCED | {_CT_IMAGE, ""} or any(word in image_type for word in _NOT_IMAGES):
        return Rejected("not_an_image")
    return None


def build_header(
    tags: Tags,
    pixels: PixelLocation,
    *,
    index: int,
    frame: int = 0,
    n_frames: int = 1,
    instance: int | None = None,
) -> SliceHeader:
    """Validate the attributes of one slice.

    Args:
        tags: attributes of the file, or of a frame laid over the file.
        pixels: where the pixels are.
        index: position of the file in the sorted listing.
        frame: frame number from 0.
        n_frames: frames in the file.
        instance: order label, InstanceNumber when omitted.

    Raises:
        CTInputError: an attribute is missing or impossible; the message names it.
    """
    rows, columns = tags.required_ushort("Rows"), tags.required_ushort("Columns")
    if rows == 0 or columns == 0:
        raise bad("Rows" if rows == 0 else "Columns", "a number above zero")
    samples = tags.ushort("SamplesPerPixel")
    if samples not in (1, None):
        raise CTInputError(
            "not_grey",
            f"{label('SamplesPerPixel')} is {samples}, expected 1: this is a colour picture, not CT",
        )
    _check_photometric(tags)
    spacing = tags.required_floats("PixelSpacing", 2, bound=LARGEST_SPACING_MM)
    if min(spacing) < SMALLEST_SPACING_MM:
        raise bad("PixelSpacing", f"two numbers of at least {SMALLEST_SPACING_MM} mm")
    tilt = tags.floats("GantryDetectorTilt", 1, bound=360)
    bits_allocated, bits_stored, high_bit, signed = _bits(tags)
    slope, intercept = _rescale(tags)
    padding = tags.ushort("PixelPaddingValue")
    if padding is not None and signed and padding >= 0x8000:
        padding -= 0x10000
    return SliceHeader(
        index=index,
        frame=frame,
        n_frames=n_frames,
        series_uid=tags.uid("SeriesInstanceUID"),
        study_uid=tags.uid("StudyInstanceUID"),
        sop_uid=tags.uid("SOPInstanceUID"),
        series_number=tags.integer("SeriesNumber"),
        acquisition=_first(tags, "FrameAcquisitionNumber", "AcquisitionNumber"),
        instance=tags.integer("InstanceNumber") if instance is None else instance,
        temporal=_first(tags, "TemporalPositionIndex", "TemporalPositionIdentifier"),
        image_type=tuple((tags.text("FrameType") or tags.text("ImageType")).upper().split("\\")),
        rows=rows,
        columns=columns,
        orientation=_orientation(tags),
        position_mm=tags.required_floats("ImagePositionPatient", 3, bound=LARGEST_POSITION_MM),
        spacing_mm=spacing,
        thickness_mm=_thickness_mm(tags),
        tilt_degrees=tilt[0] if tilt else None,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=high_bit,
        signed=signed,
        slope=slope,
        intercept=intercept,
        padding=padding,
        lossy=tags.text("LossyImageCompression") == "01",
        pixels=pixels,
    )


def _first(tags: Tags, *keywords: str) -> int | None:
    return next((number for number in map(tags.integer, keywords) if number is not None), None)


def _thickness_mm(tags: Tags) -> float | None:
    """SliceThickness where it is a sensible number; it only matters for a single slice."""
    thickness = tags.floats("SliceThickness", 1, bound=1e4)
    if thickness is None or not SMALLEST_SPACING_MM <= thickness[0] <= LARGEST_SPACING_MM:
        return None
    return thickness[0]


def _check_photometric(tags: Tags) -> None:
    photometric = tags.required_text("PhotometricInterpretation").upper()
    if photometric == "MONOCHROME1":
        raise CTInputError(
            "monochrome1",
            f"{label('PhotometricInterpretation')} is MONOCHROME1, expected MONOCHROME2: in CT it means that "
            "the grey values were inverted by an export and are no longer what the scanner measured",
        )
    if photometric != "MONOCHROME2":
        raise CTInputError(
            "not_grey", f"{label('PhotometricInterpretation')} is not MONOCHROME2: this is not a CT slice"
        )


def _orientation(tags: Tags) -> tuple[float, ...]:
    x1, y1, z1, x2, y2, z2 = tags.required_floats("ImageOrientationPatient", 6, bound=1.01)
    lengths = (x1 * x1 + y1 * y1 + z1 * z1) ** 0.5, (x2 * x2 + y2 * y2 + z2 * z2) ** 0.5
    if max(abs(length - 1) for length in lengths) > 5e-3 or abs(x1 * x2 + y1 * y2 + z1 * z2) > 5e-3:
        raise bad("ImageOrientationPatient", "two unit vectors at right angles")
    row, column = lengths
    return (x1 / row, y1 / row, z1 / row, x2 / column, y2 / column, z2 / column)


def _bits(tags: Tags) -> tuple[int, int, int, bool]:
    allocated, stored = tags.required_ushort("BitsAllocated"), tags.required_ushort("BitsStored")
    if allocated not in (8, 16):
        raise bad("BitsAllocated", "8 or 16")
    if not 1 <= stored <= allocated:
        raise bad("BitsStored", f"1 to {allocated}")
    high = tags.ushort("HighBit")
    high = stored - 1 if high is None else high
    if not stored - 1 <= high < allocated:
        raise bad("HighBit", f"{stored - 1} for {stored} stored bits")
    representation = tags.required_ushort("PixelRepresentation")
    if representation not in (0, 1):
        raise bad("PixelRepresentation", "0 (unsigned) or 1 (signed)")
    return allocated, stored, high, representation == 1


def _rescale(tags: Tags) -> tuple[float, float]:
    intercept = tags.required_floats("RescaleIntercept", 1, bound=1e6)[0]
    slope = tags.required_floats("RescaleSlope", 1, bound=1e3)[0]
    if slope <= 0:
        raise bad("RescaleSlope", "a number above zero")
    if tags.text("RescaleType").upper() in _NOT_HOUNSFIELD:
        raise CTInputError(
            "not_hounsfield", f"{label('RescaleType')} says that the values are not Hounsfield units (HU)"
        )
    return slope, intercept
