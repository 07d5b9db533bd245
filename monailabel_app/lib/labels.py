"""Stored results of studies: one file and one JSON of what is known about it, per study and tag."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from radclear.errors import RadclearError
from radclear.results import write_atomically

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}")
_SUFFIXES = (".nrrd", ".json")


class LabelError(RadclearError):
    """A stored result is not there, or a name cannot be one."""


def check_tag(tag: str) -> str:
    """The tag, where it can be the name of a folder.

    Raises:
        LabelError: it cannot.
    """
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise LabelError("a tag is 1 to 64 letters, digits, _ or -, and starts with a letter or digit")
    return tag


class LabelFiles:
    """`<folder>/<tag>/<study key><suffix>`, with `<study key>.info.json` beside it, written last."""

    def __init__(self, folder: str | Path) -> None:
        """
        Args:
            folder: made if missing.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def save(self, key: str, file: str | Path, tag: str, info: dict[str, Any]) -> None:
        """Store a result; one of the same study and tag is replaced.

        Args:
            key: of the study.
            file: ending in `.nrrd` or `.json`; copied.
            tag: see `check_tag`.
            info: JSON values.

        Raises:
            LabelError: an impossible name.
        """
        folder, suffix = self.folder / check_tag(tag), Path(file).suffix
        if not _KEY.fullmatch(key) or suffix not in _SUFFIXES:
            raise LabelError(f"a result of a study ends in {' or '.join(_SUFFIXES)}, not {suffix!r}")
        folder.mkdir(exist_ok=True)
        half = folder / f".{key}-{os.urandom(6).hex()}.part"
        try:
            shutil.copyfile(file, half)
            os.replace(half, folder / f"{key}{suffix}")
        finally:
            half.unlink(missing_ok=True)
        known = {**info, "ts": int(time.time()), "name": f"{key}{suffix}"}
        write_atomically(folder / f"{key}.info.json", json.dumps(known, ensure_ascii=False).encode())

    def path(self, key: str, tag: str) -> Path:
        """The file of a study's result.

        Raises:
            LabelError: there is none.
        """
        name = self.info(key, tag).get("name", "")
        file = self.folder / tag / name
        if not name or not file.is_file():
            raise LabelError("no result with this tag is stored for the study")
        return file

    def info(self, key: str, tag: str) -> dict[str, Any]:
        """What was stored beside a result; empty where there is none."""
        if not _KEY.fullmatch(key):
            return {}
        try:
            return json.loads((self.folder / check_tag(tag) / f"{key}.info.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def version(self, key: str, tag: str) -> tuple[int, int] | None:
        """What changes when a result is stored anew, for caches, the newer the larger; None: there is none.

        The time alone does not tell: clocks of file systems stand still for some milliseconds.
        """
        if not _KEY.fullmatch(key):
            return None
        try:
            found = (self.folder / check_tag(tag) / f"{key}.info.json").stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def tags(self, key: str) -> list[str]:
        """Tags under which a study has results."""
        if not _KEY.fullmatch(key):
            return []
        return sorted(file.parent.name for file in self.folder.glob(f"*/{key}.info.json"))

    def keys(self, tag: str) -> set[str]:
        """Studies with a result under a tag."""
        return {
            file.name.removesuffix(".info.json")
            for file in (self.folder / check_tag(tag)).glob("*.info.json")
        }
