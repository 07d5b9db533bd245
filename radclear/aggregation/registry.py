"""Aggregators by their short names."""

from __future__ import annotations

from typing import Any

from radclear.aggregation.mil import (
    AggregationError,
    AttentionMIL,
    GatedAttentionMIL,
    MeanPoolMIL,
    MILAggregator,
)
from radclear.aggregation.multi_branch import MultiBranchMIL

AGGREGATORS = {
    "attention": AttentionMIL,
    "gated": GatedAttentionMIL,
    "mean_pool": MeanPoolMIL,
    "multi_branch": MultiBranchMIL,
}


def build_aggregator(name: str, embedding_dim: int, n_classes: int, **options: Any) -> MILAggregator:
    """An aggregator by its short name, one of `AGGREGATORS`; options as the class has them."""
    if name not in AGGREGATORS:
        raise AggregationError(f"aggregator is {name!r}; expected one of {', '.join(AGGREGATORS)}")
    return AGGREGATORS[name](embedding_dim, n_classes, **options)
