"""Several aggregators that answer as one: the folds of a cross-validation, as a head is deployed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from radclear.aggregation.mil import AggregationError


class EnsembleMIL(nn.Module):
    """Mean of the members' logits and of their attention.

    The mean of logits keeps the contract of a head, one set of logits that a calibration and
    `to_probabilities` turn into probabilities; for each class it is the geometric mean of the members' odds
    (multilabel) or, up to a common factor, of their probabilities (multiclass and ordinal).

    Attributes:
        attention: (B, n) of the last forward, the members' mean, detached; sums to 1 over a bag and is
            exactly 0 where masked.
    """

    def __init__(self, member: nn.Module, n_members: int) -> None:
        """
        Args:
            member: the aggregator of which each member is a copy, with weights of its own to be loaded.
            n_members: how many.
        """
        super().__init__()
        if n_members < 1:
            raise AggregationError(f"an ensemble of {n_members} members; expected 1 or more")
        self.embedding_dim: int = member.embedding_dim
        self.n_classes: int = member.n_classes
        self.n_windows: int = getattr(member, "n_windows", 1)
        self.n_members = n_members
        self.members = nn.ModuleList(copy.deepcopy(member) for _ in range(n_members))
        self.attention = torch.zeros(0, 0)

    def forward(self, feats: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            feats: (B, n, d) embeddings; values of padded instances do not matter.
            mask: (B, n) bool, True for real instances; all are real when omitted.

        Returns:
            (B, C) logits, float32 or better.
        """
        logits: list[torch.Tensor] = []
        attention: list[torch.Tensor] = []
        for member in self.members:
            logits.append(member(feats, mask))
            attention.append(member.attention)
        self.attention = torch.stack(attention).mean(dim=0)
        return torch.stack(logits).mean(dim=0)


def join_members(state_dicts: Iterable[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The state dict of an `EnsembleMIL` from those of its members, in order."""
    return {
        f"members.{number}.{name}": tensor
        for number, state_dict in enumerate(state_dicts)
        for name, tensor in state_dict.items()
    }
