"""What readers say of answers: one file per verdict, written whole, never changed and never removed.

`<folder>/<study key>/<time>-<random>.json`. A reader who changes their mind adds a verdict; the newest of
each reader counts, the others stay.

A verdict is written under a hidden name, then announced (the audit gets its line), then given its own name.
So after a crash a hidden file whose line is there is a verdict, and one without never was: see `recover`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from radclear.errors import RadclearError

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}")
_HIDDEN, _ASIDE = ".tmp", ".unfinished"


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

    def add(self, study: str, *, announce: Callable[[Verdict], None], **said: Any) -> Verdict:
        """Store a verdict and wait until it is on the disk.

        Args:
            study: key of the study.
            announce: called when the verdict can be stored and before it is; where it raises, it is not.
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
            hidden = folder / f".{name}{_HIDDEN}"
            try:
                with open(hidden, "x", encoding="utf-8") as file:
                    json.dump(asdict(verdict), file, ensure_ascii=False, allow_nan=False)
                    file.flush()
                    os.fsync(file.fileno())
                _flush_folder(folder)
                announce(verdict)
                os.rename(hidden, folder / name)
                _flush_folder(folder)
            except BaseException:
                for path in (hidden, folder / name):
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise VerdictError(
                f"the verdict was not stored ({error.strerror}). Free the disk or correct the rights of the "
                "folder, then give it again"
            ) from error
        return verdict

    def recover(self, announced: Callable[[Collection[str]], Collection[str]]) -> tuple[list[str], list[str]]:
        """Finish what a killed process left; call before anything is stored.

        Args:
            announced: of some file names, those whose verdict was announced.

        Returns:
            Ids of verdicts that are stored now; and names of files in `.unfinished`, whose verdict nobody was
            told of as stored.
        """
        left = {path.name[1:].removesuffix(_HIDDEN): path for path in self.folder.glob(f"*/.*{_HIDDEN}")}
        known = announced(set(left)) if left else ()
        stored, aside = [], []
        for name, path in sorted(left.items()):
            study = path.parent
            if name in known:
                os.rename(path, study / name)
                stored.append(f"{study.name}/{name}")
            else:
                (self.folder / _ASIDE).mkdir(exist_ok=True, mode=0o700)
                os.rename(path, self.folder / _ASIDE / f"{study.name}-{name}")
                aside.append(f"{study.name}-{name}")
            _flush_folder(study)
        return stored, aside

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
        return sorted(path.name for path in self.folder.glob("[!.]*") if path.is_dir())

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
