"""How learning rate and momentum change from the first to the last step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from radclear.pretraining.draws import EpochBatches
from radclear.pretraining.errors import PretrainingError

REFERENCE_BATCH = 256


@dataclass(frozen=True)
class Schedules:
    """Learning rate: linear warm-up, then half a cosine to 0. Momentum: half a cosine up to 1, or constant.

    Steps count from 0 and are optimiser steps, so that accumulated gradients count once.

    Attributes:
        learning_rate: for a batch of 256 slices; multiplied by the batch of one optimiser step over 256.
        batch: slices of one optimiser step, over all processes and accumulated micro-batches.
        total_steps: of the whole training.
        warm_up_steps: of the linear part.
        momentum: of the momentum network at the first step.
        cosine_momentum: let the momentum grow to 1.
    """

    learning_rate: float
    batch: int
    total_steps: int
    warm_up_steps: int = 0
    momentum: float = 0.99
    cosine_momentum: bool = True

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.batch < 1 or self.total_steps < 1:
            raise PretrainingError(
                f"learning_rate {self.learning_rate}, batch {self.batch} and total_steps "
                f"{self.total_steps} must all be above 0"
            )
        if not 0 <= self.warm_up_steps <= self.total_steps or not 0 <= self.momentum <= 1:
            raise PretrainingError(
                f"warm_up_steps is {self.warm_up_steps} of {self.total_steps} and momentum {self.momentum}; "
                "expected 0 to total_steps, and 0 to 1"
            )

    @classmethod
    def of_run(
        cls,
        batches: EpochBatches,
        *,
        max_epochs: int,
        learning_rate: float,
        warm_up_epochs: float,
        momentum: float,
        cosine_momentum: bool,
    ) -> Schedules:
        """The schedules of a run of `max_epochs` epochs of these batches."""
        return cls(
            learning_rate=learning_rate,
            batch=batches.step_size,
            total_steps=max_epochs * batches.steps,
            warm_up_steps=round(warm_up_epochs * batches.steps),
            momentum=momentum,
            cosine_momentum=cosine_momentum,
        )

    @property
    def peak(self) -> float:
        """Highest learning rate: linear in the batch."""
        return self.learning_rate * self.batch / REFERENCE_BATCH

    def learning_rate_at(self, step: int) -> float:
        """For the optimiser step with this number."""
        if step < self.warm_up_steps:
            return self.peak * (step + 1) / (self.warm_up_steps + 1)
        done = (step - self.warm_up_steps) / max(1, self.total_steps - self.warm_up_steps)
        return self.peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def momentum_at(self, step: int) -> float:
        """For the update after this many optimiser steps."""
        if not self.cosine_momentum:
            return self.momentum
        done = min(1.0, step / self.total_steps)
        return 1 - 0.5 * (1 + math.cos(math.pi * done)) * (1 - self.momentum)
