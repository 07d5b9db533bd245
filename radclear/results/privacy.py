"""Keep what could name a patient out of a result: hashes for identifiers, blanks in free text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

WITHHELD = "[withheld]"

# A folder so named says nothing about a patient, and blanking the word would spoil ordinary sentences.
_PLAIN_WORDS = frozenset(
    "series study studies dicom ct scan scans slices slice images image data volume volumes input phantom "
    "axial sagittal coronal file files folder export".split()
)

_PATTERNS = (
    re.compile(r"(?<![\w/])(?:[A-Za-z]:)?(?:[\\/][^\s\\/'\",;:()]+){2,}"),  # absolute paths
    re.compile(r"(?<![\w.])(?:2\.25\.\d+|\d+(?:\.\d+){4,})(?!\w)"),  # UIDs; 2.25 is the root of UUIDs
    re.compile(r"\b[\w'-]+(?:\^[\w'.-]*)+"),  # DICOM person names
    re.compile(
        r"(?<![\w.])(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{6}(?:\.\d+)?)?(?![\w.])"
    ),  # DA, DT
    re.compile(r"(?<!\d)(?:19|20)\d{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?!\d)"),  # ISO dates
    re.compile(
        r"[^\s'\"()]+\.(?:dcm|dicom|ima|zip|nii(?:\.gz)?|nrrd|mha|mhd)\b", re.IGNORECASE
    ),  # file names
)


def hash_uid(uid: str) -> str | None:
    """sha256 of a UID as hexadecimal digits; None where there is no UID."""
    return hashlib.sha256(uid.encode()).hexdigest() if uid else None


def redact(text: str, *, private: Iterable[str] = ()) -> str:
    """Replace whatever in a sentence could identify a patient by ``[withheld]``.

    Messages are written without identifiers in the first place; this is the second lock on the door.

    Args:
        text: a sentence for people.
        private: strings known to be private, for example UIDs and the name of the source folder.

    Returns:
        The sentence without the private strings, paths, file names, UIDs, dates and DICOM person names.
    """
    for secret in sorted({s for s in private if s}, key=len, reverse=True):
        if secret.lower() not in _PLAIN_WORDS:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", WITHHELD, text)
    for pattern in _PATTERNS:
        text = pattern.sub(WITHHELD, text)
    return text


def path_names(path: Path | str | None) -> tuple[str, ...]:
    """The strings by which a message could name a path: all of it, its last part, that without suffix."""
    if path is None or not str(path):
        return ()
    path = Path(path)
    return tuple(dict.fromkeys((str(path), path.as_posix(), path.name, path.name.split(".")[0])))
