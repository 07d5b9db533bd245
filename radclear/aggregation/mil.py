"""Bag of slice embeddings → study logits: three poolings that differ in how they score an instance.

Legend: B studies, n instances of the longest bag, d embedding dimension, h hidden dimension, C classes.
"""

from __future__ import annotations

import torch
from torch import nn

from radclear.aggregation.ordinal import CumulativeLogits
from radclear.errors import RadclearError


class AggregationError(RadclearError, ValueError):
    """A bag cannot be aggregated as it was given."""


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Half precision becomes float32; float32 and float64 stay."""
    return x.float() if x.dtype == torch.bfloat16 or x.dtype == torch.float16 else x


def last_layers(width: int, n_classes: int, kind: str) -> list[nn.Module]:
    """From a study's vector to its logits: a linear layer, and that of ordered classes where they are."""
    if kind == "ordinal":
        return [nn.Linear(width, 1), CumulativeLogits(n_classes)]
    if kind in ("multilabel", "multiclass"):
        return [nn.Linear(width, n_classes)]
    raise AggregationError(f"kind is {kind!r}; expected multilabel, multiclass or ordinal")


class MILAggregator(nn.Module):
    """Score the instances, softmax over the bag, weighted sum, classify; subclasses say how to score.

    Attributes:
        attention: (B, n) of the last forward, detached; sums to 1 over a bag and is exactly 0 where masked.
    """

    def __init__(
        self,
        embedding_dim: int,
        n_classes: int,
        *,
        hidden_dim: int = 256,
        dropout: float = 0.25,
        kind: str = "multilabel",
    ) -> None:
        """
        Args:
            embedding_dim: d, width of the instances.
            n_classes: C, number of logits.
            hidden_dim: h, width of the instance MLP, the attention and the head.
            dropout: probability of the head's dropout.
            kind: `"ordinal"` makes the C logits the log probabilities of ordered classes, see
                `radclear.aggregation.ordinal`; `"multilabel"` and `"multiclass"` heads are the same network.
        """
        super().__init__()
        self.embedding_dim = embedding_dim
        self.n_classes = n_classes
        self.instance = nn.Sequential(nn.Linear(embedding_dim, hidden_dim), nn.ReLU())
        self.head = nn.Sequential(
            nn.LayerNorm(hidden_dim),
            nn.Linear(hidden_dim, hidden_dim),
            nn.Dropout(dropout),
            nn.SiLU(),
        )
        self.head.extend(last_layers(hidden_dim, n_classes, kind))
        self.attention = torch.zeros(0, 0)

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, n, h) instances to (B, n) scores before the softmax."""
        raise NotImplementedError(f"score of {type(self).__name__}")

    def forward(self, feats: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            feats: (B, n, d) embeddings; values of padded instances do not matter.
            mask: (B, n) bool, True for real instances; all are real when omitted.

        Returns:
            (B, C) logits, float32 or better whatever the autocast dtype.

        Raises:
            AggregationError: wrong shapes, or a bag without a real instance.
        """
        hidden, attention = self.attend(feats, mask)
        self.attention = attention.detach()
        return self.classify(hidden, attention)

    def attend(
        self, feats: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, n, h) hidden instances and (B, n) attention with its gradient; otherwise as `forward`."""
        hidden = self.instance(self.checked(feats, mask))
        scores = at_least_float32(self.score(hidden))
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return hidden, torch.softmax(scores, dim=1)

    def checked(self, feats: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """The embeddings with zeros where padded; wrong shapes and empty bags are refused, see `forward`."""
        if feats.dim() != 3 or feats.shape[2] != self.embedding_dim:
            raise AggregationError(
                f"feats have shape {list(feats.shape)}; expected (studies, instances, {self.embedding_dim}): "
                "the head was made for embeddings of that width"
            )
        if feats.shape[1] == 0:
            raise AggregationError("the bags hold no instances; expected one or more per study")
        if mask is not None:
            if mask.shape != feats.shape[:2] or mask.dtype != torch.bool:
                raise AggregationError(
                    f"mask has shape {list(mask.shape)} and type {mask.dtype}; expected bool of shape "
                    f"{list(feats.shape[:2])}, True for real instances"
                )
            if not bool(mask.any(dim=1).all()):
                raise AggregationError("a bag is fully masked: leave studies without slices out of the batch")
            feats = feats.masked_fill(~mask.unsqueeze(2), 0.0)
        return feats

    def classify(self, hidden: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        """Hidden instances and attention, as `attend` returns them, to (B, C) logits."""
        # elementwise, not a matrix product: autocast would take the sum over hundreds of slices to half
        # precision
        pooled = (attention.unsqueeze(2) * at_least_float32(hidden)).sum(dim=1)
        return at_least_float32(self.head(pooled))


class AttentionMIL(MILAggregator):
    """Attention pooling as in CLEAR: w · tanh(V h), Ilse et al. 2018 (arXiv 1802.04712) eq. 8."""

    def __init__(
        self,
        embedding_dim: int,
        n_classes: int,
        *,
        hidden_dim: int = 256,
        dropout: float = 0.25,
        kind: str = "multilabel",
    ) -> None:
        super().__init__(embedding_dim, n_classes, hidden_dim=hidden_dim, dropout=dropout, kind=kind)
        self.scorer = nn.Sequential(nn.Linear(hidden_dim, hidden_dim), nn.Tanh(), nn.Linear(hidden_dim, 1))

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.scorer(hidden).squeeze(2)


class GatedAttentionMIL(MILAggregator):
    """Gated attention pooling: w · (tanh(V h) ⊙ sigmoid(U h)), Ilse et al. 2018 (arXiv 1802.04712) eq. 9."""

    def __init__(
        self,
        embedding_dim: int,
        n_classes: int,
        *,
        hidden_dim: int = 256,
        dropout: float = 0.25,
        kind: str = "multilabel",
    ) -> None:
        super().__init__(embedding_dim, n_classes, hidden_dim=hidden_dim, dropout=dropout, kind=kind)
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.gate = nn.Linear(hidden_dim, hidden_dim)
        self.weight = nn.Linear(hidden_dim, 1)

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.weight(torch.tanh(self.value(hidden)) * torch.sigmoid(self.gate(hidden))).squeeze(2)


class MeanPoolMIL(MILAggregator):
    """The baseline without attention: every instance counts the same."""

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.zeros(hidden.shape[:2], dtype=hidden.dtype, device=hidden.device)
