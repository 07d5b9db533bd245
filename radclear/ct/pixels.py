"""Stored pixels to Hounsfield units, once, straight into the canonical int16 volume.

HU = stored value × RescaleSlope + RescaleIntercept, per slice, rounded to the nearest whole number (ties to
even), clipped to [-1024, 32767]: scanners fill what they did not measure with values such as -2000 or -3024,
which is air here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np

from radclear.ct.codecs import EXPLICIT_BIG, decode_frame, require_decoder
from radclear.ct.encapsulation import frame_ranges
from radclear.ct.errors import CTInputError
from radclear.ct.parse import UNDEFINED_LENGTH
from radclear.ct.records import SliceHeader
from radclear.ct.sources import ByteSource

AIR_HU = -1024
HIGHEST_HU = 32767
#: A padding value that lands above this cannot be tissue and is air.
DENSEST_HU = 3071
_DECODER_THREADS = 4


def check_decodable(headers: Sequence[SliceHeader]) -> None:
    """Check before decoding that every transfer syntax can be decoded and every native frame has its size.

    Raises:
        CTInputError: naming the transfer syntax, or the sizes.
    """
    for syntax in {header.pixels.transfer_syntax for header in headers}:
        require_decoder(syntax)
    for header in headers:
        pixels = header.pixels
        if header.encapsulated:
            if pixels.length != UNDEFINED_LENGTH:
                raise CTInputError(
                    "pixel_data", "PixelData (7FE0,0010) of a compressed file is not encapsulated"
                )
            continue
        expected = _frame_bytes(header) * header.n_frames
        if pixels.length not in (expected, expected + expected % 2):
            raise CTInputError(
                "pixel_data",
                f"PixelData (7FE0,0010) has {pixels.length} bytes, expected {expected} for {header.n_frames} "
                f"frames of "
                f"{header.rows} x {header.columns} pixels of {header.bits_allocated} bits. Export the series "
                f"again",
            )
        if pixels.offset + expected > pixels.source.size:
            raise _cut_short(header)


def _cut_short(header: SliceHeader) -> CTInputError:
    number = header.instance
    which = "an image without InstanceNumber" if number is None else f"the image with InstanceNumber {number}"
    return CTInputError(
        "pixel_data",
        f"PixelData (7FE0,0010) of {which} is cut short: its file ends early. Copy the series again",
    )


def _frame_bytes(header: SliceHeader) -> int:
    return header.rows * header.columns * header.bits_allocated // 8


def fill(volume: np.ndarray, headers: Sequence[SliceHeader]) -> None:
    """Decode slices into a volume.

    Args:
        volume: int16 view of shape (column, row, slice), so that ``volume[:, :, k].T`` is slice k as stored.
        headers: one per slice.

    Raises:
        CTInputError: pixels are damaged or cannot be decoded.
    """
    files: dict[int, list[int]] = {}
    for k, header in enumerate(headers):
        files.setdefault(header.index, []).append(k)
    if any(header.encapsulated for header in headers) and len(files) > 1:
        with ThreadPoolExecutor(min(_DECODER_THREADS, os.cpu_count() or 1)) as pool:
            for _ in pool.map(lambda slices: _fill_file(volume, headers, slices, None), files.values()):
                pass
        return
    buffer = bytearray()
    for slices in files.values():
        buffer = _fill_file(volume, headers, slices, buffer)


def read_stored_bytes(header: SliceHeader) -> bytes:
    """The undecoded bytes of one slice, to tell whether two slices are the same."""
    with _opened(header.pixels.source) as stream:
        if header.encapsulated:
            return next(_encoded_frames(stream, header, [header.frame]))
        stream.seek(header.pixels.offset + header.frame * _frame_bytes(header))
        return stream.read(_frame_bytes(header))


def _opened(source: ByteSource) -> BinaryIO:
    try:
        return source.open()
    except OSError as error:
        raise CTInputError("unreadable", f"a file cannot be opened: {error.strerror}") from None


def _fill_file(
    volume: np.ndarray, headers: Sequence[SliceHeader], slices: Sequence[int], buffer: bytearray | None
) -> bytearray | None:
    first = headers[slices[0]]
    with _opened(first.pixels.source) as stream:
        if first.encapsulated:
            frames = [headers[k].frame for k in slices]
            for k, encoded in zip(slices, _encoded_frames(stream, first, frames), strict=True):
                stored = decode_frame(
                    encoded,
                    transfer_syntax=first.pixels.transfer_syntax,
                    rows=first.rows,
                    columns=first.columns,
                    bits_allocated=first.bits_allocated,
                )
                to_hounsfield(stored, headers[k], out=volume[:, :, k].T)
            return buffer
        size = _frame_bytes(first)
        buffer = buffer if buffer is not None and len(buffer) == size else bytearray(size)
        for k in slices:
            header = headers[k]
            stream.seek(header.pixels.offset + header.frame * size)
            if stream.readinto(buffer) != size:
                raise _cut_short(header)
            to_hounsfield(_native(buffer, header), header, out=volume[:, :, k].T)
        return buffer


def _native(buffer: bytearray, header: SliceHeader) -> np.ndarray:
    """Uncompressed bytes as (rows, columns) unsigned values in this machine's byte order; may share the
    buffer."""
    big = header.pixels.transfer_syntax == EXPLICIT_BIG
    if header.bits_allocated == 8:
        stored = np.frombuffer(buffer, np.uint8)
        if big and header.pixels.vr == "OW":  # bytes travel as 16-bit words
            if len(stored) % 2:
                raise CTInputError(
                    "pixel_data", "big-endian 8-bit words with an odd number of pixels are not supported"
                )
            stored = stored.view(np.uint16).byteswap().view(np.uint8)
    else:
        stored = np.frombuffer(buffer, ">u2" if big else "<u2").astype(np.uint16, copy=False)
    return stored.reshape(header.rows, header.columns)


def _encoded_frames(stream: BinaryIO, header: SliceHeader, frames: Sequence[int]) -> Iterator[bytes]:
    pixels = header.pixels
    ranges = frame_ranges(stream, offset=pixels.offset, size=pixels.source.size, n_frames=header.n_frames)
    for frame in frames:
        parts = []
        for offset, length in ranges[frame]:
            stream.seek(offset)
            parts.append(stream.read(length))
        yield b"".join(parts)


def to_hounsfield(stored: np.ndarray, header: SliceHeader, *, out: np.ndarray) -> None:
    """Write one slice in Hounsfield units.

    Args:
        stored: (rows, columns) uint8 or uint16, two's complement where the header says signed; may be
            overwritten.
        header: how it is stored and rescaled.
        out: (rows, columns) int16 view to write to.
    """
    stored = stored if stored.flags.writeable else stored.copy()
    values = _unpack(stored, header)
    slope, intercept = header.slope, header.intercept
    whole = slope == 1 and float(intercept).is_integer() and -32768 <= intercept <= 32767
    if whole and values.itemsize == 2 and _harmless_padding(header):
        _add_intercept(values, int(intercept), out)
        return
    hu = values.astype(np.float64) * slope + intercept
    if header.padding is not None:
        padding_hu = header.padding * slope + intercept
        if not AIR_HU <= padding_hu <= DENSEST_HU:
            hu[_raw(stored, header) == header.padding] = AIR_HU
    out[...] = np.clip(np.rint(hu), AIR_HU, HIGHEST_HU)


def _add_intercept(values: np.ndarray, intercept: int, out: np.ndarray) -> None:
    """Clip in stored values, then add; the sum fits into int16, so arithmetic modulo 2^16 gives it
    exactly."""
    lowest, highest = int(values.min()), int(values.max())
    if lowest + intercept < AIR_HU:
        np.maximum(values, values.dtype.type(AIR_HU - intercept), out=values)
    if highest + intercept > HIGHEST_HU:
        np.minimum(values, values.dtype.type(HIGHEST_HU - intercept), out=values)
    np.add(values.view(np.int16), np.int16(intercept), out=out)


def _harmless_padding(header: SliceHeader) -> bool:
    """Whether padding needs no handling of its own: absent, tissue-like (left alone), or below air
    (clipped)."""
    if header.padding is None:
        return True
    lowest = -(1 << header.bits_stored - 1) if header.signed else 0
    in_range = lowest <= header.padding < lowest + (1 << header.bits_stored)
    return in_range and header.padding * header.slope + header.intercept <= DENSEST_HU


def _raw(stored: np.ndarray, header: SliceHeader) -> np.ndarray:
    return stored.view(f"i{stored.itemsize}") if header.signed else stored


def _unpack(stored: np.ndarray, header: SliceHeader) -> np.ndarray:
    """Leave only the stored bits, moved to the bottom and sign-extended."""
    bits = stored.itemsize * 8
    kind = f"i{stored.itemsize}" if header.signed else f"u{stored.itemsize}"
    stored_bits = min(header.bits_stored, bits)
    high_bit = min(header.high_bit, bits - 1)
    values = stored.view(kind)
    if stored_bits == bits:
        return values
    if not header.signed and high_bit == stored_bits - 1:
        return np.bitwise_and(values, values.dtype.type((1 << stored_bits) - 1))
    values = np.left_shift(values, bits - 1 - high_bit)
    return np.right_shift(values, bits - stored_bits, out=values)
