"""Series decoded once into plain arrays, so that a single slice is read in less than a millisecond."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from radclear.ct import CTInputError, StudySource, find_studies, read_study
from radclear.pretraining.distributed import barrier, rank, world_size
from radclear.pretraining.errors import PretrainingDataError

logger = logging.getLogger(__name__)
_OPEN_ARRAYS = 64
_FAILED = "failed"


class DecodedSeries:
    """A folder of decoded series: `<key>.npy` (z, y, x) int16 HU and `<key>.json`, written last.

    The key has the study's place and fingerprint in it, so that a changed series is decoded anew and several
    cohorts and runs can share the folder, also at the same time: files appear whole, and whoever comes second
    with the same series writes the same. It holds 2 bytes per voxel and may be deleted at any time.
    """

    def __init__(self, folder: str | Path) -> None:
        """
        Args:
            folder: made when the first series is decoded.
        """
        self.folder = Path(folder)
        self._keys: dict[Path, str] = {}
        self._spacing: dict[Path, tuple[float, float]] = {}
        self._arrays: OrderedDict[Path, np.ndarray] = OrderedDict()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_arrays": OrderedDict()}  # open files do not travel to worker processes

    def prepare(self, sources: Sequence[StudySource]) -> dict[Path, int]:
        """Decode what is not decoded yet, shared among the processes; path → number of slices.

        A series that cannot be read is left out of the answer, with the reason in the log.

        Raises:
            PretrainingDataError: not one can be read.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # Shared by place in the list, which all processes agree on, and not by what is left to do, which
        # changes under their eyes.
        own = [s for s in sources[rank() :: world_size()] if not self._file(s, ".json").is_file()]
        if own:
            logger.info("decoding %d of %d series into %s", len(own), len(sources), self.folder.resolve())
        for number, source in enumerate(own, start=1):
            if not self._file(source, ".json").is_file():  # another run may have been here meanwhile
                self._decode(source)
            if number % 50 == 0:
                logger.info("%d series decoded by process %d", number, rank())
        barrier()
        depths: dict[Path, int] = {}
        for source in sources:
            note = json.loads(self._file(source, ".json").read_text(encoding="utf-8"))
            if _FAILED in note:
                logger.warning("%s is left out: %s", source.key, note[_FAILED])
                continue
            self._keys[source.path] = self._file(source, "").name
            self._spacing[source.path] = (note["spacing_mm"][0], note["spacing_mm"][1])
            depths[source.path] = note["slices"]
        if sources and not depths:
            raise PretrainingDataError(f"not one of {len(sources)} series could be read; see the log")
        return depths

    def prepare_paths(self, paths: Mapping[str, Path]) -> dict[str, tuple[Path, int]]:
        """Decode the series at each path; name → path to ask `slice` for, and number of slices.

        Names whose series cannot be read are left out, with the reason in the log.

        Raises:
            PretrainingDataError: a path is not one study, or not one can be read.
        """
        found = {}
        for name, path in paths.items():
            try:
                sources = find_studies(path)
            except CTInputError as error:
                raise PretrainingDataError(f"{path}: {error}") from error
            if len(sources) != 1:
                raise PretrainingDataError(f"{path} holds {len(sources)} studies; expected one series")
            found[name] = sources[0]
        depths = self.prepare(list(found.values()))
        return {name: (s.path, depths[s.path]) for name, s in found.items() if s.path in depths}

    def slice(self, path: Path, index: int) -> tuple[np.ndarray, tuple[float, float]]:
        """(rows, columns) int16 HU of one slice, and the distance of its rows and columns in mm."""
        array = self._arrays.get(path)
        if array is None:
            array = np.load(self.folder / f"{self._keys[path]}.npy", mmap_mode="r")
            self._arrays[path] = array
            if len(self._arrays) > _OPEN_ARRAYS:
                self._arrays.popitem(last=False)
        return np.array(array[index]), self._spacing[path]

    def _file(self, source: StudySource, suffix: str) -> Path:
        return self.folder / f"{source.key}-{source.fingerprint[:24]}{suffix}"

    def _decode(self, source: StudySource) -> None:
        try:
            study = read_study(source.path)
        except CTInputError as error:
            note = {_FAILED: " ".join(str(error).split())}
        else:
            spacing = study.spacing_mm
            note = {"slices": len(study.hu), "spacing_mm": [spacing[1], spacing[0]]}
            temporary = self._temporary(source)
            with temporary.open("wb") as file:
                np.save(file, np.ascontiguousarray(study.hu, dtype=np.int16))
            os.replace(temporary, self._file(source, ".npy"))
        temporary = self._temporary(source)
        temporary.write_text(json.dumps(note), encoding="utf-8")
        os.replace(temporary, self._file(source, ".json"))

    def _temporary(self, source: StudySource) -> Path:
        return self.folder / f".{source.key}.{uuid.uuid4().hex}.tmp"
