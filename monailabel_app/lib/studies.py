"""Which studies there are, under ids that name no patient: an index of a folder, and of uploads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from lib.uploads import UploadLimits, Uploads
from radclear.ct import StudySeries, StudySource, find_studies, study_key
from radclear.ct.listing import list_folder
from radclear.errors import RadclearError

logger = logging.getLogger(__name__)

_OTHERS_FOLDERS = ("labels",)  # where MONAI Label's own local store keeps results beside images
_SOONEST_RESCAN_S = 2.0


class UnknownStudyError(RadclearError):
    """No study has this id."""


class StudyIndex:
    """Studies of a folder and uploaded ones. Originals are only ever read."""

    def __init__(
        self, folder: str | Path | None, uploads: str | Path, *, limits: UploadLimits, rescan_s: float = 30.0
    ) -> None:
        """
        Args:
            folder: with NIfTI, NRRD, MHA or zip files, DICOM folders, or all of them; None: uploads only.
            uploads: folder for uploaded images.
            limits: of uploads.
            rescan_s: seconds after which the folder is looked at again.
        """
        self.folder = None if folder is None else Path(folder).resolve()
        self.uploads = Uploads(uploads, limits)
        self._rescan_s = rescan_s
        self._sources: dict[str, StudySource] = {}
        self._names: frozenset[str] = frozenset()
        self._looked = float("-inf")
        self._scanning = threading.Lock()
        self.rescan()

    def clean(self) -> None:
        """Remove what a killed server left half done; not called in a child, which works beside a server."""
        self.uploads.clean()

    def sources(self) -> dict[str, StudySource]:
        """All studies by id, in a fixed order, as they are at one moment: another look may come any time."""
        self._rescan_soon()
        return dict(sorted(self._sources.items()))

    def ids(self) -> list[str]:
        """Ids of all studies; see `sources`."""
        return list(self.sources())

    def names(self) -> frozenset[str]:
        """Strings that may name patients, for the log to leave out."""
        return self._names

    def find(self, image: str, *, series: str | None = None) -> StudySource:
        """The study of an id.

        Args:
            image: an id; or the name that a study was uploaded under, or that its file or folder has.
            series: which of its series is wanted; only reading a folder asks for it.

        Raises:
            UnknownStudyError: there is none. The message does not repeat what was asked for.
        """
        self._rescan_soon()
        for attempt in (0, 1):
            for key in (image, study_key(image)):
                if source := self._sources.get(key):
                    return source
            if attempt == 0:
                self._look_again()
        raise UnknownStudyError("no study has this id; the datastore lists those there are")

    def series_keys(self, image: str) -> tuple[str, ...]:
        """Ids that an id or name may mean: one; of a study of an archive, those of its series. See `find`."""
        return (self.find(image).key,)

    def series_of(self, study: str) -> StudySeries:
        """The series of a study, where they lie in an archive.

        Raises:
            UnknownStudyError: they do not.
        """
        raise UnknownStudyError(
            "series are listed for studies of a DICOMweb archive; of a folder or a file the series is chosen "
            "in reading, and params.series names another one"
        )

    def rescan(self) -> None:
        """Look at the folders again; a folder that cannot be read keeps the studies known before."""
        with self._scanning:
            self._scan()

    def _scan(self) -> None:
        self._looked = time.monotonic()
        sources = {source.key: source for source in self.uploads.sources()}
        try:
            sources |= {source.key: source for source in self._listed()}
        except RadclearError as error:
            logger.error("the studies cannot be listed, those known before are kept: %s", error)
            sources = self._sources | sources
        self._names = frozenset(self._private(sources.values()))  # first: what is found may be logged
        self._sources = sources

    def _private(self, sources: Iterable[StudySource]) -> Iterator[str]:
        if self.folder is not None:
            yield str(self.folder)
        for source in sources:
            for part in Path(source.name).parts:
                yield from (name for name in (part, part.split(".")[0]) if len(name) > 1)

    def ready(self, source: StudySource) -> StudySource:
        """A found source once its files are there, which those of a folder are."""
        return source

    def archived(self, source: StudySource) -> tuple[str, str] | None:
        """StudyInstanceUID and SeriesInstanceUID of a study that lies in an archive; None for files."""
        return None

    def _rescan_soon(self) -> None:
        if time.monotonic() - self._looked > self._rescan_s and not self._scanning.locked():
            threading.Thread(target=self.rescan, name="rescan", daemon=True).start()

    def _look_again(self) -> None:
        """Wait for the end of a look at the folders that has begun, or look anew; not every moment."""
        asked = time.monotonic()
        with self._scanning:
            if self._looked < asked - _SOONEST_RESCAN_S:
                self._scan()

    def _listed(self) -> list[StudySource]:
        if self.folder is None:
            return []
        found = []
        for source in self._apart():
            inside = source.path.resolve().is_relative_to(self.folder)
            if not inside:
                logger.warning("%s was left out: a link that leads out of the folder of studies", source.key)
            elif Path(source.name).parts[0] not in _OTHERS_FOLDERS or source.path.is_dir():
                found.append(source)
        return found

    def _apart(self) -> list[StudySource]:
        """The studies of the folder. One alone has the name it will have among others: not the folder's."""
        sources = find_studies(self.folder)
        if len(sources) == 1 and sources[0].path == self.folder:
            tops = {Path(file.name).parts[0] for file in list_folder(self.folder)}
            if len(tops) == 1 and (self.folder / next(iter(tops))).is_dir():
                return find_studies(self.folder / tops.pop())
        return sources

    def add(
        self,
        name: str,
        suffix: str,
        stream: BinaryIO,
        *,
        announce: Callable[[str], None] = lambda key: None,
    ) -> str:
        """Take an uploaded image in, after reading it once as a study.

        Args:
            name: what the client calls it; only its hash is kept.
            suffix: one of `lib.uploads.UPLOAD_SUFFIXES`.
            stream: its bytes.
            announce: called with the id before it is taken in; where it raises, it is not.

        Returns:
            The id.

        Raises:
            UploadError: too large, another kind, an id that is taken, or no readable CT study.
        """
        key = study_key(name)
        self.uploads.take(key, suffix, stream, is_taken=lambda key: key in self._sources, announce=announce)
        self.rescan()
        return key
