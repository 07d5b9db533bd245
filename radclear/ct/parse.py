"""One DICOM file to the few attributes that matter and the place of its pixels."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.filereader import data_element_generator

from radclear.ct.codecs import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from radclear.ct.errors import CTInputError
from radclear.ct.sources import ByteSource, InflatedSource, inflate
from radclear.ct.tags import WANTED, Elements

_TRANSFER_SYNTAX = 0x00020010
_PIXEL_DATA = 0x7FE00010
_OTHER_PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
_ALL_PIXELS = frozenset({_PIXEL_DATA, *_OTHER_PIXELS})
UNDEFINED_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class PixelLocation:
    """Where the value of PixelData lies.

    Attributes:
        source: what to open.
        offset: first byte of the value in the opened stream.
        length: bytes, or ``UNDEFINED_LENGTH`` for encapsulated frames.
        vr: value representation, empty in implicit VR.
        transfer_syntax: UID.
    """

    source: ByteSource
    offset: int
    length: int
    vr: str
    transfer_syntax: str


class NotDicomError(Exception):
    """The file does not look like DICOM at all."""


class _StopAtPixels:
    """Stops pydicom at the pixels and keeps where they are."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.found: tuple[int, int, int, str] | None = None

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        if tag not in _ALL_PIXELS:
            return False
        self.found = (int(tag), self._stream.tell(), length, vr or "")
        return True


def looks_like_dicom(stream: BinaryIO) -> bool:
    """Whether a stream starts like DICOM: the preamble and ``DICM``, or a bare data set of group 0008."""
    start = stream.read(132)
    stream.seek(0)
    return start[128:132] == b"DICM" or _bare_data_set(start)


def _bare_data_set(start: bytes) -> bool:
    if len(start) < 132:
        return False
    group, element = struct.unpack("<HH", start[:4])
    return group == 8 and element <= 0x60 and (start[4:6].isalpha() or start[6:8] == b"\0\0")


def parse(source: ByteSource, *, cap_bytes: int) -> tuple[Elements, PixelLocation | None]:
    """Read the wanted attributes of one file.

    Args:
        source: the file.
        cap_bytes: largest data set to inflate, for the deflated transfer syntax.

    Returns:
        The attributes named in ``radclear.ct.tags.WANTED`` as far as present, and the place of the pixels, if
        any.

    Raises:
        NotDicomError: the file is something else.
        CTInputError: it is DICOM and damaged beyond reading.
    """
    try:
        with source.open() as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _parse(source, stream, cap_bytes)
    except (NotDicomError, CTInputError):
        raise
    except OSError as error:
        raise CTInputError(
            "unreadable", f"a file cannot be opened: {error.strerror or type(error).__name__}"
        ) from None
    except Exception as error:  # pydicom raises whatever a damaged file leads it to
        raise CTInputError("unreadable", f"a DICOM header is damaged ({type(error).__name__})") from error


def _parse(source: ByteSource, stream: BinaryIO, cap_bytes: int) -> tuple[Elements, PixelLocation | None]:
    start = stream.read(132)
    if start[128:132] == b"DICM":
        syntax = _transfer_syntax(stream)
    elif _bare_data_set(start):
        stream.seek(0)
        syntax = EXPLICIT_LITTLE if start[4:6].isalpha() else IMPLICIT_LITTLE
    else:
        raise NotDicomError
    if syntax == DEFLATED:
        skip = stream.tell()
        inflated = inflate(stream.read(), cap_bytes=cap_bytes)
        source = InflatedSource(source, source.name, len(inflated), skip, cap_bytes)
        with source.open() as inflated_stream:
            return _parse_data_set(source, inflated_stream, syntax)
    return _parse_data_set(source, stream, syntax)


def _transfer_syntax(stream: BinaryIO) -> str:
    """Read the meta information; afterwards the stream stands at the data set."""
    meta = data_element_generator(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    element = {int(element.tag): element for element in meta}.get(_TRANSFER_SYNTAX)
    if element is None or not element.value:
        raise CTInputError(
            "missing_tag", "TransferSyntaxUID (0002,0010) is missing. Export the series with it."
        )
    value = element.value
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value)).strip(" \0")


def _parse_data_set(
    source: ByteSource, stream: BinaryIO, syntax: str
) -> tuple[Elements, PixelLocation | None]:
    stop = _StopAtPixels(stream)
    start = stream.tell()
    explicit = stream.read(6)[4:].isalpha()  # some writers announce explicit and write implicit
    stream.seek(start)
    generator = data_element_generator(
        stream, not explicit, syntax != EXPLICIT_BIG, stop_when=stop, specific_tags=WANTED
    )
    data_set = {int(element.tag): element for element in generator}
    if stop.found is None:
        return data_set, None
    tag, offset, length, vr = stop.found
    if tag != _PIXEL_DATA:
        raise CTInputError(
            "bad_tag", f"pixels are in {_OTHER_PIXELS[tag]}; CT has whole numbers in PixelData (7FE0,0010)"
        )
    return data_set, PixelLocation(source, offset, length, vr, syntax)
