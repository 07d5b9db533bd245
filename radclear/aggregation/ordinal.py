"""Ordered classes: a cumulative logit model as the last layer of a head, and its cumulative logits back.

Proportional odds, McCullagh 1980 (J. R. Stat. Soc. B 42, 109-142): logit P(Y > k) = f(x) - θ_k with one
latent score f and increasing cut points θ_1 < … < θ_{C-1}. A head hands out the C log probabilities of the
classes, so that everything behind it treats them as the logits of a softmax; `cumulative_logits` finds
f - θ_k in them again.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

MIN_GAP = 1e-3  # between cut points, so that no class has probability 0 for every study


class CumulativeLogits(nn.Module):
    """(B, 1) latent scores → (B, C) log probabilities of C ordered classes."""

    def __init__(self, n_classes: int) -> None:
        """
        Args:
            n_classes: C, two or more; at the start all classes are equally likely at score 0.
        """
        super().__init__()
        if n_classes < 2:
            raise ValueError(f"an ordinal head has {n_classes} classes; expected two or more")
        cuts = [math.log((k + 1) / (n_classes - k - 1)) for k in range(n_classes - 1)]
        gaps = [math.log(math.expm1(b - a - MIN_GAP)) for a, b in zip(cuts, cuts[1:], strict=False)]
        self.min_gap = MIN_GAP
        self.first = nn.Parameter(torch.tensor([cuts[0]]))
        self.gaps = nn.Parameter(torch.tensor(gaps))

    def cut_points(self) -> torch.Tensor:
        """(C-1,) increasing θ."""
        return torch.cat([self.first, functional.softplus(self.gaps) + self.min_gap]).cumsum(0)

    def forward(self, score: torch.Tensor) -> torch.Tensor:
        """
        Args:
            score: (B, 1) f(x).

        Returns:
            (B, C) log probabilities, float32 or better. With g_k = f - θ_k and σ(a) - σ(b) =
            σ(a) σ(-b) (1 - exp(b - a)), none is a difference of nearly equal numbers.
        """
        if score.dtype == torch.bfloat16 or score.dtype == torch.float16:
            score = score.float()
        cuts = self.cut_points()
        g = score - cuts
        above = functional.pad(functional.logsigmoid(g), [1, 0])
        below = functional.pad(functional.logsigmoid(-g), [0, 1])
        gap = torch.log(-torch.expm1(cuts[:-1] - cuts[1:]))
        return above + below + functional.pad(gap, [1, 1])


def cumulative_logits(logits: torch.Tensor) -> torch.Tensor:
    """logit P(Y > k) of ordered classes.

    Args:
        logits: (…, C) logits of a softmax over the classes, lowest class first.

    Returns:
        (…, C-1), decreasing along the last axis: the log odds of the classes above k against the others.
    """
    up_to = torch.logcumsumexp(logits, dim=-1)[..., :-1]
    above = torch.logcumsumexp(logits.flip(-1), dim=-1).flip(-1)[..., 1:]
    return above - up_to


def class_probabilities(exceeding: torch.Tensor) -> torch.Tensor:
    """(…, C-1) P(Y > k), decreasing along the last axis, to (…, C) probabilities of the classes, sum 1."""
    padded = functional.pad(functional.pad(exceeding, [1, 0], value=1.0), [0, 1], value=0.0)
    return padded[..., :-1] - padded[..., 1:]
