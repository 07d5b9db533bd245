"""Attention that is told where to look: a loss term for studies whose slices are annotated.

With a_i the attention of instance i of a bag and A its instances on annotated slices, the term of a bag is

    -log sum_{i in A} a_i

the cross-entropy of "the attention falls on an annotated slice". Bags without annotations have none. Boxes
are needed in training only; a head trained this way answers from embeddings alone.
"""

from __future__ import annotations

import torch
from torch import nn

from radclear.aggregation.mil import AggregationError, MILAggregator

_SMALLEST = 1e-6  # attention below which the term stops growing


class WithAttention(nn.Module):
    """An aggregator that returns its attention beside its logits; trains the aggregator it is given."""

    def __init__(self, aggregator: MILAggregator) -> None:
        super().__init__()
        if not isinstance(aggregator, MILAggregator):
            raise AggregationError(
                f"attention of {type(aggregator).__name__} cannot be supervised; expected an aggregator of "
                "radclear.aggregation, one by one and not an ensemble"
            )
        self.aggregator = aggregator

    def forward(
        self, feats: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, n, d) and mask (B, n) → logits (B, C), attention (B, n) with its gradient."""
        hidden, attention = self.aggregator.attend(feats, mask)
        return self.aggregator.classify(hidden, attention), attention


class SupervisedAttentionLoss(nn.Module):
    """A loss of the labels plus the mean of the attention's term over the annotated bags.

    Args:
        loss: of logits and labels.
        weight: of the attention's term, above 0.
    """

    def __init__(self, loss: nn.Module, *, weight: float) -> None:
        super().__init__()
        if not weight > 0:
            raise AggregationError(f"attention_weight is {weight}; expected a number above 0, or no boxes")
        self.loss = loss
        self.weight = weight

    def forward(
        self, output: tuple[torch.Tensor, torch.Tensor], target: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """
        Args:
            output: logits (B, C) and attention (B, n), of `WithAttention`.
            target: labels, and (B, n) bool, True for instances on annotated slices.
        """
        (logits, attention), (label, annotated) = output, target
        term = attention_term(attention, annotated)
        return self.loss(logits, label) + self.weight * term


def attention_term(attention: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
    """Mean of -log Σ a_i over the bags with annotated instances; 0 where no bag has any.

    Args:
        attention: (B, n), sums to 1 over a bag.
        annotated: (B, n) bool.
    """
    found = annotated.any(dim=1)
    if not bool(found.any()):
        return attention.sum() * 0.0
    mass = (attention * annotated).sum(dim=1)[found]
    return -torch.log(mass.clamp(min=_SMALLEST)).mean()
