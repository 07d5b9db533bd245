"""Evaluation of heads: scores against labels, key slices against annotations, prediction tables."""

from radclear.evaluation.metrics import (
    AurocReport,
    ClassAuroc,
    EvaluationError,
    HitRate,
    auroc,
    key_slice_hit_rate,
)
from radclear.evaluation.predictions import write_predictions

__all__ = [
    "AurocReport",
    "ClassAuroc",
    "EvaluationError",
    "HitRate",
    "auroc",
    "key_slice_hit_rate",
    "write_predictions",
]
