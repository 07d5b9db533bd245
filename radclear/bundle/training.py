"""Train a head on stored embeddings: keep the best weights, calibrate them, put them into a bundle."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import nn

from radclear.aggregation import without_class_weights
from radclear.bundle.calibration import describe_calibration, fit_calibration
from radclear.bundle.copying import copy_bundle
from radclear.bundle.location import BundleError, find_backbone
from radclear.bundle.weights import backbone_entry, store_weights, weights_file_for

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


def store_trained(
    best: BestWeights,
    *,
    bundle_root: str | Path,
    output_bundle: str | Path,
    backbone_bundle: str | Path,
    labels: str | Path,
    kind: str,
    classes: Sequence[str],
    demonstration: bool,
    studies: Mapping[str, Sized],
    settings: Mapping[str, Any],
    calibration: str = "temperature",
) -> str:
    """Calibrate the best weights on the validation studies and write them into a bundle.

    Args:
        best: after training.
        bundle_root: the head bundle that was trained.
        output_bundle: where the weights go: the same folder; or another, made as a copy where it is not
            there.
        backbone_bundle: as the config names it.
        labels: the label table, whose sha256 is recorded.
        kind, classes: of the head.
        demonstration: whether the weights only show how the software works.
        studies: split → its data set.
        settings: what training depended on, for the record.
        calibration: `temperature` or `isotonic`.

    Returns:
        sha256 of the weights.
    """
    state_dict, logits = best.unweighted()
    backbone = find_backbone(bundle_root, backbone_bundle)
    target = copy_bundle(bundle_root, output_bundle, backbone=backbone, changes={"kind": kind})
    fitted = fit_calibration(logits, best.labels, kind=kind, classes=classes, method=calibration)
    n_studies = {split: len(dataset) for split, dataset in studies.items()}
    counts = ", ".join(f"{count} {split}" for split, count in n_studies.items())
    provenance = {
        "demonstration": bool(demonstration),
        "training": f"Trained on stored slice embeddings ({counts} studies), number {best.best} "
        f"of {len(best.history)} validations with loss {best.best_loss:.4f}; "
        f"{describe_calibration(fitted)} from the validation studies.",
        "backbone": backbone_entry(backbone),
        **fitted,
        "labels_sha256": hashlib.sha256(Path(labels).read_bytes()).hexdigest(),
        "n_studies": n_studies,
        "settings": dict(settings),
    }
    file_name = weights_file_for(target, backbone_path=backbone)
    sha256 = store_weights(target, state_dict, provenance=provenance, file_name=file_name)
    history = json.dumps(best.history, indent=1) + "\n"
    (target / "models" / f"{Path(file_name).stem}_training.json").write_text(history, encoding="utf-8")
    print(
        f"best validation {best.best} of {len(best.history)}, loss {best.best_loss:.4f}; "
        f"weights in {target / 'models' / file_name}"
    )
    return sha256


def start_from(network: nn.Module, weights: str | Path | None) -> nn.Module:
    """The network with weights to go on from, loaded strictly; as it is where `weights` is None.

    Raises:
        BundleError: no such file, or weights of another network.
    """
    if weights is not None:
        if not Path(weights).is_file():
            raise BundleError(f"{weights} does not exist; expected the model.pt to start from")
        try:
            network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except RuntimeError as error:
            raise BundleError(f"{weights} does not fit this network: {error}") from error
    return network


def store_backbone(
    backbone: nn.Module,
    *,
    bundle_root: str | Path,
    output_bundle: str | Path,
    training: str,
    demonstration: bool,
    n_studies: Mapping[str, int],
    settings: Mapping[str, Any],
    initial_weights: str | Path | None = None,
) -> str:
    """Write a trained backbone's weights into its bundle, or into a copy of it.

    Args:
        backbone: as the bundle's `network_def` builds it.
        bundle_root: the backbone bundle that was trained.
        output_bundle: where the weights go: the same folder; or another, made as a copy where it is not
            there.
        training: how the weights were made, one or two sentences.
        demonstration: whether the weights only show how the software works.
        n_studies: split → number of studies.
        settings: what training depended on, for the record.
        initial_weights: the `model.pt` that training started from, if any; its sha256 goes on record.

    Returns:
        sha256 of the weights.
    """
    if initial_weights is not None:
        started_from = hashlib.sha256(Path(initial_weights).read_bytes()).hexdigest()
        settings = {**settings, "initial_weights_sha256": started_from}
    target = copy_bundle(bundle_root, output_bundle)
    provenance = {
        "demonstration": bool(demonstration),
        "training": training,
        "n_studies": dict(n_studies),
        "settings": dict(settings),
    }
    sha256 = store_weights(target, backbone.state_dict(), provenance=provenance)
    print(f"weights in {target / 'models' / 'model.pt'}")
    return sha256
