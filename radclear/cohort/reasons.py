"""Why a study failed, in one line that names neither the patient nor a place on the disk."""

from __future__ import annotations

import re
from pathlib import Path

from radclear.ct import StudySource
from radclear.errors import RadclearError

WITHHELD = "[withheld]"

_PATTERNS = (
    re.compile(r"(?<![\w/])(?:[A-Za-z]:)?(?:[\\/][^\s\\/'\",;:()]+){2,}"),  # absolute paths
    re.compile(r"(?<![\w.])(?:2\.25\.\d+|\d+(?:\.\d+){4,})(?!\w)"),  # UIDs
    re.compile(r"\b[\w'-]+(?:\^[\w'.-]*)+"),  # DICOM person names
)


def describe(error: BaseException, *, source: StudySource, folder: Path | None = None) -> str:
    """One line that says what went wrong.

    radclear's own errors say it themselves, others need their type. Of an error of the operating system only
    its meaning is told, since the rest of it is file names.

    Args:
        error: whatever a study failed with.
        source: the study; its path and name are withheld.
        folder: of the results, which is withheld too.
    """
    if isinstance(error, OSError) and not isinstance(error, RadclearError):
        return f"{type(error).__name__}: {error.strerror or 'no more is known'}"
    text = " ".join(str(error).split())
    for secret in sorted(_private(source, folder), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", WITHHELD, text)
    for pattern in _PATTERNS:
        text = pattern.sub(WITHHELD, text)
    return text if isinstance(error, RadclearError) else f"{type(error).__name__}: {text}"


def _private(source: StudySource, folder: Path | None) -> set[str]:
    """The strings by which a message could name the study or where it lies."""
    path = source.path
    secrets = {str(path), str(path.resolve()), path.name, path.name.split(".")[0], source.name}
    secrets.update(Path(source.name).parts)
    if folder is not None:
        secrets.update((str(folder), str(folder.resolve())))
    return secrets - {"", ".", ".."}
