"""Auxiliary labels: what a head learns beside its classes, from the vector that those are read from.

A stage follows from T, N and M. A head that is taught these three is told why a study has its stage, which is
more than the stage alone says. Their layers are needed in training only; the head that answers is the same
network as without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radclear.aggregation.mil import AggregationError, MILAggregator, at_least_float32


class WithAuxiliary(nn.Module):
    """A network in training that returns logits of auxiliary labels beside what it returns by itself."""

    def __init__(self, network: nn.Module, aggregator: MILAggregator, n_values: Sequence[int]) -> None:
        """
        Args:
            network: the aggregator, or what it is trained within, called with embeddings and mask.
            aggregator: whose last linear layer reads the study's vector, with its dropout.
            n_values: for each auxiliary label the number of its values.
        """
        super().__init__()
        if not isinstance(aggregator, MILAggregator):
            raise AggregationError(
                f"{type(aggregator).__name__} cannot learn auxiliary labels; expected an aggregator of "
                "radclear.aggregation, one by one and not an ensemble"
            )
        self.network = network
        self.aggregator = aggregator
        width = self._last_layer().in_features
        self.layers = nn.ModuleList(nn.Linear(width, n) for n in n_values)

    def forward(self, feats: Tensor, mask: Tensor | None = None) -> tuple[Any, tuple[Tensor, ...]]:
        """(B, n, d) and mask (B, n) → what the network returns, and logits (B, values) of each label."""
        vectors: list[Tensor] = []
        # for this call alone: a hook that stays would go with every copy of the aggregator
        hook = self._last_layer().register_forward_pre_hook(lambda _, inputs: vectors.append(inputs[0]))
        try:
            output = self.network(feats, mask=mask)
        finally:
            hook.remove()
        return output, tuple(at_least_float32(layer(vectors[0])) for layer in self.layers)

    def _last_layer(self) -> nn.Linear:
        return [layer for layer in self.aggregator.head if isinstance(layer, nn.Linear)][-1]


class AuxiliaryLoss(nn.Module):
    """A loss plus, for each auxiliary label, the mean cross-entropy over the studies that have it.

    Args:
        loss: of what the network returns by itself.
        weight: of the sum over the labels, above 0.
    """

    def __init__(self, loss: nn.Module, *, weight: float) -> None:
        super().__init__()
        if not weight > 0:
            raise AggregationError(
                f"auxiliary_weight is {weight}; expected a number above 0, or no auxiliary labels"
            )
        self.loss = loss
        self.weight = weight

    def forward(self, output: tuple[Any, Sequence[Tensor]], target: tuple[Any, Tensor]) -> Tensor:
        """
        Args:
            output: of `WithAuxiliary`.
            target: of the loss by itself; and (B, K) int64, the value of each label, -1 where it has none.
        """
        (own, logits), (own_target, values) = output, target
        terms = [auxiliary_term(one, values[:, k]) for k, one in enumerate(logits)]
        return self.loss(own, own_target) + self.weight * torch.stack(terms).sum()


def auxiliary_term(logits: Tensor, values: Tensor) -> Tensor:
    """Mean cross-entropy over the studies with a value; 0 where none has.

    Args:
        logits: (B, values).
        values: (B,) int64, -1 for none.
    """
    known = values >= 0
    if not bool(known.any()):
        return logits.sum() * 0.0
    return F.cross_entropy(logits[known], values[known])
