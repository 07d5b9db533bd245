"""The training engine of LeCL: micro-batches, optimiser steps, and the momentum copy's update after each."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from radclear.pretraining.collapse import Spread, spread
from radclear.pretraining.criterion import mean_over_processes
from radclear.pretraining.distributed import unwrapped
from radclear.pretraining.errors import PretrainingError
from radclear.pretraining.momentum import MomentumNetwork
from radclear.pretraining.schedules import Schedules

logger = logging.getLogger("radclear.training")


class LeCLTrainer(Trainer):
    """A MONAI trainer whose iteration is one micro-batch; every `accumulation`-th ends an optimiser step.

    Its `state.output` after the last micro-batch of a step has `loss` (over all processes and micro-batches),
    `learning_rate`, `momentum`, `gradient_norm` (before clipping) and `spread`; it is empty after the others,
    and where scaled gradients overflowed: then parameters, momentum copy and schedules stay where they are.

    Attributes:
        steps: optimiser steps done.
        skipped: of this process's life: times that a gradient was too large for float16.
    """

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: DataLoader,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Callable[..., Tensor],
        schedules: Schedules,
        *,
        inferer: Callable[..., Any],
        accumulation: int = 1,
        max_norm: float | None = 1.0,
        train_handlers: Sequence[Any] = (),
    ) -> None:
        """
        Args:
            device: of the network and batches.
            max_epochs: of the whole run, also of one that is resumed.
            train_data_loader: batches of `SlicePairs`, drawn by `EpochBatches`.
            network: `MomentumNetwork` as `distribute` returned it.
            optimizer: of its `trained_parameters`.
            loss_function: as `LeCLLoss`.
            schedules: of learning rate and momentum.
            inferer: MONAI inferer, called with the first view, the network and the second view.
            accumulation: micro-batches per optimiser step. Each is contrasted within itself: more of them
                smooth the gradient and add no negatives.
            max_norm: of the gradient over all parameters, which longer ones are scaled to; None for no limit.
            train_handlers: MONAI or ignite handlers.
        """
        super().__init__(
            device, max_epochs, train_data_loader, handlers=train_handlers, decollate=False, non_blocking=True
        )
        self.network, self.optimizer, self.loss_function = network, optimizer, loss_function
        self.schedules, self.inferer = schedules, inferer
        self.accumulation, self.max_norm = accumulation, max_norm
        self.grad_scaler = torch.amp.GradScaler(
            torch.device(device).type, enabled=self.momentum_network.dtype == torch.float16
        )
        self.steps = self.skipped = 0
        self._losses: list[Tensor] = []

    @property
    def momentum_network(self) -> MomentumNetwork:
        """The network without what spreads it over processes."""
        return unwrapped(self.network)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done."""
        return self.state.iteration >= self.state.max_epochs * self.state.epoch_length

    def run(self) -> None:
        """Train to the last epoch, from wherever the state stands."""
        if not self.is_finished:
            super().run()

    def _iteration(self, engine: Engine, batchdata: dict[str, Tensor]) -> dict[str, Any]:
        batch = {
            key: value.to(self.state.device, non_blocking=self.non_blocking)
            for key, value in batchdata.items()
        }
        self.network.train()
        last = self.state.iteration % self.accumulation == 0
        with self._local_gradients(until_last=not last):
            pairs = self.inferer(batch["view_1"], self.network, batch["view_2"])
            engine.fire_event(IterationEvents.FORWARD_COMPLETED)
            loss = self.loss_function(pairs, batch)
            engine.fire_event(IterationEvents.LOSS_COMPLETED)
            self.grad_scaler.scale(loss / self.accumulation).backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self._losses.append(loss.detach())
        if not last:
            return {}
        output = self._step(spread(pairs.e1, pairs.e2))
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output

    def _local_gradients(self, *, until_last: bool) -> contextlib.AbstractContextManager:
        """Processes exchange gradients once per optimiser step."""
        if until_last and isinstance(self.network, DistributedDataParallel):
            return self.network.no_sync()
        return contextlib.nullcontext()

    def _skipped(self) -> None:
        """A gradient too large for float16: nothing moves on but the scale."""
        self.skipped += 1
        scale = self.grad_scaler.get_scale()
        logger.info(
            "the gradient was too large for float16 behind step %d: no step, scale is now %g",
            self.steps,
            scale,
        )
        if scale < 1:
            raise PretrainingError(
                f"the gradient is not finite behind step {self.steps} even scaled by {2 * scale:g}; lower "
                "--learning_rate, or use --precision bfloat16 or float32. The last checkpoint is from before"
            )

    def _step(self, figures: Spread) -> dict[str, Any]:
        loss = mean_over_processes(torch.stack(self._losses).mean())
        self._losses.clear()
        if loss - loss != 0:
            raise PretrainingError(
                f"the loss is {loss} at step {self.steps + 1}; lower --learning_rate, or use --precision "
                "float32 if it was lower. The last checkpoint is from before"
            )
        learning_rate = self.schedules.learning_rate_at(self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.grad_scaler.unscale_(self.optimizer)
        parameters = self.momentum_network.trained_parameters()
        norm = nn.utils.clip_grad_norm_(parameters, float("inf") if self.max_norm is None else self.max_norm)
        if not self.grad_scaler.is_enabled() and not torch.isfinite(norm):
            raise PretrainingError(
                f"the gradient is {float(norm)} at step {self.steps + 1}; lower --learning_rate, or use "
                "--precision float32 if it was lower. The last checkpoint is from before"
            )
        scale = self.grad_scaler.get_scale()
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.grad_scaler.get_scale() < scale:  # how torch says that it skipped the optimiser
            self._skipped()
            return {}
        momentum = self.schedules.momentum_at(self.steps)
        self.momentum_network.update(momentum)
        self.steps += 1
        return {
            "loss": loss,
            "learning_rate": learning_rate,
            "momentum": momentum,
            "gradient_norm": float(norm),
            "spread": figures,
        }
