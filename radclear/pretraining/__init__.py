"""Weights for slice encoders: the LeCL loss, and the supervised warm-up of the demonstration weights."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "AnnotatedSlices": "annotated_slices",
    "ClipGradients": "slice_classifier",
    "RegionLoss": "slice_classifier",
    "SliceClassifier": "slice_classifier",
    "balanced_sampler": "annotated_slices",
    "lecl_loss": "loss",
    "step_loss": "slice_classifier",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
