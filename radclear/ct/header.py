"""One image of a series as a validated record: what is needed to place it in the patient and to decode it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from radclear.ct.codecs import NATIVE
from radclear.ct.errors import CTInputError
from radclear.ct.parse import NotDicomError, PixelLocation, parse
from radclear.ct.sources import ByteSource
from radclear.ct.tags import Tags, bad, label

_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_ENHANCED = frozenset({"1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"})
_DICOMDIR = "1.2.840.10008.1.3.10"
_NOT_SLICES = ("LOCALIZER", "SCOUT", "TOPOGRAM")
_NOT_IMAGES = ("SCREEN SAVE", "SCREENSHOT", "DOSE_INFO", "DOSE REPORT")
_NOT_HOUNSFIELD = ("OD", "US_OD", "MGML", "PCT", "Z_EFF", "ED", "EDW", "HU_MOD")

LARGEST_POSITION_MM = 1e5
LARGEST_SPACING_MM = 50.0
SMALLEST_SPACING_MM = 0.01


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One slice: a single-frame file, or one frame of an enhanced CT file.

    Attributes:
        index: position of the file in the sorted listing.
        frame: frame number from 0.
        n_frames: frames in the file.
        series_uid, study_uid, sop_uid: identifiers, validated.
        series_number, acquisition, instance, temporal: order labels, None where absent.
        image_type: ImageType, upper case.
        rows, columns: in pixels.
        orientation: direction of a row (x, y, z), then of a column, LPS.
        position_mm: centre of the first pixel, LPS.
        spacing_mm: (between rows, between columns).
        thickness_mm: nominal slice thickness, None where absent.
        tilt_degrees: what the scanner says about its gantry, None where absent.
        bits_allocated, bits_stored, high_bit, signed: how a pixel is stored.
        slope, intercept: stored value to Hounsfield units.
        padding: stored value that stands for "no pixel", None where absent.
        lossy: the image has been compressed with loss.
        pixels: where the pixels are.
    """

    index: int
    frame: int
    n_frames: int
    series_uid: str
    study_uid: str
    sop_uid: str
    series_number: int | None
    acquisition: int | None
    instance: int | None
    temporal: int | None
    image_type: tuple[str, ...]
    rows: int
    columns: int
    orientation: tuple[float, ...]
    position_mm: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    thickness_mm: float | None
    tilt_degrees: float | None
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    slope: float
    intercept: float
    padding: int | None
    lossy: bool
    pixels: PixelLocation


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file that is no CT slice, for a reason that is in order.

    Attributes:
        reason: ``"not_dicom"``, ``"other_modality"``, ``"localizer"`` or ``"not_an_image"``.
        detail: the modality, where that is the reason.
    """

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that should be a CT slice and cannot be used.

    Attributes:
        error: why.
        series_uid: its series, empty where unknown.
    """

    error: CTInputError
    series_uid: str = ""


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
    except CTInputError:
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
    thickness = tags.floats("SliceThickness", 1, bound=1e4)
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
        thickness_mm=abs(thickness[0]) or None if thickness else None,
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


def encapsulated(header: SliceHeader) -> bool:
    """Whether the pixels are compressed."""
    return header.pixels.transfer_syntax not in NATIVE
