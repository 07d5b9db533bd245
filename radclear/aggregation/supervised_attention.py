"""Attention that is told where to look: a loss term for studies whose slices are annotated.

With a_i the attention of instance i of a bag and A its instances on annotated slices, the term of a bag is

    -log sum_{i in A} a_i

the cross-entropy of "the attention falls on an annotated slice". Where each finding has an attention of its
own there is a term for each, and the evidence of every instance is held against the annotations, too. Bags
without annotations have no term. Boxes are needed in training only; a head trained this way answers from
embeddings alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radclear.aggregation.mil import AggregationError, MILAggregator
from radclear.aggregation.multi_branch import MultiBranchMIL

_SMALLEST = 1e-6  # attention below which the term stops growing
EVIDENCE_SHARE = 3.0  # of the evidence's cross-entropy beside the attention's term
POSITIVE_WEIGHT = 3.0  # of annotated instances in it, since they are rare


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

    def forward(self, feats: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """(B, n, d) and mask (B, n) → logits (B, C), attention (B, n, K) with its gradient, evidence.

        K is 1 but for `MultiBranchMIL`, whose evidence (B, n, K) is the third; it is None elsewhere.
        """
        if isinstance(self.aggregator, MultiBranchMIL):
            return self.aggregator.branch(feats, mask)
        hidden, attention = self.aggregator.attend(feats, mask)
        return self.aggregator.classify(hidden, attention), attention.unsqueeze(2), None


class SupervisedAttentionLoss(nn.Module):
    """A loss of the labels plus the terms of attention and evidence.

    Args:
        loss: of logits and labels.
        weight: of the terms, above 0.
    """

    def __init__(self, loss: nn.Module, *, weight: float) -> None:
        super().__init__()
        if not weight > 0:
            raise AggregationError(f"attention_weight is {weight}; expected a number above 0, or no boxes")
        self.loss = loss
        self.weight = weight

    def forward(
        self, output: tuple[Tensor, Tensor, Tensor | None], target: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        """
        Args:
            output: of `WithAttention`.
            target: labels; (B, n, K) bool, True for instances on slices annotated with the branch's finding;
                (B, n) bool, True for real instances.
        """
        (logits, attention, evidence), (label, annotated, mask) = output, target
        if attention.shape[2] != annotated.shape[2]:
            raise AggregationError(
                f"the head has {attention.shape[2]} attention branches and the boxes are of "
                f"{annotated.shape[2]} findings; name one finding for each branch with --findings"
            )
        term = attention_term(attention, annotated)
        if evidence is not None:
            term = term + EVIDENCE_SHARE * evidence_term(evidence, annotated, mask)
        return self.loss(logits, label) + self.weight * term


def attention_term(attention: Tensor, annotated: Tensor) -> Tensor:
    """Mean of -log Σ a_i over bags and branches with annotated instances; 0 where there are none.

    Args:
        attention: (B, n, K), sums to 1 over a bag.
        annotated: (B, n, K) bool.
    """
    found = annotated.any(dim=1)
    if not bool(found.any()):
        return attention.sum() * 0.0
    mass = (attention * annotated).sum(dim=1)[found]
    return -torch.log(mass.clamp(min=_SMALLEST)).mean()


def evidence_term(evidence: Tensor, annotated: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of "this instance lies on a slice annotated with the finding".

    Over the real instances of bags with annotations: a study with some is taken to be annotated in full, and
    of one without any nothing is known.

    Args:
        evidence: (B, n, K) logits.
        annotated: (B, n, K) bool.
        mask: (B, n) bool.
    """
    known = mask & annotated.flatten(1).any(dim=1, keepdim=True)
    if not bool(known.any()):
        return evidence.sum() * 0.0
    weight = torch.full_like(evidence[0, 0], POSITIVE_WEIGHT)
    return F.binary_cross_entropy_with_logits(
        evidence[known], annotated[known].to(evidence.dtype), pos_weight=weight
    )
