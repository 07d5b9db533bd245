"""Errors that tell the user what was found, what was expected and what to do next."""

from __future__ import annotations

from collections.abc import Iterable


class RadclearError(Exception):
    """Base of every error that radclear raises on purpose."""


class MissingDependencyError(RadclearError, ImportError):
    """An optional package is needed for what was asked, and is not installed."""

    def __init__(self, package: str, *, purpose: str, install: str | None = None) -> None:
        """
        Args:
            package: import or distribution name that is missing.
            purpose: what it is needed for, as the end of the sentence "... is needed to <purpose>".
            install: argument of ``pip install``; the package name when omitted.
        """
        self.package = package
        super().__init__(
            f"{package} is needed to {purpose}. Install it with: pip install '{install or package}'"
        )


def without_patients(missing: Iterable[str], *, each: str = "study") -> str:
    """What to do about a table that lacks the column `patient`; nothing where only others are missing.

    Args:
        missing: columns that the table should have and has not.
        each: what a row of the table stands for.
    """
    if "patient" not in missing:
        return ""
    return (
        f". Rows of one patient belong together, so add the column; where each {each} is of another patient, "
        f"repeat the name of the {each} in it"
    )
