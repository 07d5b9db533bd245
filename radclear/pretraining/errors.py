"""Errors of pre-training that name what was found, what was expected and what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from radclear.errors import RadclearError


class PretrainingError(RadclearError):
    """Pre-training cannot start or go on as it was asked to."""


class PretrainingDataError(PretrainingError):
    """Slices, boxes, patients or splits are not what pre-training needs."""


@contextmanager
def ending_plainly() -> Iterator[None]:
    """End the process with exit code 2 and one plain sentence instead of a traceback."""
    try:
        yield
    except RadclearError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def plainly(make: Callable[..., Any], **arguments: Any) -> Any:
    """`make(**arguments)`, for configs: what the user gave and cannot work ends the process plainly.

    Raises:
        SystemExit: code 2, after the sentence.
    """
    with ending_plainly():
        return make(**arguments)
