"""Transfer syntaxes, and the decoders of compressed frames.

imagecodecs decodes all of them and releases the GIL while it does. Before a decoder sees a frame, the size
that the code stream claims is compared with the header, so that a damaged or malicious stream cannot make it
allocate at will.
"""

from __future__ import annotations

import struct

import numpy as np

from radclear.ct.errors import CTInputError

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG})

_JPEG, _JPEG_LS, _JPEG_2000, _RLE = "JPEG8", "JPEGLS", "JPEG2K", "DICOMRLE"
#: Transfer syntax UID -> (name, imagecodecs codec).
COMPRESSED = {
    "1.2.840.10008.1.2.4.50": ("JPEG Baseline (Process 1)", _JPEG),
    "1.2.840.10008.1.2.4.51": ("JPEG Extended (Process 2 and 4)", _JPEG),
    "1.2.840.10008.1.2.4.57": ("JPEG Lossless (Process 14)", _JPEG),
    "1.2.840.10008.1.2.4.70": ("JPEG Lossless (Process 14, Selection Value 1)", _JPEG),
    "1.2.840.10008.1.2.4.80": ("JPEG-LS Lossless", _JPEG_LS),
    "1.2.840.10008.1.2.4.81": ("JPEG-LS Near-lossless", _JPEG_LS),
    "1.2.840.10008.1.2.4.90": ("JPEG 2000 Lossless", _JPEG_2000),
    "1.2.840.10008.1.2.4.91": ("JPEG 2000", _JPEG_2000),
    "1.2.840.10008.1.2.4.201": ("High-Throughput JPEG 2000 Lossless", _JPEG_2000),
    "1.2.840.10008.1.2.4.202": ("High-Throughput JPEG 2000 Lossless (RPCL)", _JPEG_2000),
    "1.2.840.10008.1.2.4.203": ("High-Throughput JPEG 2000", _JPEG_2000),
    "1.2.840.10008.1.2.5": ("RLE Lossless", _RLE),
}


def require_decoder(transfer_syntax: str) -> None:
    """Check that frames in a transfer syntax can be decoded here.

    Raises:
        CTInputError: no decoder exists, or it is not installed; the message names the syntax and the pip
        line.
    """
    if transfer_syntax in NATIVE:
        return
    if transfer_syntax not in COMPRESSED:
        known = ", ".join(sorted({name for name, _ in COMPRESSED.values()}))
        shown = transfer_syntax if transfer_syntax.replace(".", "").isdigit() else "(not a UID)"
        raise CTInputError(
            "unsupported_transfer_syntax",
            f"TransferSyntaxUID (0002,0010) {shown} is not supported; uncompressed and {known} are. Convert "
            "the series, for example with: dcmconv +te IN OUT",
        )
    name, codec = COMPRESSED[transfer_syntax]
    try:
        import imagecodecs

        available = getattr(imagecodecs, codec).available
    except (ImportError, AttributeError):
        available = False
    if not available:
        raise CTInputError(
            "missing_decoder",
            f"the pixels are compressed as {name} ({transfer_syntax}) and no decoder for it is installed. "
            "Install it with: pip install 'imagecodecs>=2025.3.30'",
        )


def decode_frame(
    encoded: bytes, *, transfer_syntax: str, rows: int, columns: int, bits_allocated: int
) -> np.ndarray:
    """Decode one compressed frame.

    Args:
        encoded: the frame's code stream.
        transfer_syntax: UID, one of ``COMPRESSED``.
        rows: height in pixels, as the header says.
        columns: width in pixels, as the header says.
        bits_allocated: 8 or 16.

    Returns:
        (rows, columns) stored values, uint8 or uint16; signed data as its two's complement.

    Raises:
        CTInputError: the stream is damaged, cut short, or of another size than the header says.
    """
    import imagecodecs

    name, codec = COMPRESSED[transfer_syntax]
    try:
        if codec == _RLE:
            decoded = _decode_rle(encoded, rows, columns, bits_allocated)
        else:
            _check_code_stream(encoded, name, codec, rows, columns)
            decoder = {
                _JPEG: imagecodecs.jpeg8_decode,
                _JPEG_LS: imagecodecs.jpegls_decode,
                _JPEG_2000: imagecodecs.jpeg2k_decode,
            }[codec]
            decoded = decoder(encoded)
    except CTInputError:
        raise
    except (
        Exception
    ) as error:  # each codec has its own exception, and DelayedImportError stands for a missing one
        raise _damaged(name, type(error).__name__) from None
    if decoded.shape != (rows, columns) or decoded.dtype.kind not in "iu" or decoded.itemsize > 2:
        raise _damaged(name, f"decoded to {decoded.dtype} {decoded.shape}, expected {rows} x {columns}")
    return decoded.view(f"u{decoded.itemsize}")


def _damaged(name: str, detail: str) -> CTInputError:
    return CTInputError("pixel_data", f"a {name} frame cannot be decoded: {detail}. Export the series again.")


def _check_code_stream(encoded: bytes, name: str, codec: str, rows: int, columns: int) -> None:
    shape = _jpeg_2000_shape(encoded) if codec == _JPEG_2000 else _jpeg_shape(encoded)
    if shape is None:
        raise _damaged(name, "no code stream header")
    if shape != (rows, columns, 1):
        raise _damaged(
            name, f"its stream holds {shape[0]} x {shape[1]} x {shape[2]}, the header says {rows} x {columns}"
        )
    if (
        b"\xff\xd9" not in encoded[-64:]
    ):  # end of image; a decoder would fill up what is missing without a word
        raise _damaged(name, "it is cut short")


def _jpeg_shape(encoded: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) from the frame header of JPEG or JPEG-LS."""
    position = 2
    if encoded[:2] != b"\xff\xd8":
        return None
    while position + 4 <= len(encoded) and encoded[position] == 0xFF:
        marker, length = encoded[position + 1], struct.unpack_from(">H", encoded, position + 2)[0]
        if marker == 0xFF:
            position += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            if position + 10 > len(encoded):
                return None
            return struct.unpack_from(">HHB", encoded, position + 5)
        position += 2 + length
    return None


def _jpeg_2000_shape(encoded: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) from the SIZ marker of a JPEG 2000 code stream, bare or in a JP2 box."""
    start = encoded[:4096].find(b"\xff\x4f\xff\x51")
    if start < 0 or len(encoded) < start + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", encoded, start + 8)
    tile_width, tile_height = struct.unpack_from(">2I", encoded, start + 24)
    components = struct.unpack_from(">H", encoded, start + 40)[0]
    return (bottom - top, right - left, components) if tile_width and tile_height else None


def _decode_rle(encoded: bytes, rows: int, columns: int, bits_allocated: int) -> np.ndarray:
    import imagecodecs

    expected = rows * columns * (bits_allocated // 8)
    segments = struct.unpack_from("<I", encoded)[0] if len(encoded) >= 64 else 0
    if segments != bits_allocated // 8:
        raise _damaged("RLE Lossless", f"{segments} segments, expected {bits_allocated // 8}")
    bounded = np.empty(expected, np.uint8)
    decoded = imagecodecs.dicomrle_decode(encoded, f"<u{bits_allocated // 8}", out=bounded)
    if decoded.nbytes != expected:
        raise _damaged("RLE Lossless", f"{decoded.nbytes} bytes, expected {expected}")
    return bounded.view(f"<u{bits_allocated // 8}").reshape(rows, columns)
