"""From a bag of slice embeddings to study logits, attention and key slices."""

from radclear.aggregation.losses import (
    KINDS,
    MulticlassLoss,
    MultilabelLoss,
    build_loss,
    check_kind,
    to_probabilities,
)
from radclear.aggregation.mil import (
    AggregationError,
    AttentionMIL,
    GatedAttentionMIL,
    MeanPoolMIL,
    MILAggregator,
)
from radclear.aggregation.slices import key_slices, slice_attention
from radclear.aggregation.study_classifier import StudyClassifier

__all__ = [
    "KINDS",
    "AggregationError",
    "AttentionMIL",
    "GatedAttentionMIL",
    "MILAggregator",
    "MeanPoolMIL",
    "MulticlassLoss",
    "MultilabelLoss",
    "StudyClassifier",
    "build_loss",
    "check_kind",
    "key_slices",
    "slice_attention",
    "to_probabilities",
]
