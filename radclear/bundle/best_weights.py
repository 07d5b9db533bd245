"""While a head trains: keep a copy of the best weights, and stop when they get no better."""

from __future__ import annotations

import logging

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import nn

from radclear.aggregation import without_class_weights
from radclear.bundle.location import BundleError

logger = logging.getLogger(__name__)


class BestWeights:
    """Keeps a copy of the weights at the lowest validation loss; a handler of the validation engine.

    Attributes:
        history: per validation `validation` (its number from 1), `train_loss` (mean since the one before) and
            `validation_loss`.
        best: number of the validation with the kept weights; 0 before the first.
        state_dict: the kept weights, copied.
        logits, labels: of the validation studies at that time.
        train_losses: since the last validation.
    """

    def __init__(self, network: nn.Module, loss: nn.Module) -> None:
        """
        Args:
            network: whose weights are kept.
            loss: logits and labels → scalar, the mean over studies.
        """
        self.network = network
        self.loss = loss
        self.history: list[dict[str, float]] = []
        self.best = 0
        self.state_dict: dict[str, torch.Tensor] = {}
        self.logits = torch.empty(0)
        self.labels = torch.empty(0)
        self.train_losses: list[float] = []
        self._batches: list[tuple[torch.Tensor, torch.Tensor]] = []

    def attach(self, engine: Engine) -> None:
        """Listen to the validation engine."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self._batches.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._judge)

    def _collect(self, engine: Engine) -> None:
        output = engine.state.output
        self._batches.append((output["pred"].detach().float().cpu(), output["label"].detach().cpu()))

    def _judge(self, engine: Engine) -> None:
        logits = torch.cat([batch[0] for batch in self._batches])
        labels = torch.cat([batch[1] for batch in self._batches])
        loss = float(self.loss(logits, labels))
        if not np.isfinite(loss):
            raise BundleError(
                f"the validation loss is {loss}; lower the learning rate, or look for broken embeddings"
            )
        train_loss = float(np.mean(self.train_losses)) if self.train_losses else None
        self.train_losses.clear()
        is_best = not self.history or loss < self.best_loss
        number = len(self.history) + 1  # of validations, between which there may be several epochs
        self.history.append({"validation": number, "train_loss": train_loss, "validation_loss": loss})
        logger.info(
            "validation %d: training loss %s, validation loss %.4f%s",
            number,
            "unknown" if train_loss is None else f"{train_loss:.4f}",
            loss,
            ", best so far" if is_best else "",
        )
        if is_best:
            self.best = len(self.history)
            self.state_dict = {
                name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()
            }
            self.logits, self.labels = logits, labels

    def unweighted(self) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The kept weights and their validation logits, without the shift that the loss's class weights make.

        Raises:
            BundleError: training ended before the first validation.
        """
        if not self.state_dict:
            raise BundleError("training ended before the first validation, so there are no weights to keep")
        weights = getattr(self.loss, "weights", None)
        if weights is None:
            return dict(self.state_dict), self.logits
        state_dict = without_class_weights(self.network, self.state_dict, weights.cpu())
        return state_dict, self.logits - weights.cpu().log().to(self.logits.dtype)

    @property
    def best_loss(self) -> float:
        """The lowest validation loss so far."""
        return self.history[self.best - 1]["validation_loss"]

    @property
    def validations_without_gain(self) -> int:
        """How many validations ago the lowest loss was."""
        return len(self.history) - self.best


class StopEarly:
    """Ends training when the validation loss has not fallen for a while; the last handler of the trainer."""

    def __init__(self, best: BestWeights, *, patience: int = 8) -> None:
        """
        Args:
            best: attached to the validation engine; is told the training losses.
            patience: training ends after so many validations in a row without a lower loss.
        """
        self.best = best
        self.patience = patience

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer."""
        engine.add_event_handler(
            Events.ITERATION_COMPLETED,
            lambda e: self.best.train_losses.append(float(e.state.output["loss"].detach())),
        )
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._judge)

    def _judge(self, engine: Engine) -> None:
        if self.best.history and self.best.validations_without_gain >= self.patience:
            logger.info("no lower validation loss in %d validations; training ends", self.patience)
            engine.terminate()
