"""What readers say of answers: one file per verdict, written whole, never changed and never removed.

`<folder>/<study key>/<time>-<random>.json`. A reader who changes their mind adds a verdict; the newest of
each reader counts, the others stay.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from radclear.errors import RadclearError

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}")


class VerdictError(RadclearError):
    """A stored verdict cannot be written or read."""


@dataclass(frozen=True)
class Verdict:
    """One reader's verdict on one answer.

    Attributes:
        id: `<study key>/<file name>`.
        stored: when, ISO 8601 in UTC.
        study: key of the study.
        task: the question.
        reader: who.
        verdict: `agree`, `disagree` or `correct`.
        classes: those that the reader says are right: of the answer for `agree`, the reader's own for
            `correct`, None for `disagree`.
        comment: free text, may be empty.
        weights_sha256, backbone_sha256: of the model that answered.
        series_hash: of the pixels that were answered about, None where the answer is not known any more.
        answer: class → probability at that time, None likewise.
    """

    id: str
    stored: str
    study: str
    task: str
    reader: str
    verdict: str
    classes: tuple[str, ...] | None
    comment: str
    weights_sha256: str
    backbone_sha256: str
    series_hash: str | None = None
    answer: dict[str, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values; `image` is the study's key as clients know it."""
        found = asdict(self)
        return {**found, "image": found.pop("study"), "classes": self.classes and list(self.classes)}


class VerdictStore:
    """Verdicts in a folder; safe for several threads and processes, and for one that is killed."""

    def __init__(self, folder: str | Path) -> None:
        """
        Args:
            folder: made if missing.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def add(self, study: str, **said: Any) -> Verdict:
        """Store a verdict and wait until it is on the disk.

        Args:
            study: key of the study.
            said: the other attributes of `Verdict`, without `id` and `stored`.

        Raises:
            VerdictError: it was not stored.
        """
        if not _KEY.fullmatch(study):
            raise VerdictError("a study's key is 1 to 128 letters, digits, . or -")
        moment = datetime.now(timezone.utc)
        name = f"{moment:%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(4)}.json"
        stored = moment.isoformat(timespec="microseconds")
        verdict = Verdict(id=f"{study}/{name}", stored=stored, study=study, **said)
        try:
            folder = self.folder / study
            if not folder.is_dir():
                folder.mkdir(exist_ok=True, mode=0o700)
                _flush_folder(self.folder)
            temporary = folder / f".{name}.tmp"
            with open(temporary, "x", encoding="utf-8") as file:
                json.dump(asdict(verdict), file, ensure_ascii=False, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, folder / name)
            _flush_folder(folder)
        except OSError as error:
            raise VerdictError(
                f"the verdict was not stored ({error.strerror}). Free the disk or correct the rights of the "
                "folder, then give it again"
            ) from error
        return verdict

    def of_study(self, study: str, *, task: str | None = None) -> list[Verdict]:
        """All verdicts on a study, oldest first.

        Raises:
            VerdictError: a file is damaged.
        """
        if not _KEY.fullmatch(study):
            return []
        found = [_read(path) for path in sorted((self.folder / study).glob("[!.]*.json"))]
        return [verdict for verdict in found if task in (None, verdict.task)]

    def studies(self) -> list[str]:
        """Keys of the studies that have verdicts."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir())

    def newest(self, task: str) -> dict[str, dict[str, Verdict]]:
        """Study → reader → the reader's newest verdict on a question."""
        result: dict[str, dict[str, Verdict]] = {}
        for study in self.studies():
            for verdict in self.of_study(study, task=task):
                result.setdefault(study, {})[verdict.reader] = verdict
        return result


def _read(path: Path) -> Verdict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["classes"] is not None:
            found["classes"] = tuple(found["classes"])
        return Verdict(**found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerdictError(
            f"the stored verdict {path.name} is damaged; restore it from a backup of the data folder"
        ) from error


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
