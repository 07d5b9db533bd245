"""What evaluation raises."""

from __future__ import annotations

from radclear.errors import RadclearError


class EvaluationError(RadclearError, ValueError):
    """Scores, labels or tables that cannot be evaluated as they were given."""


class NothingToTestError(EvaluationError):
    """No annotated study can take part in a deletion test.

    Attributes:
        excluded: (study, reason) of those that were looked at.
    """

    def __init__(self, message: str, *, excluded: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.excluded = excluded
