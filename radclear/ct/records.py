"""What is known of one image: a slice with its place and encoding, or why it is none."""

from __future__ import annotations

from dataclasses import dataclass

from radclear.ct.codecs import NATIVE
from radclear.ct.errors import CTInputError
from radclear.ct.parse import PixelLocation


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

    @property
    def encapsulated(self) -> bool:
        """Whether the pixels are compressed."""
        return self.pixels.transfer_syntax not in NATIVE


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
