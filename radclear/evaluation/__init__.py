"""Evaluation: scores against labels, with intervals; comparisons; key slices; a report for people."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "AurocReport": "metrics",
    "ClassAuroc": "metrics",
    "Comparison": "comparison",
    "DeLong": "auroc_variance",
    "DeletionResult": "deletion",
    "Estimate": "estimates",
    "Evaluation": "assessment",
    "EvaluationError": "errors",
    "EvaluationRun": "run",
    "HitAtK": "hits",
    "HitRate": "metrics",
    "KeySliceHits": "annotations",
    "MetricSettings": "panel",
    "NothingToTestError": "errors",
    "PairedTest": "auroc_variance",
    "PatientResamples": "resampling",
    "PredictionTable": "table",
    "auroc": "metrics",
    "compare": "comparison",
    "decision_curve": "curves",
    "deletion_test": "deletion",
    "delong": "auroc_variance",
    "delong_test": "auroc_variance",
    "evaluate": "assessment",
    "evaluate_predictions": "run",
    "holm": "multiplicity",
    "key_slice_hit_rate": "metrics",
    "key_slice_hits": "hits",
    "metric_panel": "panel",
    "precision_recall_curve": "curves",
    "read_operating_points": "operating_points",
    "read_predictions": "reading",
    "reliability_curve": "curves",
    "roc_curve": "curves",
    "table_hits": "annotations",
    "write_predictions": "predictions",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"radclear.evaluation.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
