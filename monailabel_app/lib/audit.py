"""The audit: a file that only grows, one line of JSON per event, each line chained to the one before.

It says who asked when, about which series (its hash), which model answered (weights by sha256) and what. It
holds no name, path or UID. `prev` is the sha256 of the line before, so that a line that was changed or taken
away is found by `verify_audit`; whoever can write the file can also write it anew, so copy it elsewhere where
that matters.

A line is written before what it is about is done, so nothing is done without one. Where the server was
killed, or the disk failed, between the two, there is a line about something that did not come to be.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import threading
from collections.abc import Collection, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from radclear.errors import RadclearError

logger = logging.getLogger(__name__)

FIRST = "0" * 64
_LONGEST_LINE = 64 * 1024
_SEARCHED_BYTES = 16 * 2**20


class AuditError(RadclearError):
    """The audit cannot be written, or is not what was written."""


class Audit:
    """Appends to an audit file; safe for several threads and processes."""

    def __init__(self, path: str | Path) -> None:
        """
        Args:
            path: the file; made, readable by its user only, with the first event.
        """
        self.path = Path(path)
        self._lock = threading.Lock()

    def append(self, event: str, **details: Any) -> None:
        """Write one event and wait until it is on the disk.

        Args:
            event: what happened, for example `infer`.
            details: JSON values.

        Raises:
            AuditError: the line was not written, so that what it is about must not be done either.
        """
        moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        try:
            with self._lock:
                handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX)
                    last, whole = _last_line(handle)
                    record = {"time": moment, "event": event, **details, "prev": _hash(last)}
                    line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
                    if len(line) > _LONGEST_LINE:
                        raise AuditError(f"an audit line of {len(line)} bytes is longer than {_LONGEST_LINE}")
                    content = line
                    if not whole:  # of a process that was killed, or for want of disk; it stays, as a line
                        logger.warning("the audit's last line is not whole; it stays, and the next follows")
                        content = b"\n" + line
                    if os.write(handle, content) != len(content):
                        raise AuditError("the audit was not written in one piece: is the disk full?")
                    os.fsync(handle)
                finally:
                    os.close(handle)
        except OSError as error:
            raise AuditError(
                f"the audit cannot be written ({error.strerror}); nothing is answered without it. Free the "
                "disk or correct the rights of the folder"
            ) from error


def verify_audit(path: str | Path) -> tuple[int, list[int]]:
    """Follow the chain of an audit file.

    Args:
        path: the file.

    Returns:
        How many lines it has, and the numbers (from 1) of lines that are not whole: half a line where a
        process was killed while writing.

    Raises:
        AuditError: a line does not follow from the one before; the message says which.
    """
    lines = Path(path).read_bytes().removesuffix(b"\n").split(b"\n")
    previous, broken = FIRST, []
    for number, line in enumerate(lines, start=1):
        try:
            found = json.loads(line)["prev"]
        except (ValueError, KeyError, TypeError):
            broken.append(number)
        else:
            if found != previous:
                raise AuditError(
                    f"line {number} of the audit does not follow from line {number - 1}: one of them was "
                    "changed, or lines between them were taken away"
                )
        previous = _hash(line)
    return len(lines), broken


def answers(path: str | Path, *, task: str, weights_sha256: str) -> Iterator[dict[str, Any]]:
    """The answers to a question that the audit's end still holds, oldest first.

    Args:
        path: the audit.
        task: the question; all of its entries count.
        weights_sha256: of the head that answered.

    Yields:
        The audit's records; those before its last 16 MiB are not looked for.
    """
    if not Path(path).is_file():
        return
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _SEARCHED_BYTES))
        lines = file.read().split(b"\n")
    for line in lines:
        if weights_sha256.encode() not in line or b'"answer"' not in line:
            continue
        try:
            record = json.loads(line)
        except ValueError:
            continue  # half a line of a process that was killed, or cut off by the limit
        asked = record.get("entry", "").removesuffix("_findings").removesuffix("_overlay")
        if (asked, record.get("weights_sha256")) == (task, weights_sha256):
            yield record


def last_answers(path: str | Path, *, task: str, weights_sha256: str) -> dict[str, dict[str, Any]]:
    """Study → the newest answer to a question; see `answers`."""
    return {record["study"]: record for record in answers(path, task=task, weights_sha256=weights_sha256)}


def announced_verdicts(path: str | Path, names: Collection[str]) -> set[str]:
    """Those of some verdicts' file names that the audit has a line for, and not taken back.

    Args:
        path: the audit.
        names: as its lines have them in `stored`.
    """
    found: set[str] = set()
    if not Path(path).is_file():
        return found
    with open(path, "rb") as file:
        for line in file:
            if b'"verdict' not in line:
                continue
            try:
                record = json.loads(line)
            except ValueError:
                continue  # half a line
            if record.get("stored") in names and record["event"] in ("verdict", "verdict not stored"):
                (found.add if record["event"] == "verdict" else found.discard)(record["stored"])
    return found


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest() if line else FIRST


def _last_line(handle: int) -> tuple[bytes, bool]:
    """The last line without its end, and whether it has one."""
    size = os.fstat(handle).st_size
    length = min(size, _LONGEST_LINE + 1)
    tail = os.pread(handle, length, size - length)
    whole = not tail or tail.endswith(b"\n")
    return tail.removesuffix(b"\n").rpartition(b"\n")[2], whole
