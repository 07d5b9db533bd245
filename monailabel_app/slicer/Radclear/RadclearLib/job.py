"""Work that takes long, beside the window: a thread does it, the window asks now and then how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Job:
    """Runs a function in a thread. The function must touch neither widgets nor the scene."""

    def __init__(self, function: Callable, *, text: str) -> None:
        """
        Args:
            function: called with a function that takes a text about how far it is.
            text: what is done, in a few words.
        """
        self.text = text
        self.result = None
        self.error: Exception | None = None
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
        self.text = text

    @property
    def done(self) -> bool:
        """Whether result or error is there."""
        return not self._thread.is_alive()

    def status(self) -> str:
        """What is being done, and for how long."""
        return f"{self.text} … {time.monotonic() - self._started:.0f} s"
