"""Why a study failed, in one line that names neither the patient nor a place on the disk."""

from __future__ import annotations

from pathlib import Path

from radclear.ct import StudySource
from radclear.errors import RadclearError
from radclear.privacy import path_names, redact


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
    text = redact(" ".join(str(error).split()), private=_private(source, folder))
    return text if isinstance(error, RadclearError) else f"{type(error).__name__}: {text}"


def _private(source: StudySource, folder: Path | None) -> set[str]:
    """The strings by which a message could name the study or where it lies."""
    secrets = {*path_names(source.path), str(source.path.resolve()), source.name, *Path(source.name).parts}
    if folder is not None:
        secrets |= {str(folder), str(folder.resolve())}
    return secrets
