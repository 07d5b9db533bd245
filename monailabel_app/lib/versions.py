"""Versions of the heads: the bundled one, and those trained from verdicts, each in a folder of its own.

`<folder>/<task>/<version>` is a head bundle, there as a whole or not at all; `<folder>/<task>/current.json`
names the one that answers and the sha256 of its weights. Without that file the bundled head answers.
"""

from __future__ import annotations

import json
import re
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lib.request_check import RequestError
from radclear.bundle import Head, load_head
from radclear.errors import RadclearError
from radclear.results import write_atomically

BUNDLED = "bundled"
REPORT = "reader_report.json"
_VERSION = re.compile(r"\d{8}T\d{9}Z(-\d+)?")
_PARTIAL = ".partial"


class VersionError(RadclearError):
    """A version of a head that should answer cannot be used."""


class HeadVersions:
    """Where trained heads are, and which of them answers."""

    def __init__(self, folder: str | Path, *, device: Any) -> None:
        """
        Args:
            folder: made if missing.
            device: where heads go.
        """
        self.folder = Path(folder)
        self.device = device
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def start(self, task: str) -> tuple[str, Path]:
        """A new version and the folder it is made in, which does not count yet."""
        now = datetime.now(timezone.utc)
        moment = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z"
        name, number = moment, 1
        while (self.folder / task / name).exists():
            number += 1
            name = f"{moment}-{number}"
        return name, self.folder / task / f"{name}{_PARTIAL}"

    def keep(self, task: str, version: str) -> None:
        """Let a version that is whole count."""
        (self.folder / task / f"{version}{_PARTIAL}").rename(self.folder / task / version)

    def discard(self, task: str, version: str) -> None:
        """Remove a version that did not become whole."""
        shutil.rmtree(self.folder / task / f"{version}{_PARTIAL}", ignore_errors=True)

    def clean(self) -> list[str]:
        """Remove versions whose training was killed; returns what they were called."""
        left = sorted(self.folder.glob(f"*/*{_PARTIAL}"))
        for path in left:
            shutil.rmtree(path)
        return [f"{path.parent.name} {path.name.removesuffix(_PARTIAL)}" for path in left]

    def listed(self, task: str) -> list[str]:
        """Versions of a task, oldest first, without the bundled one."""
        found = (path.name for path in (self.folder / task).glob("*") if path.is_dir())
        return sorted(name for name in found if _VERSION.fullmatch(name))

    def path(self, task: str, version: str) -> Path:
        """Folder of a trained version.

        Raises:
            RequestError: 404; there is none of this name.
        """
        if version not in self.listed(task):
            raise RequestError(
                f"no version of this name; expected {BUNDLED} or one that GET /radclear/models/{task} lists",
                status=404,
            )
        return self.folder / task / version

    def report(self, task: str, version: str) -> dict[str, Any]:
        """What was found when the version was trained; empty where nothing was."""
        return self._report(self.path(task, version))

    def report_of_new(self, task: str, version: str) -> dict[str, Any]:
        """The same of a version that does not count yet."""
        return self._report(self.folder / task / f"{version}{_PARTIAL}")

    def _report(self, folder: Path) -> dict[str, Any]:
        file = folder / REPORT
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def current(self, task: str) -> str:
        """The version that answers."""
        chosen = self._chosen(task)
        return chosen["version"] if chosen else BUNDLED

    def _chosen(self, task: str) -> dict[str, str] | None:
        try:
            return json.loads(self._current_file(task).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def _current_file(self, task: str) -> Path:
        return self.folder / task / "current.json"

    def load(self, task: str, version: str) -> Head:
        """A trained version, strictly: every weight, its checksum, and the backbone it was trained on.

        Raises:
            VersionError: it is damaged, or answers another question.
        """
        path = self.path(task, version)
        try:
            head = load_head(path, device=self.device)
        except RadclearError as error:
            raise VersionError(f"version {version} of {task} cannot be loaded: {error}") from error
        if head.task != task:
            raise VersionError(f"version {version} of {task} answers {head.task}")
        return head

    def load_current(self, task: str) -> Head | None:
        """The trained version that answers, None where the bundled one does.

        Raises:
            VersionError: it is not there any more, or has other weights than when it was chosen.
        """
        chosen = self._chosen(task)
        if chosen is None:
            return None
        advice = (
            f"restore it from a backup, or remove {self._current_file(task)} for the bundled head to answer"
        )
        if chosen["version"] not in self.listed(task):
            raise VersionError(f"version {chosen['version']} of {task} should answer and is gone; {advice}")
        head = self.load(task, chosen["version"])
        if head.weights_sha256 != chosen["weights_sha256"]:
            raise VersionError(
                f"version {chosen['version']} of {task} has other weights than chosen; {advice}"
            )
        return head

    def choose(self, task: str, version: str, weights_sha256: str) -> None:
        """Let a version answer from the next start on, too."""
        file = self._current_file(task)
        file.parent.mkdir(parents=True, exist_ok=True)
        if version == BUNDLED:
            file.unlink(missing_ok=True)
            return
        content = {"version": version, "weights_sha256": weights_sha256}
        write_atomically(file, (json.dumps(content) + "\n").encode())
