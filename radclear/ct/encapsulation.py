"""Frames of encapsulated PixelData: items and fragments after DICOM PS3.5 A.4."""

from __future__ import annotations

import struct
from typing import BinaryIO

from radclear.ct.errors import CTInputError

_ITEM = 0xE000FFFE
_SEQUENCE_END = 0xE0DDFFFE


def frame_ranges(stream: BinaryIO, *, offset: int, size: int, n_frames: int) -> list[list[tuple[int, int]]]:
    """Find the fragments of every frame without reading them.

    Args:
        stream: the opened file.
        offset: first byte after the header of PixelData.
        size: size of the whole stream.
        n_frames: how many frames the header promises.

    Returns:
        For each frame its fragments as (offset, length).

    Raises:
        CTInputError: the items are damaged or cannot be assigned to frames.
    """
    items = _items(stream, offset, size)
    if not items:
        raise CTInputError("pixel_data", "PixelData (7FE0,0010) is encapsulated and holds no item")
    (table_offset, table_length), fragments = items[0], items[1:]
    if n_frames == 1 and fragments:
        return [fragments]
    if len(fragments) == n_frames:
        return [[fragment] for fragment in fragments]
    if table_length == 4 * n_frames and len(fragments) > n_frames:
        stream.seek(table_offset)
        table = struct.unpack(f"<{n_frames}I", stream.read(table_length))
        first = fragments[0][0] - 8
        starts = {start - 8 - first: index for index, (start, _) in enumerate(fragments)}
        if all(entry in starts for entry in table) and list(table) == sorted(set(table)):
            bounds = [starts[entry] for entry in table] + [len(fragments)]
            return [fragments[begin:end] for begin, end in zip(bounds[:-1], bounds[1:], strict=True)]
    raise CTInputError(
        "pixel_data",
        f"{len(fragments)} fragments cannot be assigned to {n_frames} frames. Export the series again.",
    )


def _items(stream: BinaryIO, offset: int, size: int) -> list[tuple[int, int]]:
    items: list[tuple[int, int]] = []
    while True:
        stream.seek(offset)
        head = stream.read(8)
        if len(head) < 8:
            raise CTInputError("pixel_data", "PixelData (7FE0,0010) is cut short")
        tag, length = struct.unpack("<II", head)
        if tag == _SEQUENCE_END:
            return items
        if tag != _ITEM or offset + 8 + length > size:
            raise CTInputError("pixel_data", "PixelData (7FE0,0010) is cut short or its items are damaged")
        items.append((offset + 8, length))
        offset += 8 + length
