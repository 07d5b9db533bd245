"""Work that takes long, beside the window: a thread does it, the window asks now and then how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import qt

POLL_MS = 100


class Stopped(Exception):
    """Nobody waits for the job any more."""


class Job:
    """Runs a function in a thread. The function must touch neither widgets nor the scene."""

    def __init__(self, function: Callable, *, text: str) -> None:
        """
        Args:
            function: called with a function that takes a text about how far it is, which ends a job that
                nobody waits for.
            text: what is done, in a few words.
        """
        self.text = text
        self.result = None
        self.error: Exception | None = None
        self._stopped = False
        self._started = time.monotonic()
        self._function = function
        self._thread = threading.Thread(target=self._run, name="radclear", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._function(self._progress)
        except Exception as error:  # shown to the reader by whoever waits for the job
            self.error = error

    def _progress(self, text: str) -> None:
        if self._stopped:
            raise Stopped
        self.text = text

    def stop(self) -> None:
        """End it where it next tells how far it is; a request that is on its way the server finishes."""
        self._stopped = True

    @property
    def done(self) -> bool:
        """Whether result or error is there."""
        return not self._thread.is_alive()

    def status(self) -> str:
        """What is being done, and for how long."""
        return f"{self.text} … {time.monotonic() - self._started:.0f} s"


class Waiter:
    """Waits for one job at a time without blocking the window."""

    def __init__(self, *, on_status: Callable, on_busy: Callable, on_error: Callable) -> None:
        """
        Args:
            on_status: called with how far the job is, and with an empty text when it is done.
            on_busy: called with whether a job is running.
            on_error: called with what went wrong, where whoever started the job does not want to know.
        """
        self._status, self._busy, self._error = on_status, on_busy, on_error
        self._job = self._then = self._failed = self._left = None
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self._look)

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._job is not None

    def start(
        self, job: Job, then: Callable, *, failed: Callable | None = None, left: Callable | None = None
    ) -> None:
        """Wait for a job.

        Args:
            job: running.
            then: called with its result.
            failed: called with its error.
            left: called where the reader stops waiting.
        """
        self._job, self._then, self._failed, self._left = job, then, failed or self._error, left
        self._busy(True)
        self._look()
        self._timer.start()

    def stop(self) -> None:
        """Wait no more; what comes of the job is thrown away."""
        if self._job is None:
            return
        self._job.stop()
        left = self._left
        self._end()
        if left:
            left()

    def _end(self) -> None:
        self._timer.stop()
        self._job = None
        self._busy(False)

    def _look(self) -> None:
        job, then, failed = self._job, self._then, self._failed
        if job is None:
            return
        if not job.done:
            return self._status(job.status())
        self._end()
        self._status("")
        if job.error is not None:
            return failed(job.error)
        try:
            then(job.result)
        except Exception as error:
            self._error(error)
            raise
