"""Studies that readers have asked about from the results page: who waits, what runs, what failed and why."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from lib.work_queue import WorkQueue
from radclear.errors import RadclearError

logger = logging.getLogger(__name__)

WAITING, RUNNING, FAILED = "waiting", "running", "failed"
_MOST_FAILURES = 1000


@dataclass(frozen=True)
class Progress:
    """How far the answers to a study are.

    Attributes:
        state: `waiting`, `running` or `failed`.
        reason: why it failed, as a sentence without names.
    """

    state: str
    reason: str = ""


class Questions:
    """Puts studies into the app's queue and remembers how far they are, until their answers are stored."""

    def __init__(
        self, queue: WorkQueue, answer: Callable[[str, str], None], clean: Callable[[str], str]
    ) -> None:
        """
        Args:
            queue: the app's.
            answer: takes a study's id and the reader's name, answers all questions and stores them.
            clean: takes what may identify a patient out of a text.
        """
        self._queue = queue
        self._answer = answer
        self._clean = clean
        self._progress: OrderedDict[str, Progress] = OrderedDict()
        self._lock = threading.Lock()

    def progress(self, key: str) -> Progress | None:
        """How far a study is; None where it was not asked about, or is answered."""
        with self._lock:
            return self._progress.get(key)

    def ask(self, key: str, user: str) -> Progress:
        """Ask all questions about a study, unless it waits or runs already.

        Args:
            key: the study's id.
            user: the reader's name for the audit.

        Raises:
            lib.work_queue.QueueFullError: as many wait as may.
            lib.work_queue.QueueClosedError: the server is stopping.
        """
        with self._lock:
            known = self._progress.get(key)
            if known and known.state != FAILED:
                return known
            self._queue.submit(lambda: self._run(key, user))
            # The job cannot have come further than to the lock that is held here.
            return self._set(key, Progress(WAITING))

    def _run(self, key: str, user: str) -> None:
        with self._lock:
            self._set(key, Progress(RUNNING))
        try:
            self._answer(key, user)
        except RadclearError as error:
            self._fail(key, str(error))
        except Exception as error:  # whatever it is, the reader has to learn that no answer comes
            logger.exception("%s: the questions were not answered", key)
            self._fail(key, f"an error that was not foreseen ({type(error).__name__}); the log says more")
        else:
            with self._lock:
                self._progress.pop(key, None)

    def _fail(self, key: str, reason: str) -> None:
        with self._lock:
            self._set(key, Progress(FAILED, self._clean(reason)))

    def _set(self, key: str, progress: Progress) -> Progress:
        self._progress[key] = progress
        self._progress.move_to_end(key)
        failed = [known for known, entry in self._progress.items() if entry.state == FAILED]
        for oldest in failed[: len(failed) - _MOST_FAILURES]:
            del self._progress[oldest]
        return progress
