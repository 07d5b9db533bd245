"""Images that clients send: each is read once as a study before it is kept, and none is replaced."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from radclear.ct import CTInputError, StudySource, find_studies, read_study
from radclear.ct.listing import is_zip, volume_format
from radclear.errors import RadclearError

UPLOAD_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".zip")


class UploadError(RadclearError):
    """What was uploaded cannot be a study here; `status` is the HTTP status that says so."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class TakenError(UploadError):
    """A study has the id already."""


@dataclass(frozen=True)
class UploadLimits:
    """How much may be uploaded.

    Attributes:
        largest_bytes: of one upload.
        all_bytes: of all uploads together.
        memory_cap_bytes: of a decoded study.
    """

    largest_bytes: int
    all_bytes: int
    memory_cap_bytes: int


class Uploads:
    """The folder of uploaded images, `<id><suffix>`."""

    def __init__(self, folder: str | Path, limits: UploadLimits) -> None:
        """
        Args:
            folder: made where it is not there.
            limits: see `UploadLimits`.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._limits = limits
        self._taking = threading.Lock()

    def clean(self) -> None:
        """Remove what a killed process left; call before anything is taken in, and in one process only."""
        for half in self.folder.glob(".*.part*"):
            half.unlink(missing_ok=True)

    def sources(self) -> list[StudySource]:
        """The uploaded studies."""
        found = []
        for file in sorted(self.folder.iterdir()):
            if not file.name.startswith(".") and (volume_format(file.name) or is_zip(file.name)):
                with suppress(CTInputError):
                    (source,) = find_studies(file)
                    key = file.name.split(".")[0]
                    found.append(replace(source, name=key, key=key))
        return found

    def take(
        self,
        key: str,
        suffix: str,
        stream: BinaryIO,
        *,
        is_taken: Callable[[str], bool],
        announce: Callable[[str], None],
    ) -> None:
        """Take an image in, after reading it once as a study; one at a time.

        Args:
            key: its id.
            suffix: one of `UPLOAD_SUFFIXES`.
            stream: its bytes.
            is_taken: tells whether another study has the id.
            announce: called with the id before it is taken in; where it raises, it is not.

        Raises:
            UploadError: too large, another kind, an id that is taken, or no readable CT study.
        """
        if suffix not in UPLOAD_SUFFIXES:
            raise UploadError(
                f"files ending in {suffix[:16]!r} are not taken; expected {', '.join(UPLOAD_SUFFIXES)}",
                status=415,
            )
        if not self._taking.acquire(blocking=False):
            raise UploadError("another upload is being read; try again in some seconds", status=429)
        half = self.folder / f".{key}-{os.urandom(6).hex()}.part{suffix}"
        try:
            # The folder, too: what was taken in a moment ago may not be in the list of studies yet.
            if is_taken(key) or any(self.folder.glob(f"{key}.*")):
                raise TakenError(
                    "a study of this name is here already, and studies are not replaced; choose another name",
                    status=409,
                )
            self._receive(stream, half)
            try:
                read_study(half, memory_cap_bytes=self._limits.memory_cap_bytes)
            except RadclearError as error:
                raise UploadError(f"this is no study that can be read: {error}", status=422) from error
            announce(key)
            os.replace(half, self.folder / f"{key}{suffix}")
        finally:
            half.unlink(missing_ok=True)
            self._taking.release()

    def _receive(self, stream: BinaryIO, target: Path) -> None:
        present = sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())
        room = min(self._limits.largest_bytes, self._limits.all_bytes - present)
        with open(target, "xb") as file:
            while chunk := stream.read(2**20):
                room -= len(chunk)
                if room < 0:
                    raise UploadError(
                        f"the upload is larger than {self._limits.largest_bytes} bytes, or all uploads "
                        f"together than {self._limits.all_bytes}; ask the administrator to raise upload_mib "
                        "or uploads_gib, or to put the study into the folder of studies",
                        status=413,
                    )
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
