"""Keep names of patients out of the log, whoever writes to it: MONAI Label logs whole requests."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection

from radclear.privacy import redact

_STAMP = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] ")


class PrivateLog(logging.Filter):
    """Redacts the records of a handler: paths, file names, UIDs, dates, and what is known as private."""

    def __init__(self, private: Callable[[], Collection[str]]) -> None:
        """
        Args:
            private: gives strings that name patients, such as the names of the studies.
        """
        super().__init__()
        self._private = private

    def filter(self, record: logging.LogRecord) -> bool:
        """Replaces the record's text, and its traceback, by what may be logged."""
        record.msg, record.args = self.clean(record.getMessage()), None
        if record.exc_info:
            record.exc_text = self.clean(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True

    def clean(self, text: str) -> str:
        """A text without what could identify a patient; a log's time in front of it, if any, is kept."""
        stamp = found.group() if (found := _STAMP.match(text)) else ""
        text = text.removeprefix(stamp)
        folded = text.casefold()
        return stamp + redact(text, private=[name for name in self._private() if name.casefold() in folded])


def install(filter: PrivateLog) -> None:
    """Put the filter on every handler that any logger has."""
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    for logger in loggers:
        for handler in logger.handlers:
            for old in [known for known in handler.filters if isinstance(known, PrivateLog)]:
                handler.removeFilter(old)
            handler.addFilter(filter)
