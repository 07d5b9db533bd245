"""Errors of pre-training that name what was found, what was expected and what to do."""

from __future__ import annotations

from radclear.errors import RadclearError


class PretrainingError(RadclearError):
    """Pre-training cannot start or go on as it was asked to."""


class PretrainingDataError(PretrainingError):
    """Slices, boxes, patients or splits are not what pre-training needs."""
