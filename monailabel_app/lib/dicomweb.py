"""Series of a DICOMweb server, such as Orthanc, as studies: fetched when they are first needed.

A client may name a series, or a whole study: then the series is chosen by the rules for folders, from the
archive's metadata.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from dicomweb_client import DICOMwebClient

from lib.archive import UID, ArchiveError
from lib.studies import StudyIndex, UnknownStudyError
from lib.uploads import UploadLimits
from radclear.ct import CTInputError, StudySeries, StudySource, choose_from_metadata, study_key

logger = logging.getLogger(__name__)

_UID = re.compile(UID)
_STUDY, _SERIES, _COUNT = "0020000D", "0020000E", "00201209"


class DicomWebIndex(StudyIndex):
    """Each CT series of the archive, under the hash of its SeriesInstanceUID; the UID finds it, too."""

    def __init__(
        self,
        client: DICOMwebClient,
        cache: str | Path,
        uploads: str | Path,
        *,
        most_bytes: int,
        limits: UploadLimits,
        rescan_s: float = 30.0,
    ) -> None:
        """
        Args:
            client: from `connect`.
            cache: folder for fetched series; the longest unused are removed.
            uploads, limits, rescan_s: see `StudyIndex`.
            most_bytes: of the cache; a series larger than it is refused.
        """
        self._client = client
        self._cache = Path(cache)
        self._cache.mkdir(parents=True, exist_ok=True)
        self._most_bytes = most_bytes
        self._fetching = threading.Lock()
        self._series: dict[str, tuple[str, str]] = {}
        self._counts: dict[str, int] = {}  # images of a series, where the archive tells
        self._choices: dict[str, tuple[tuple[str, ...], StudySeries]] = {}
        self._choosing = threading.Lock()
        super().__init__(None, uploads, limits=limits, rescan_s=rescan_s)

    def clean(self) -> None:
        super().clean()
        for half in self._cache.glob(".*"):
            shutil.rmtree(half, ignore_errors=True)

    def _listed(self) -> list[StudySource]:
        try:
            found = self._client.search_for_series(search_filters={"Modality": "CT"})
        except Exception as error:  # requests, HTTP and JSON errors; the text may hold the address
            raise ArchiveError(f"the archive does not answer a search ({type(error).__name__})") from None
        sources = []
        for entry in found:
            study, series, count = (str(_value(entry, tag)) for tag in (_STUDY, _SERIES, _COUNT))
            if not _UID.fullmatch(study) or not _UID.fullmatch(series):
                logger.warning("a series was left out: its UIDs are not of digits and dots")
                continue
            key = study_key(series)
            self._series[key] = (study, series)
            self._counts[key] = int(count) if count.isascii() and count.isdigit() else 0
            mark = hashlib.sha256(f"{series}\0{count}".encode()).hexdigest()
            sources.append(StudySource(key, self._cache / f"{key}-{mark[:16]}", key, mark))
        return sources

    def find(self, image: str, *, series: str | None = None) -> StudySource:
        """A series of the archive, or an uploaded study; see `StudyIndex.find`.

        Args:
            image: as there; or the StudyInstanceUID (or its hash) of a study, whose series is chosen.
            series: SeriesInstanceUID or id of the series to read, where `image` names a study.

        Raises:
            ArchiveError: the archive does not tell what the study's series are.
            radclear.ct.CTInputError: none of them can be used, or the one asked for is not in the study.
        """
        try:
            return super().find(image)
        except UnknownStudyError:
            sources = self._of_study(image)
            if not sources:
                raise
        if series is None:
            known = self._chosen(sources)
            if known.choice is None:
                raise known.error
            return sources[study_key(known.choice.series_uid)]
        for key in (series, study_key(series)):
            if key in sources:
                return sources[key]
        raise CTInputError(
            "series_not_found",
            f"the series asked for is not in this study, which has {len(sources)} CT series; "
            "GET /datastore/series lists them",
        )

    def series_keys(self, image: str) -> tuple[str, ...]:
        """See `StudyIndex.series_keys`; the archive is not asked about the series it is known to have."""
        try:
            return (super().find(image).key,)
        except UnknownStudyError:
            keys = tuple(sorted(self._of_study(image)))
            if not keys:
                raise
            return keys

    def series_of(self, study: str) -> StudySeries:
        """The CT series of a study, which one is chosen, and why.

        Args:
            study: its StudyInstanceUID or the hash of it.

        Raises:
            UnknownStudyError: there is no such study.
            ArchiveError: the archive does not tell.
        """
        with suppress(UnknownStudyError):  # looks at the archive again where the study is not known yet
            super().find(study)
        sources = self._of_study(study)
        if not sources:
            raise UnknownStudyError("the archive has no study of this StudyInstanceUID with CT series")
        return self._chosen(sources)

    def _of_study(self, study: str) -> dict[str, StudySource]:
        """The series that were found of a study, by key."""
        keys = {key for key, (uid, _) in list(self._series.items()) if study in (uid, study_key(uid))}
        return {key: source for key, source in self._sources.items() if key in keys}

    def _chosen(self, sources: dict[str, StudySource]) -> StudySeries:
        study, _ = self._series[next(iter(sources))]
        marks = tuple(sorted(source.fingerprint for source in sources.values()))
        with self._choosing:
            known = self._choices.get(study)
            if known is None or known[0] != marks:
                known = marks, choose_from_metadata(self._metadata(study, sources))
                self._choices[study] = known
        return known[1]

    def _metadata(self, study: str, sources: dict[str, StudySource]) -> dict[str, list[dict[str, Any]]]:
        try:
            return {
                series: self._client.retrieve_series_metadata(study, series)
                for _, series in (self._series[key] for key in sources)
            }
        except Exception as error:  # requests, HTTP and JSON errors; the text may hold the address
            raise ArchiveError(
                f"the archive does not tell the study's series ({type(error).__name__}); ask again later"
            ) from None

    def archived(self, source: StudySource) -> tuple[str, str] | None:
        """StudyInstanceUID and SeriesInstanceUID; None for an uploaded study."""
        return self._series.get(source.key) if source.path.parent == self._cache else None

    def ready(self, source: StudySource) -> StudySource:
        """Fetch a found series unless it is there.

        Raises:
            ArchiveError: the archive does not answer, or the series is larger than the cache.
        """
        if source.key not in self._series or source.path.parent != self._cache:
            return source
        with self._fetching:
            try:
                os.utime(source.path)
            except FileNotFoundError:
                self._fetch(source)
                self._make_room(source.path)
        return source

    def _fetch(self, source: StudySource) -> None:
        half = self._cache / f".{source.path.name}-{os.urandom(6).hex()}"  # a batch fetches beside the server
        half.mkdir()
        room, number = self._most_bytes, -1
        try:
            for number, instance in enumerate(self._client.iter_series(*self._series[source.key])):
                file = half / f"{number:06d}.dcm"
                instance.save_as(file, write_like_original=False)
                room -= file.stat().st_size
                if room < 0:
                    raise ArchiveError("the series is larger than the cache; raise it: --conf volumes_mib")
            self._check_whole(source, number + 1)
            try:
                half.rename(source.path)
            except OSError:
                if not source.path.is_dir():  # as it is where another process was faster
                    raise
        except ArchiveError:
            raise
        except Exception as error:
            raise ArchiveError(
                f"the archive did not send the whole series ({type(error).__name__}); ask again later"
            ) from error
        finally:
            shutil.rmtree(half, ignore_errors=True)

    def _check_whole(self, source: StudySource, n_images: int) -> None:
        """Whether all images came: a connection that breaks off between two of them ends without an error."""
        expected = self._counts[source.key] or len(
            self._client.search_for_instances(*self._series[source.key])
        )
        if n_images < expected:
            raise ArchiveError(
                f"the archive sent {n_images} of the series' {expected} images; ask again later"
            )

    def _make_room(self, newest: Path) -> None:
        kept = []
        for folder in self._cache.glob("study-*"):
            with suppress(FileNotFoundError):  # another process makes room, too
                size = sum(file.stat().st_size for file in folder.iterdir())
                kept.append((folder.stat().st_mtime, size, folder))
        total = sum(size for _, size, _ in kept)
        for _, size, folder in sorted(kept):
            if total > self._most_bytes and folder != newest:
                total -= size
                shutil.rmtree(folder, ignore_errors=True)


def _value(entry: dict[str, Any], tag: str) -> Any:
    """The first value of an attribute in DICOM JSON; empty where there is none."""
    values = entry.get(tag, {}).get("Value") or [""]
    return values[0]
