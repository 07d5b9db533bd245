"""From a bag of slice embeddings to study logits, attention and key slices."""

from radclear.aggregation.auxiliary import AuxiliaryLoss, WithAuxiliary, auxiliary_term
from radclear.aggregation.balance import without_class_weights
from radclear.aggregation.ensemble import EnsembleMIL, join_members
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
from radclear.aggregation.multi_branch import MultiBranchMIL
from radclear.aggregation.ordinal import CumulativeLogits, class_probabilities, cumulative_logits
from radclear.aggregation.registry import AGGREGATORS, build_aggregator
from radclear.aggregation.slices import key_slices, slice_attention
from radclear.aggregation.study_classifier import StudyClassifier
from radclear.aggregation.supervised_attention import (
    SupervisedAttentionLoss,
    WithAttention,
    attention_term,
    evidence_term,
)

__all__ = [
    "AGGREGATORS",
    "KINDS",
    "AggregationError",
    "AttentionMIL",
    "AuxiliaryLoss",
    "CumulativeLogits",
    "EnsembleMIL",
    "GatedAttentionMIL",
    "MILAggregator",
    "MeanPoolMIL",
    "MultiBranchMIL",
    "MulticlassLoss",
    "MultilabelLoss",
    "StudyClassifier",
    "SupervisedAttentionLoss",
    "WithAttention",
    "WithAuxiliary",
    "attention_term",
    "auxiliary_term",
    "build_aggregator",
    "build_loss",
    "check_kind",
    "class_probabilities",
    "cumulative_logits",
    "evidence_term",
    "join_members",
    "key_slices",
    "slice_attention",
    "to_probabilities",
    "without_class_weights",
]
