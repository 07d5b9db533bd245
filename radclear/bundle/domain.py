"""Which studies a head knows: how far the embeddings of one lie from those of its training.

With v(study) the means and the standard deviations of the embeddings over the slices, window by window
(2·W·d numbers), and with m and s the mean and the standard deviation of v over the training studies,

    distance = sqrt(mean(((v - m) / s)²))

the Mahalanobis distance with a diagonal covariance, per dimension: about 1 for a study like those of the
training. Whatever the head answers to a study that lies farther away than any study of its training says
little, however sure it sounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PREFIX = "domain."
MIN_STUDIES = 20  # of fewer, spread and limit say nothing
ROOM = 1.1  # over the largest distance known: arithmetic in another precision is no other study
_SMALLEST_SPREAD = 0.05  # of the median spread: a dimension that stood still must not decide alone


@dataclass(frozen=True)
class Domain:
    """The studies of a training, in three tensors.

    Attributes:
        mean, spread: (2·W·d,) float64, of `describe` over the training studies.
        limit: the largest distance among the studies of the training, those of validation included, and
            `ROOM`.
    """

    mean: Tensor
    spread: Tensor
    limit: float

    @classmethod
    def fit(cls, training: Sequence[Tensor], validation: Sequence[Tensor] = ()) -> Domain | None:
        """The domain of studies; None where there are fewer than `MIN_STUDIES` to learn it from.

        Args:
            training: of each study what `describe` says.
            validation: further ones that count as known.
        """
        if len(training) < MIN_STUDIES:
            return None
        known = torch.stack(list(training)).double()
        spread = known.std(dim=0, unbiased=False)
        spread = spread.clamp(min=max(_SMALLEST_SPREAD * float(spread.median()), torch.finfo().tiny))
        domain = cls(known.mean(dim=0), spread, 0.0)
        farthest = max(domain.distance(study) for study in (*training, *validation))
        return cls(domain.mean, domain.spread, ROOM * farthest)

    def distance(self, described: Tensor) -> float:
        """Distance of a study; see `describe`."""
        z = (described.double().cpu() - self.mean) / self.spread
        return float(z.square().mean().sqrt())

    def tensors(self) -> dict[str, Tensor]:
        """As they lie in the head's weight file, so that its sha256 covers them."""
        limit = torch.tensor(self.limit, dtype=torch.float64)
        parts = {"mean": self.mean, "spread": self.spread, "limit": limit}
        return {PREFIX + name: tensor.float() for name, tensor in parts.items()}

    @classmethod
    def of(cls, state_dict: Mapping[str, Tensor]) -> Domain | None:
        """The domain in a head's weights; None where they hold none."""
        if PREFIX + "limit" not in state_dict:
            return None
        mean, spread, limit = (state_dict[PREFIX + name].double() for name in ("mean", "spread", "limit"))
        return cls(mean, spread, float(limit))


def describe(feats: Tensor, n_windows: int) -> Tensor:
    """What the domain looks at of a study.

    Args:
        feats: (Z·W, d) embeddings, windows of a slice beside each other.
        n_windows: W.

    Returns:
        (2·W·d,) float64: mean over slices, then standard deviation.
    """
    slices = feats.detach().double().cpu().unflatten(0, (-1, n_windows))
    return torch.cat([slices.mean(dim=0).flatten(), slices.std(dim=0, unbiased=False).flatten()])
