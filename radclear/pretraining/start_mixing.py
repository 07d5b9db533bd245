"""Weights between those that a training started from and those that it ended with."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from torch import nn

from radclear.pretraining.annotated_views import CohortError


class MixWithStart:
    """Handler of a MONAI trainer: when it ends, mix the weights of a network with those it started from.

    share · start + (1 − share) · trained, weight by weight, as WiSE-FT does (Wortsman et al. 2022, arXiv
    2109.01903, eq. 1): what the start knew and the training forgot comes back in part, and most of what was
    learnt stays. This works where one was trained from the other; expect nothing of unrelated weights.

    Args:
        network: whose weights, as they are now, are the start.
        share: of the start in the mixture, from 0 (nothing is done) to below 1.
        started_from: where those weights are from; None of random ones.

    Raises:
        CohortError: a share outside its range, or of a network that starts from random weights.
    """

    def __init__(self, network: nn.Module, *, share: float, started_from: object) -> None:
        if not isinstance(share, int | float) or not 0 <= share < 1:
            raise CohortError(f"start_share is {share!r}; expected 0 to below 1")
        if share and started_from is None:
            raise CohortError(f"start_share is {share} without initial_weights; name them, or leave it out")
        self.network = network
        self.share = share
        kept = network.state_dict().items() if share else ()
        self.start = {name: tensor.detach().cpu().clone() for name, tensor in kept}

    def attach(self, engine: Engine) -> None:
        """Run when `engine` has completed."""
        engine.add_event_handler(Events.COMPLETED, self)

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        trained = self.network.state_dict()
        for name, start in self.start.items():
            if start.is_floating_point():
                trained[name].lerp_(start.to(trained[name].device), self.share)
