"""The files of an embedding store: opened for reading, told from damaged and foreign ones, synced."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from radclear.cohort.embedded_study import REQUIRED_ATTRIBUTES, EmbeddingStoreError


def sync(path: Path) -> None:
    """A file, or the names in a folder, on disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def plain(value: Any) -> Any:
    """A numpy scalar as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def damaged(path: Path, error: Exception) -> EmbeddingStoreError:
    """What to raise for a file that cannot be read as HDF5."""
    return EmbeddingStoreError(
        f"{path} is damaged ({str(error).splitlines()[0]}); it is never replaced unasked: delete it and run "
        "radclear embed again"
    )


def open_to_read(path: Path) -> h5py.File:
    """The file, checked to be one of the store's; visible files never change, so reading needs no lock."""
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        if isinstance(error, PermissionError | IsADirectoryError):
            raise EmbeddingStoreError(f"{path} cannot be read: {error}") from error
        raise damaged(path, error) from error
    try:
        lacking = [name for name in ("feats", "coords") if name not in file]
        lacking += [name for name in REQUIRED_ATTRIBUTES if name not in file.attrs]
        if lacking:
            raise EmbeddingStoreError(
                f"{path} was not written by radclear: it lacks {', '.join(lacking)}; use another folder for "
                "the store, or move the file away"
            )
    except (RuntimeError, OSError, KeyError) as error:
        file.close()
        raise damaged(path, error) from error
    except EmbeddingStoreError:
        file.close()
        raise
    return file
