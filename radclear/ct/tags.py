"""DICOM attributes as plain numbers and text, straight from the bytes of the file.

pydicom parses the file; the handful of values needed per slice are converted here, because that is several
times faster than pydicom's value objects and because every malformed value has to end in an error that names
its tag.
"""

from __future__ import annotations

import math
import re

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from radclear.ct.errors import CTInputError

_KEYWORDS = {
    "ImageType": 0x00080008,
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "Modality": 0x00080060,
    "FrameType": 0x00089007,
    "SliceThickness": 0x00180050,
    "GantryDetectorTilt": 0x00181120,
    "CTImageFrameTypeSequence": 0x00189329,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
    "SeriesNumber": 0x00200011,
    "AcquisitionNumber": 0x00200012,
    "InstanceNumber": 0x00200013,
    "ImagePositionPatient": 0x00200032,
    "ImageOrientationPatient": 0x00200037,
    "TemporalPositionIdentifier": 0x00200100,
    "InStackPositionNumber": 0x00209057,
    "FrameContentSequence": 0x00209111,
    "PlanePositionSequence": 0x00209113,
    "PlaneOrientationSequence": 0x00209116,
    "TemporalPositionIndex": 0x00209128,
    "FrameAcquisitionNumber": 0x00209156,
    "SamplesPerPixel": 0x00280002,
    "PhotometricInterpretation": 0x00280004,
    "NumberOfFrames": 0x00280008,
    "Rows": 0x00280010,
    "Columns": 0x00280011,
    "PixelSpacing": 0x00280030,
    "BitsAllocated": 0x00280100,
    "BitsStored": 0x00280101,
    "HighBit": 0x00280102,
    "PixelRepresentation": 0x00280103,
    "PixelPaddingValue": 0x00280120,
    "RescaleIntercept": 0x00281052,
    "RescaleSlope": 0x00281053,
    "RescaleType": 0x00281054,
    "LossyImageCompression": 0x00282110,
    "PixelMeasuresSequence": 0x00289110,
    "PixelValueTransformationSequence": 0x00289145,
    "SharedFunctionalGroupsSequence": 0x52009229,
    "PerFrameFunctionalGroupsSequence": 0x52009230,
    "ExtendedOffsetTable": 0x7FE00001,
}
#: What pydicom is asked to read; everything else is skipped, so no name, id or date is ever held.
WANTED: list[BaseTag] = [Tag(number) for number in _KEYWORDS.values()]

#: Attributes as parsed, by tag number.
Elements = dict[int, RawDataElement | DataElement]

_UID = re.compile(r"[0-9.]{1,64}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def label(keyword: str) -> str:
    """The attribute as people look it up, for example ``"Rows (0028,0010)"``."""
    number = _KEYWORDS[keyword]
    return f"{keyword} ({number >> 16:04X},{number & 0xFFFF:04X})"


def bad(keyword: str, expected: str) -> CTInputError:
    """The error for an attribute whose value cannot be used; the value itself is not repeated."""
    return CTInputError(
        "bad_tag", f"{label(keyword)} cannot be used: expected {expected}. Export the series again."
    )


class Tags:
    """Attributes of one image: of the file, or of one frame with its functional groups laid over the file."""

    __slots__ = ("_layers",)

    def __init__(self, *layers: Elements) -> None:
        """
        Args:
            layers: looked through in this order, the first that has an attribute wins.
        """
        self._layers = layers

    def _value(self, keyword: str) -> tuple[object, bool]:
        tag = _KEYWORDS[keyword]
        for layer in self._layers:
            element = layer.get(tag)
            if element is not None:
                return element.value, getattr(element, "is_little_endian", True)
        return None, True

    def has(self, keyword: str) -> bool:
        """Whether the attribute is present with a value."""
        value, _ = self._value(keyword)
        return value is not None and value != b"" and value != ""

    def text(self, keyword: str) -> str:
        """The value without padding, empty where absent."""
        value, _ = self._value(keyword)
        if value is None:
            return ""
        if isinstance(value, bytes):
            try:
                return value.decode("ascii").strip(" \0")
            except UnicodeDecodeError:
                raise bad(keyword, "plain text") from None
        if isinstance(value, str):
            return value.strip(" \0")
        if isinstance(value, (list, tuple)) or hasattr(value, "__iter__"):
            return "\\".join(str(part) for part in value)
        return str(value)

    def uid(self, keyword: str) -> str:
        """A unique identifier that is safe to name a file.

        Raises:
            CTInputError: it is absent, or anything but 1 to 64 digits and dots.
        """
        text = self.required_text(keyword)
        if not _UID.fullmatch(text):
            raise bad(keyword, "1 to 64 digits and dots")
        return text

    def required_text(self, keyword: str) -> str:
        """The value without padding.

        Raises:
            CTInputError: it is absent or empty.
        """
        text = self.text(keyword)
        if not text:
            raise CTInputError("missing_tag", f"{label(keyword)} is missing. Export the series with it.")
        return text

    def floats(self, keyword: str, count: int, *, bound: float) -> tuple[float, ...] | None:
        """Decimal strings as finite numbers.

        Args:
            keyword: which attribute.
            count: how many values there must be.
            bound: largest magnitude that makes sense.

        Returns:
            The numbers, or None where the attribute is absent.
        """
        text = self.text(keyword)
        if not text:
            return None
        parts = [part.strip(" \0") for part in text.split("\\")]
        if len(parts) == count and all(_NUMBER.fullmatch(part) for part in parts):
            numbers = tuple(float(part) for part in parts)
            if all(math.isfinite(number) and abs(number) <= bound for number in numbers):
                return numbers
        raise bad(keyword, f"{count} number{'s' * (count > 1)} of at most {bound:g}")

    def required_floats(self, keyword: str, count: int, *, bound: float) -> tuple[float, ...]:
        """As :meth:`floats`, but the attribute must be there."""
        self.required_text(keyword)
        return self.floats(keyword, count, bound=bound)

    def integer(self, keyword: str) -> int | None:
        """An integer string or binary integer, None where absent or not a number: used for order and labels
        only."""
        value, little = self._value(keyword)
        if isinstance(value, bytes):
            text = value.decode("latin-1").strip(" \0")
            if re.fullmatch(r"[+-]?\d{1,12}", text):
                return int(text)
            return int.from_bytes(value, "little" if little else "big") if len(value) in (2, 4) else None
        try:
            return int(value)
        except (TypeError, ValueError):
            return None

    def ushort(self, keyword: str) -> int | None:
        """An unsigned 16-bit value, None where absent."""
        value, little = self._value(keyword)
        if value is None or value == b"":
            return None
        if isinstance(value, bytes):
            if len(value) != 2:
                raise bad(keyword, "one unsigned 16-bit number")
            return int.from_bytes(value, "little" if little else "big")
        if isinstance(value, int):
            return value & 0xFFFF
        raise bad(keyword, "one unsigned 16-bit number")

    def required_ushort(self, keyword: str) -> int:
        """As :meth:`ushort`, but the attribute must be there."""
        number = self.ushort(keyword)
        if number is None:
            raise CTInputError("missing_tag", f"{label(keyword)} is missing. Export the series with it.")
        return number

    def items(self, keyword: str) -> list[Elements]:
        """The items of a sequence, empty where absent."""
        tag = Tag(_KEYWORDS[keyword])
        for layer in self._layers:
            element = layer.get(int(tag))
            if element is not None:
                items = Dataset({tag: element})[tag].value or []
                return [{int(inner): item.get_item(inner) for inner in item.keys()} for item in items]
        return []
