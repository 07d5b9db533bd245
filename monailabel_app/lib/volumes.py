"""Studies as single files for viewers: volume files as they are, DICOM converted and kept for a while."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from radclear.ct import StudySource, read_study
from radclear.ct.listing import volume_format
from radclear.ct.source_grid import SourceGrid
from radclear.errors import RadclearError
from radclear.results import write_nrrd

_MOST_WAITING = 8


class BusyError(RadclearError):
    """As many wait as may; `status` is the HTTP status."""

    status = 429


class VolumeFiles:
    """Converted volumes in a folder of bounded size; the longest unused are removed."""

    def __init__(
        self,
        folder: str | Path,
        *,
        ready: Callable[[StudySource], StudySource],
        most_bytes: int,
        policy: str,
        memory_cap_bytes: int,
    ) -> None:
        """
        Args:
            folder: for the converted volumes.
            ready: makes sure that a study's files are there.
            most_bytes: of the folder; the newest volume stays whatever its size.
            policy, memory_cap_bytes: see `radclear.ct.read_study`.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.most_bytes = most_bytes
        self.policy = policy
        self.memory_cap_bytes = memory_cap_bytes
        self._ready = ready
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_MOST_WAITING)

    def name(self, source: StudySource) -> str:
        """File name of a study for a client: its key, and the suffix of what `path` gives."""
        if source.path.is_file() and volume_format(source.path.name):
            lower = source.path.name.lower()
            return source.key + (".nii.gz" if lower.endswith(".nii.gz") else source.path.suffix.lower())
        return f"{source.key}.nrrd"

    def path(self, source: StudySource) -> Path:
        """A file with the study's volume: the original where it is one file, else NRRD on the canonical grid.

        Raises:
            radclear.ct.CTInputError: the study cannot be read.
            BusyError: too many wait for conversions, which are done one after another.
        """
        if source.path.is_file() and volume_format(source.path.name):
            return source.path
        target = self.folder / f"{source.key}-{source.fingerprint[:16]}.nrrd"
        if not self._turns.acquire(blocking=False):
            raise BusyError("several volumes are being made for viewers; try again in some seconds")
        try:
            with self._lock:
                self._convert(source, target)
        finally:
            self._turns.release()
        return target

    def _convert(self, source: StudySource, target: Path) -> None:
        if target.is_file():
            os.utime(target)
            return
        path = self._ready(source).path
        study = read_study(path, policy=self.policy, memory_cap_bytes=self.memory_cap_bytes)
        write_nrrd(target, study.hu, SourceGrid.canonical(study.affine, study.hu.shape))
        self._make_room(target)

    def _make_room(self, newest: Path) -> None:
        files = sorted(self.folder.glob("study-*.nrrd"), key=lambda file: file.stat().st_mtime)
        total = sum(file.stat().st_size for file in files)
        for file in files:
            if total <= self.most_bytes:
                return
            if file != newest:
                total -= file.stat().st_size
                file.unlink()
