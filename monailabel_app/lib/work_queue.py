"""One worker for inference and a bounded number of requests that wait for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from radclear.errors import RadclearError


class QueueFullError(RadclearError):
    """As many requests wait as may."""


class QueueClosedError(RadclearError):
    """The server is going down."""


class WorkQueue:
    """Runs one job after another in a thread of its own, first come, first served.

    A job that is cancelled while it waits leaves the queue at once; one that runs is finished, as its
    embeddings serve the next request.
    """

    def __init__(self, *, waiting: int) -> None:
        """
        Args:
            waiting: most jobs that wait while one runs.
        """
        self.most_waiting = waiting
        self._jobs: deque[tuple[Future, Callable[[], Any]]] = deque()
        self._running = False
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="inference", daemon=True).start()

    @property
    def waiting(self) -> int:
        """How many jobs wait now."""
        with self._changed:
            return sum(not future.cancelled() for future, _ in self._jobs)

    def submit(self, job: Callable[[], Any]) -> Future:
        """Put a job in line.

        Returns:
            A future of what the job returns.

        Raises:
            QueueFullError: as many wait as may.
            QueueClosedError: `close` was called.
        """
        with self._changed:
            if self._closed:
                raise QueueClosedError("the server is stopping; ask again when it is back")
            self._jobs = deque(entry for entry in self._jobs if not entry[0].cancelled())
            if len(self._jobs) + self._running > self.most_waiting:
                raise QueueFullError(
                    f"one request is being answered and {len(self._jobs)} wait, which is as many as may; "
                    "try again in some seconds"
                )
            future: Future = Future()
            self._jobs.append((future, job))
            self._changed.notify()
            return future

    def close(self) -> None:
        """Take no more jobs, and drop those that wait."""
        with self._changed:
            self._closed = True
            for future, _ in self._jobs:
                future.cancel()
            self._jobs.clear()
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return
                future, job = self._jobs.popleft()
                self._running = True
            if not future.set_running_or_notify_cancel():
                self._end()
                continue
            try:
                result = job()
            except BaseException as error:  # belongs to whoever waits for the future
                self._end()
                future.set_exception(error)
            else:
                self._end()  # before anybody has the result: who asks again then finds the place free
                future.set_result(result)

    def _end(self) -> None:
        with self._changed:
            self._running = False
