"""What evaluation raises."""

from __future__ import annotations

from radclear.errors import RadclearError


class EvaluationError(RadclearError, ValueError):
    """Scores, labels or tables that cannot be evaluated as they were given."""
