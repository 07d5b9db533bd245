"""Where bytes come from: a file on disk, a member of a zip, or the inflated data set of a deflated file."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from radclear.ct.errors import CTInputError


class ByteSource(Protocol):
    """Something that can be opened for reading any number of times."""

    name: str
    size: int

    def open(self) -> BinaryIO:
        """A seekable binary stream positioned at the start; the caller closes it."""
        ...


class _ClampedReader(io.BufferedReader):
    """A file that never allocates more than it holds: a damaged length of 4 GB must not reserve 4 GB."""

    def __init__(self, raw: io.FileIO, size: int) -> None:
        super().__init__(raw)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = max(0, min(size, self._size - self.tell()))
        return super().read(size)


@dataclass(frozen=True)
class FileSource:
    """A regular file.

    Attributes:
        path: where it lies.
        name: path relative to what the user named, with forward slashes.
        size: bytes.
        mtime_ns: last modification, nanoseconds.
    """

    path: Path
    name: str
    size: int
    mtime_ns: int

    def open(self) -> BinaryIO:
        """The file, opened for reading."""
        return _ClampedReader(io.FileIO(self.path), self.size)


@dataclass(frozen=True)
class ZipMember:
    """One checked member of a zip; it is inflated in memory at each opening and never written to disk.

    Attributes:
        archive: the open zip.
        info: its directory entry.
        name: the member's path.
        size: bytes after inflation, as the directory promises and as opening enforces.
    """

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo
    name: str
    size: int

    def open(self) -> BinaryIO:
        """The inflated member.

        Raises:
            CTInputError: it is damaged, or inflates to another size than promised.
        """
        try:
            with self.archive.open(self.info) as stream:
                content = stream.read(self.size + 1)
        except (
            OSError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise CTInputError("unreadable", f"a zip member is damaged: {type(error).__name__}") from None
        if len(content) != self.size:
            raise CTInputError(
                "unsafe_archive", "a zip member inflates to another size than the archive states"
            )
        return io.BytesIO(content)


@dataclass(frozen=True)
class InflatedSource:
    """The data set of a file in the deflated transfer syntax.

    Attributes:
        source: the deflated file.
        name: the same name.
        size: bytes after inflation.
        skip: where the deflated stream starts in the file.
        cap_bytes: refuse to inflate beyond this.
    """

    source: ByteSource
    name: str
    size: int
    skip: int
    cap_bytes: int

    def open(self) -> BinaryIO:
        """The inflated data set, without preamble and meta information."""
        with self.source.open() as stream:
            stream.seek(self.skip)
            return io.BytesIO(inflate(stream.read(), cap_bytes=self.cap_bytes))


def inflate(deflated: bytes, *, cap_bytes: int) -> bytes:
    """Raw deflate stream to bytes.

    Args:
        deflated: the stream, without zlib header as DICOM has it.
        cap_bytes: largest result.

    Raises:
        CTInputError: the stream is damaged, or larger than the cap once inflated.
    """
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = engine.decompress(deflated, cap_bytes)
    except zlib.error:
        raise CTInputError("unreadable", "the deflated data set is damaged") from None
    if engine.unconsumed_tail:
        raise CTInputError("too_large", f"the deflated data set is larger than the cap of {cap_bytes} bytes")
    return inflated
