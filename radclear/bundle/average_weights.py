"""A running mean of a network's weights, which is validated and kept in place of the last step's."""

from __future__ import annotations

import copy

import torch
from ignite.engine import Engine, Events
from torch import nn

from radclear.bundle.location import BundleError


class AverageWeights:
    """Exponential moving average of the weights over the steps of a training; a handler of the trainer.

    After step n each weight's mean m becomes d · m + (1 − d) · w, with d = min(decay, (1 + n) / (10 + n)), so
    that a short training is not held back by its random start. Averages over late steps of a stochastic
    descent lie nearer the optimum than the last step (Polyak and Juditsky 1992, doi:10.1137/0330046).

    Attributes:
        network: a copy of the network with the mean weights, in eval mode until a caller changes it.
        trained: the network that is trained.
        decay, steps: d's bound above, and the steps that were taken.
    """

    def __init__(self, network: nn.Module, *, decay: float = 0.0) -> None:
        """
        Args:
            network: the network that is trained.
            decay: d above, from 0 (the mean is the last step's weights) to below 1; 0.99 looks back some
                hundred steps.

        Raises:
            BundleError: a decay outside its range.
        """
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
            raise BundleError(f"average_decay is {decay!r}; expected a number from 0 to below 1")
        self.trained = network
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.steps = 0

    def attach(self, engine: Engine) -> None:
        """Take each step of the trainer into the mean."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        """Take the weights as they are now into the mean."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        trained = self.trained.state_dict()
        for name, mean in self.network.state_dict().items():
            new = trained[name].to(mean.device)
            if mean.is_floating_point():
                mean.lerp_(new, share)
            else:
                mean.copy_(new)
