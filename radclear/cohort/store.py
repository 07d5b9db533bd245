"""A folder of embeddings: one HDF5 file per study, whole or not there.

`feats` (n, d) and `coords` (n, 3) are where other attention-MIL pipelines look for them; provenance is in the
attributes of the file. A file is written under another name, synced and renamed, under a lock per study. Data
carry checksums.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from radclear import __version__
from radclear.cohort.embedded_study import (
    REQUIRED_ATTRIBUTES,
    EmbeddedStudy,
    EmbeddingStoreError,
    as_float32,
    check_arrays,
    encode_attribute,
    instance_coords,
)
from radclear.cohort.locks import FileLock
from radclear.cohort.store_files import damaged, open_to_read, plain, sync

if TYPE_CHECKING:
    import torch

__all__ = ["EmbeddedStudy", "EmbeddingStore", "EmbeddingStoreError", "instance_coords"]


class EmbeddingStore:
    """The embeddings of a cohort in one folder, shared by any number of processes."""

    def __init__(self, folder: str | Path) -> None:
        """
        Args:
            folder: made on the first write.
        """
        self.folder = Path(folder)
        self._claimed: set[str] = set()

    def __reduce__(self) -> tuple:
        return type(self), (self.folder,)  # claims stay with the process that made them

    def path(self, key: str) -> Path:
        """The file of a study, there or not."""
        if not re.fullmatch(r"[A-Za-z0-9_-]+", key):
            raise EmbeddingStoreError(
                f"{key!r} is no key; expected letters, digits, '-' and '_', as radclear.ct.study_key makes "
                "them"
            )
        return self.folder / f"{key}.h5"

    def keys(self) -> list[str]:
        """Keys of the finished studies, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.h5") if not path.name.startswith("."))

    def has(self, key: str, **expected: Any) -> bool:
        """Whether the embeddings of a study are there and are the ones expected.

        Args:
            key: of the study.
            **expected: attributes that must be equal; embeddings that differ in one count as not there.

        Raises:
            EmbeddingStoreError: there is a file of that name which the store did not write, or a damaged one.
        """
        path = self.path(key)
        if not path.exists():
            return False
        with open_to_read(path) as file:
            return all(
                name in file.attrs and plain(file.attrs[name]) == encode_attribute(value)
                for name, value in expected.items()
            )

    def attributes(self, key: str) -> dict[str, Any]:
        """The provenance of a study, without reading its embeddings."""
        with open_to_read(self._existing(key)) as file:
            return {name: plain(value) for name, value in file.attrs.items()}

    def read(self, key: str) -> EmbeddedStudy:
        """The embeddings of a study.

        Raises:
            EmbeddingStoreError: not there, damaged, or not written by the store.
        """
        path = self._existing(key)
        with open_to_read(path) as file:
            try:
                feats, coords = file["feats"][()], file["coords"][()]
            except (OSError, RuntimeError) as error:
                raise damaged(path, error) from error
            attributes = {name: plain(value) for name, value in file.attrs.items()}
        import torch

        return EmbeddedStudy(torch.from_numpy(feats), torch.from_numpy(coords), attributes)

    def write(
        self,
        key: str,
        feats: torch.Tensor | np.ndarray,
        coords: torch.Tensor | np.ndarray,
        attributes: Mapping[str, Any],
    ) -> Path:
        """Store a study; embeddings that the store wrote for it before are replaced.

        Args:
            key: of the study.
            feats: (n, d) finite.
            coords: (n, 3): slice index, window index, z in millimetres.
            attributes: all of `REQUIRED_ATTRIBUTES` (`radclear_version` is filled in), and any others.

        Returns:
            The file.

        Raises:
            EmbeddingStoreError: wrong shapes or attributes, or a file of that name which the store did not
                write.
        """
        feats, coords = as_float32(feats), as_float32(coords)
        check_arrays(key, feats, coords)
        attributes = {"radclear_version": __version__, **attributes}
        if missing := [name for name in REQUIRED_ATTRIBUTES if name not in attributes]:
            raise EmbeddingStoreError(
                f"attributes of {key} lack {', '.join(missing)}; provenance is not optional"
            )
        encoded = {name: encode_attribute(value) for name, value in attributes.items()}
        if key in self._claimed:
            return self._replace(key, feats, coords, encoded)
        with self.claim(key, wait=True):
            return self._replace(key, feats, coords, encoded)

    @contextmanager
    def claim(self, key: str, *, wait: bool = False) -> Iterator[bool]:
        """Hold a study, so that no other process works on it: `with store.claim(key) as claimed:`.

        Args:
            key: of the study.
            wait: until whoever holds it is done or dead; otherwise yields False at once when it is held.

        Yields:
            Whether the study is ours until the block ends. Half-written files of dead processes are gone
            then.
        """
        self.path(key)
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / f".{key}.lock")
        if not lock.acquire(wait=wait):
            yield False
            return
        try:
            self._claimed.add(key)
            self._remove_leftovers(key)
            yield True
        finally:
            self._claimed.discard(key)
            lock.release()

    def clean(self) -> list[str]:
        """Remove what killed processes left behind.

        Returns:
            Keys of the studies that were being worked on when their process died.
        """
        abandoned = []
        for path in sorted(self.folder.glob(".*.lock")):
            key = path.name[1 : -len(".lock")]
            with self.claim(key) as claimed:
                if claimed:
                    abandoned.append(key)
        return abandoned

    def _existing(self, key: str) -> Path:
        path = self.path(key)
        if not path.exists():
            raise EmbeddingStoreError(
                f"{self.folder} holds no embeddings of {key}; make them with: radclear embed"
            )
        return path

    def _remove_leftovers(self, key: str) -> None:
        """Only with the lock held: whoever was writing these is dead."""
        for path in self.folder.glob(f".{key}.*.tmp"):
            path.unlink(missing_ok=True)

    def _replace(
        self, key: str, feats: np.ndarray, coords: np.ndarray, attributes: Mapping[str, Any]
    ) -> Path:
        path = self.path(key)
        if path.exists():
            open_to_read(path).close()  # a file that is not ours is not ours to replace
        temporary = self.folder / f".{key}.{uuid.uuid4().hex}.tmp"
        try:
            with h5py.File(temporary, "x") as file:
                for name, array in (("feats", feats), ("coords", coords)):
                    file.create_dataset(name, data=array, fletcher32=True)
                file.attrs.update(attributes)
            sync(temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync(self.folder)
        return path
