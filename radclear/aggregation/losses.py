"""What a head is trained to minimise, and how its logits become probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from radclear.aggregation.mil import AggregationError

KINDS = ("multilabel", "multiclass", "ordinal")


def check_kind(kind: str) -> str:
    """`kind` itself, or an error that names those there are."""
    if kind not in KINDS:
        raise AggregationError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    return kind


def to_probabilities(logits: torch.Tensor, kind: str) -> torch.Tensor:
    """(..., C) logits to (..., C) probabilities, float32 or better.

    Args:
        logits: what a head returns.
        kind: `"multilabel"`: each class for itself (sigmoid); `"multiclass"` and `"ordinal"`: one of the
            classes (softmax).
    """
    if not logits.is_floating_point() or logits.dtype.itemsize < 4:
        logits = logits.float()
    return logits.sigmoid() if check_kind(kind) == "multilabel" else logits.softmax(dim=-1)


def _weight_tensor(weights: torch.Tensor | Sequence[float] | None) -> torch.Tensor | None:
    if weights is None:
        return None
    weights = torch.as_tensor(weights, dtype=torch.float32)
    if weights.dim() != 1 or not bool((weights.isfinite() & (weights >= 0)).all()):
        raise AggregationError(
            f"weights are {weights.tolist()}; expected one finite non-negative number per class"
        )
    return weights


class MultilabelLoss(nn.Module):
    """Binary cross-entropy on logits, mean over studies and classes."""

    def __init__(self, *, pos_weight: torch.Tensor | Sequence[float] | None = None) -> None:
        """
        Args:
            pos_weight: (C,) factor of each class's positives, n_negative / n_positive to balance them
                (`radclear.cohort.pos_weight`).
        """
        super().__init__()
        self.register_buffer("pos_weight", _weight_tensor(pos_weight), persistent=False)

    @property
    def weights(self) -> torch.Tensor | None:
        """The `pos_weight`."""
        return self.pos_weight

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B, C) logits and (B, C) labels of 0 and 1 to a scalar, float32 or better."""
        logits = logits.float() if logits.dtype.itemsize < 4 else logits
        if logits.shape != labels.shape:
            raise AggregationError(
                f"logits have shape {list(logits.shape)} and labels {list(labels.shape)}; expected the same: "
                "a column of 0 and 1 for each class"
            )
        weight = None if self.pos_weight is None else self.pos_weight.to(logits)
        return functional.binary_cross_entropy_with_logits(logits, labels.to(logits), pos_weight=weight)


class MulticlassLoss(nn.Module):
    """Cross-entropy, mean over studies (weighted mean with class weights)."""

    def __init__(self, *, class_weight: torch.Tensor | Sequence[float] | None = None) -> None:
        """
        Args:
            class_weight: (C,) factor of each class's studies (`radclear.cohort.class_weight`).
        """
        super().__init__()
        self.register_buffer("class_weight", _weight_tensor(class_weight), persistent=False)

    @property
    def weights(self) -> torch.Tensor | None:
        """The `class_weight`."""
        return self.class_weight

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B, C) logits and (B,) class indices to a scalar, float32 or better."""
        logits = logits.float() if logits.dtype.itemsize < 4 else logits
        if labels.shape != logits.shape[:1]:
            raise AggregationError(
                f"logits have shape {list(logits.shape)} and labels {list(labels.shape)}; expected one class "
                "index per study"
            )
        weight = None if self.class_weight is None else self.class_weight.to(logits)
        return functional.cross_entropy(logits, labels.long(), weight=weight)


def build_loss(kind: str, *, weights: torch.Tensor | Sequence[float] | None = None) -> nn.Module:
    """The loss of a kind of task; `weights` are its `pos_weight` or its `class_weight`.

    The logits of an ordinal head are log probabilities, so that cross-entropy is its negative log likelihood.
    """
    if check_kind(kind) == "multilabel":
        return MultilabelLoss(pos_weight=weights)
    return MulticlassLoss(class_weight=weights)
