"""What a client may send as a verdict: every field checked, nothing taken on trust."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lib.request_check import RequestError

VERDICTS = ("agree", "disagree", "correct")
LONGEST_COMMENT = 2000
LONGEST_READER = 64
_HASHES = ("weights_sha256", "backbone_sha256", "series_hash")
_FIELDS = ("image", "task", "verdict", "classes", "comment", "reader", *_HASHES)
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Unicode categories that a text may not hold: control, format, surrogate, line and paragraph separators.
_NO_TEXT = ("Cc", "Cf", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class Said:
    """A verdict as a client sends it, checked; see `Verdict`."""

    image: str
    task: str
    verdict: str
    classes: tuple[str, ...] | None
    comment: str
    reader: str
    weights_sha256: str
    backbone_sha256: str
    series_hash: str | None = None  # of the answer that the reader saw; None where the client does not say


def checked_verdict(body: Mapping[str, Any], *, tasks: Mapping[str, Sequence[str]], user: str | None) -> Said:
    """What a client sent, where all of it may be.

    Args:
        body: the request's JSON object.
        tasks: question → its classes.
        user: of the token; None where there is no authentication and the client names the reader.

    Raises:
        RequestError: an unknown or missing field, or a value it cannot have.
    """
    unknown = sorted(set(body) - set(_FIELDS))
    if unknown:
        raise RequestError(f"unknown field {unknown[0][:32]!r}; expected some of {', '.join(_FIELDS)}")
    task = _chosen(body, "task", tuple(tasks))
    verdict = _chosen(body, "verdict", VERDICTS)
    classes = body.get("classes")
    if verdict != "correct" and classes is not None:
        raise RequestError("classes go with the verdict `correct` only")
    if verdict == "correct":
        classes = _classes(classes, task=task, known=tuple(tasks[task]))
    reader = _text(body, "reader", LONGEST_READER).strip()
    if user is not None:
        if reader not in ("", user):
            raise RequestError("reader is another than the token's user; leave it out")
        reader = user
    elif not reader or "\n" in reader or "\t" in reader:
        raise RequestError(f"reader is missing; expected a name of 1 to {LONGEST_READER} characters")
    hashes = {}
    for name in _HASHES:
        if name == "series_hash" and name not in body:
            continue
        hashes[name] = body.get(name)
        if not isinstance(hashes[name], str) or not _SHA256.fullmatch(hashes[name]):
            raise RequestError(f"{name} is no sha256; expected that of the answer which the reader saw")
    return Said(
        image=body.get("image", ""),
        task=task,
        verdict=verdict,
        classes=classes,
        comment=_text(body, "comment", LONGEST_COMMENT).strip(),
        reader=reader,
        **hashes,
    )


def _chosen(body: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = body.get(name)
    if not isinstance(value, str) or value not in allowed:
        raise RequestError(f"{name} has to be one of {', '.join(allowed)}")
    return value


def _classes(given: Any, *, task: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(given, list) or any(not isinstance(name, str) or name not in known for name in given):
        raise RequestError(f"classes has to be a list of some of {', '.join(known)}")
    if len(set(given)) != len(given):
        raise RequestError("classes names one twice")
    if task == "staging" and len(given) != 1:
        raise RequestError(f"classes of staging has to be exactly one of {', '.join(known)}")
    return tuple(name for name in known if name in given)


def _text(body: Mapping[str, Any], name: str, longest: int) -> str:
    value = body.get(name) or ""
    if not isinstance(value, str) or len(value) > longest or any(map(_is_control, value)):
        raise RequestError(
            f"{name} has to be text of at most {longest} characters without control characters"
        )
    return value


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _NO_TEXT and character not in "\t\n\r"
