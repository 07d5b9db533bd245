"""Errors of pre-training that name what was found, what was expected and what to do."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
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
        _check_names(make, arguments)
        return make(**arguments)


def _check_names(make: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    taken = inspect.signature(make).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return
    for name in arguments:
        if name not in taken:
            alike = get_close_matches(name, taken, n=1)
            hint = f"did you mean {alike[0]}?" if alike else f"expected some of {', '.join(taken)}"
            raise PretrainingError(f"{getattr(make, '__qualname__', make)} has no setting {name}; {hint}")
