"""The last failure of each study and question, kept beside the stored answers until a later success.

`<folder>/<task>/<study key>.failed.json` with the reason and the time. Where the disk takes nothing the
failure is remembered as long as the server runs.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from lib.labels import check_tag
from radclear.errors import RadclearError
from radclear.results import write_atomically

logger = logging.getLogger(__name__)

_LONGEST_REASON = 600
_MOST_REMEMBERED = 1000


@dataclass(frozen=True)
class Failure:
    """Why a question about a study has no answer.

    Attributes:
        task: the question.
        reason: a sentence without names.
        time: when, ISO 8601 in UTC.
    """

    task: str
    reason: str
    time: str


class Failures:
    """Failures on disk; safe for several threads and processes."""

    def __init__(self, folder: str | Path, clean: Callable[[str], str]) -> None:
        """
        Args:
            folder: of the stored answers.
            clean: takes what may identify a patient out of a text.
        """
        self._folder = Path(folder)
        self._clean = clean
        self._unwritten: OrderedDict[tuple[str, str], Failure] = OrderedDict()
        self._lock = threading.Lock()

    def record(self, key: str, task: str, reason: str | Exception) -> None:
        """Keep a failure in place of the one before.

        Args:
            key: of the study.
            task: the question.
            reason: a sentence; or the exception, of which one that was not foreseen is only named.
        """
        if isinstance(reason, Exception) and not isinstance(reason, RadclearError):
            reason = f"an error that was not foreseen ({type(reason).__name__}); the log says more"
        moment = datetime.now(timezone.utc).isoformat(timespec="seconds")
        failure = Failure(task, self._clean(str(reason))[:_LONGEST_REASON], moment)
        path = self._path(key, task)
        with self._lock:
            self._unwritten.pop((key, task), None)
        try:
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, json.dumps(asdict(failure), ensure_ascii=False).encode())
        except OSError as error:
            logger.error("a failure of %s is kept in memory only: %s", key, error.strerror)
            with self._lock:
                self._unwritten[key, task] = failure
                while len(self._unwritten) > _MOST_REMEMBERED:
                    self._unwritten.popitem(last=False)

    def clear(self, key: str, task: str) -> None:
        """Forget a failure: the question was answered."""
        with self._lock:
            self._unwritten.pop((key, task), None)
        try:
            self._path(key, task).unlink(missing_ok=True)
        except OSError as error:
            logger.error("a failure of %s that is over cannot be removed: %s", key, error.strerror)

    def of_study(self, key: str, tasks: Sequence[str]) -> list[Failure]:
        """The failures of a study, in the order of the questions."""
        return [failure for task in tasks if (failure := self._read(key, task))]

    def _read(self, key: str, task: str) -> Failure | None:
        with self._lock:
            if (key, task) in self._unwritten:
                return self._unwritten[key, task]
        try:
            return Failure(**json.loads(self._path(key, task).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            return Failure(task, "why it failed cannot be read any more; ask again", "")

    def _path(self, key: str, task: str) -> Path:
        return self._folder / check_tag(task) / f"{key}.failed.json"
