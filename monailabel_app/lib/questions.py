"""Studies that readers have asked about from the results page: who waits, and what runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from lib.failures import Failures
from lib.work_queue import WorkQueue
from radclear.errors import RadclearError

logger = logging.getLogger(__name__)

WAITING, RUNNING = "waiting", "running"
STOPPED = "the server was stopped before it had answered; ask again"


class Questions:
    """Puts studies into the app's queue, and knows how far they are until they are answered or failed."""

    def __init__(
        self,
        queue: WorkQueue,
        answer: Callable[[str, str, str], None],
        tasks: Sequence[str],
        failures: Failures,
    ) -> None:
        """
        Args:
            queue: the app's.
            answer: takes a study's id, a question and the reader's name, answers and stores the answer.
            tasks: the questions.
            failures: gets what could not be answered and why.
        """
        self._queue = queue
        self._answer = answer
        self._tasks = tuple(tasks)
        self._failures = failures
        self._states: dict[str, str] = {}
        self._lock = threading.Lock()

    def state(self, key: str) -> str:
        """`waiting` or `running`; empty where nobody asks about the study now."""
        with self._lock:
            return self._states.get(key, "")

    def ask(self, key: str, user: str) -> str:
        """Ask all questions about a study, unless it waits or runs already.

        Args:
            key: the study's id.
            user: the reader's name for the audit.

        Returns:
            Its state.

        Raises:
            lib.work_queue.QueueFullError: as many wait as may.
            lib.work_queue.QueueClosedError: the server is stopping.
        """
        with self._lock:
            if key not in self._states:
                self._queue.submit(lambda: self._run(key, user))
                # The job cannot have come further than to the lock that is held here.
                self._states[key] = WAITING
                for task in self._tasks:  # what holds if the server ends before the answer
                    self._failures.record(key, task, STOPPED)
            return self._states[key]

    def _run(self, key: str, user: str) -> None:
        with self._lock:
            self._states[key] = RUNNING
        try:
            self._answer_all(key, user)
        finally:
            with self._lock:
                del self._states[key]

    def _answer_all(self, key: str, user: str) -> None:
        """One question after another; what one fails with is true of those after it, too."""
        for number, task in enumerate(self._tasks):
            try:
                self._answer(key, task, user)
            except Exception as error:  # whatever it is, the reader has to learn that no answer comes
                if not isinstance(error, RadclearError):
                    logger.exception("%s: the questions were not answered", key)
                for left in self._tasks[number:]:
                    self._failures.record(key, left, error)
                return
