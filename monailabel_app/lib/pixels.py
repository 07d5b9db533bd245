"""Pictures of studies for the results page, from pixels that stay in memory while somebody looks at them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from lib.request_check import RequestError
from lib.volumes import BusyError
from radclear.ct import ABDOMEN, LUNG, Study, StudySource, Window, read_study
from radclear.results.png import encode_png
from radclear.results.thumbnails import slice_pictures

WINDOWS = {window.name: window for window in (ABDOMEN, LUNG, Window("bone", 400, 1800))}
SMALLEST_PX, LARGEST_PX = 64, 1024
_MOST_WAITING = 16


class StudyPixels:
    """Studies with their pixels, the longest unused dropped; one is read at a time."""

    def __init__(
        self,
        ready: Callable[[StudySource], StudySource],
        *,
        most_bytes: int,
        policy: str,
        memory_cap_bytes: int,
    ) -> None:
        """
        Args:
            ready: makes sure that a study's files are there.
            most_bytes: of all pixels kept; the newest study stays whatever its size.
            policy, memory_cap_bytes: see `radclear.ct.read_study`.
        """
        self._ready = ready
        self._most_bytes = most_bytes
        self._policy = policy
        self._memory_cap_bytes = memory_cap_bytes
        self._studies: OrderedDict[tuple[str, str], Study] = OrderedDict()
        self._changing = threading.Lock()
        self._reading = threading.Lock()
        self._turns = threading.BoundedSemaphore(_MOST_WAITING)

    def study(self, source: StudySource) -> Study:
        """A study with its pixels.

        Raises:
            radclear.ct.CTInputError: it cannot be read.
            lib.volumes.BusyError: too many wait for studies to be read.
        """
        place = (source.key, source.fingerprint)
        kept = self._kept(place)
        if kept is not None:
            return kept
        if not self._turns.acquire(blocking=False):
            raise BusyError("several studies are being read for pictures; try again in some seconds")
        try:
            with self._reading:
                return self._kept(place) or self._read(source, place)
        finally:
            self._turns.release()

    def _kept(self, place: tuple[str, str]) -> Study | None:
        with self._changing:
            if place in self._studies:
                self._studies.move_to_end(place)
            return self._studies.get(place)

    def _read(self, source: StudySource, place: tuple[str, str]) -> Study:
        path = self._ready(source).path
        study = read_study(path, policy=self._policy, memory_cap_bytes=self._memory_cap_bytes)
        with self._changing:
            self._studies[place] = study
            total = sum(kept.hu.nbytes for kept in self._studies.values())
            while total > self._most_bytes and len(self._studies) > 1:
                total -= self._studies.popitem(last=False)[1].hu.nbytes
        return study


def slice_png(study: Study, *, number: int, window: str, size: int) -> bytes:
    """One slice as a PNG file, the patient's right at the left.

    Args:
        study: with pixels.
        number: of the slice, from 1 at the foot end.
        window: one of `WINDOWS`.
        size: pixels along the longer side.

    Raises:
        lib.request_check.RequestError: there is no such slice, window or size.
    """
    if window not in WINDOWS:
        raise RequestError(f"window has to be one of {', '.join(WINDOWS)}")
    if not SMALLEST_PX <= size <= LARGEST_PX:
        raise RequestError(f"size has to be {SMALLEST_PX} to {LARGEST_PX} pixels")
    check_slice(study, number)
    (picture,) = slice_pictures(study, number - 1, [WINDOWS[window]], size=size)
    return encode_png(picture.grey)


def check_slice(study: Study, number: int) -> None:
    """Refuse a slice that the study does not have.

    Raises:
        lib.request_check.RequestError: 404.
    """
    if not 1 <= number <= len(study.hu):
        raise RequestError(f"the study has slices 1 to {len(study.hu)}", status=404)
