"""Is the embedding still alive? Three figures of a batch of embeddings of two views.

Source of alignment and uniformity: Wang and Isola, arXiv 2005.10242. They are taken on the backbone's
embeddings, before the projector: its last batch norm spreads the projections even where the backbone gives
the same for everything.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: A feature deviation below this is named as a collapse.
COLLAPSED = 0.02


class Spread(NamedTuple):
    """Figures of L2-normalised embeddings.

    Attributes:
        feature_std: mean over dimensions of the standard deviation over the batch, times √d: 1 where the
            directions are spread evenly, 0 where all are equal.
        alignment: mean squared distance of the two views of a slice; 0 is best.
        uniformity: log of the mean of exp(−2 · squared distance) over pairs of slices; 0 where all are equal,
            lower is more even.
    """

    feature_std: float
    alignment: float
    uniformity: float


@torch.no_grad()
def spread(first: Tensor, second: Tensor) -> Spread:
    """The figures of the embeddings of two views, (B, d) each with B of 2 or more; others give NaN."""
    first, second = (F.normalize(x.float(), dim=1) for x in (first, second))
    alignment = (first - second).square().sum(dim=1).mean()
    if len(first) < 2:
        return Spread(math.nan, float(alignment), math.nan)
    both = torch.cat([first, second])
    deviation = both.std(dim=0, correction=0).mean() * math.sqrt(both.shape[1])
    uniformities = [
        torch.pdist(x).square().mul(-2).exp().mean().clamp(min=torch.finfo(torch.float32).tiny).log()
        for x in (first, second)
    ]
    return Spread(float(deviation), float(alignment), float(sum(uniformities) / 2))
