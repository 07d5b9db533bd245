"""Pieces of MONAI engines for inference over studies: evaluator, inferer of backbones, writers."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.config import KeysCollection
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.transforms import MapTransform
from torch import nn

from radclear.backbones import embed_slices, resolve_precision
from radclear.bundle.dataset import FAILURE
from radclear.bundle.embedding_run import EmbeddingRun
from radclear.bundle.loaded import Head
from radclear.bundle.predict import StudyPrediction
from radclear.bundle.predict_many import write_prediction
from radclear.bundle.run_record import StudyRun
from radclear.cohort.same_study import study_identity
from radclear.cohort.store import instance_coords
from radclear.ct import Study, StudySource
from radclear.results import build_result

logger = logging.getLogger(__name__)


class StudyEvaluator(SupervisedEvaluator):
    """MONAI's evaluator, which goes on with the next study where one fails.

    `engine.state.output` of a failed study is `{"failure": error}`.
    """

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> dict:
        failure = batchdata.get(FAILURE)
        start = time.perf_counter()
        if failure is None:
            try:
                output = super()._iteration(engine, batchdata)
                batchdata.setdefault("seconds", {})["infer"] = time.perf_counter() - start
                return output
            except Exception as error:  # whatever is wrong with one study, the others go on
                failure = error
        engine.state.output = {FAILURE: failure}
        return engine.state.output


def prepare_study(
    batchdata: dict[str, Any],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The image of a batch on the device; studies to be answered have no label."""
    return batchdata["image"].to(device=device, non_blocking=non_blocking, **kwargs), None


class EmbeddingInferer(Inferer):
    """Slices of one study → embeddings, in chunks."""

    def __init__(
        self, *, device: str | torch.device = "cpu", precision: str = "auto", batch_size: int = 8
    ) -> None:
        """
        Args:
            device: where the backbone computes.
            precision: see `radclear.backbones.resolve_precision`.
            batch_size: slices per forward pass.
        """
        super().__init__()
        self.device = device
        self.precision = precision
        self.batch_size = batch_size

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(1, W, Z, S, S) uint8 → (1, Z·W, d) float32."""
        return embed_slices(
            network, inputs[0], device=self.device, precision=self.precision, batch_size=self.batch_size
        ).unsqueeze(0)


class Probabilitiesd(MapTransform):
    """Logits under each key become probabilities as the head defines them."""

    def __init__(self, keys: KeysCollection, *, head: Head, allow_missing_keys: bool = False) -> None:
        """
        Args:
            keys: where the logits are.
            head: its kind and temperature count.
            allow_missing_keys: see `monai.transforms.MapTransform`.
        """
        super().__init__(keys, allow_missing_keys)
        self.head = head

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes, float64."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.head.probabilities(out[key])
        return out


class StudyWriter:
    """After each study: what the engine found, or the failure, into the run; `write` says how."""

    def __init__(self, run: StudyRun) -> None:
        """
        Args:
            run: keeps the books.
        """
        self.run = run

    def attach(self, engine: Engine) -> None:
        """Listen to the engine."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write what the engine has in its state."""
        batch, output = engine.state.batch, engine.state.output
        source = batch["source"]
        try:
            if output.get(FAILURE) is not None:
                raise output[FAILURE]
            self.write(source, batch["study"], output["pred"], batch["seconds"])
        except Exception as error:  # whatever is wrong with one study, the others go on
            self.run.fail(source, error)
            logger.debug("%s", source.key, exc_info=True)

    def write(
        self, source: StudySource, study: Study, prediction: torch.Tensor, seconds: dict[str, float]
    ) -> None:
        """Put a prediction, (1, …), where it belongs, and tell the run."""
        raise NotImplementedError


class ResultWriter(StudyWriter):
    """After each study: result document and page of one head, or the failure, into the run."""

    def __init__(
        self, run: StudyRun, *, head: Head, device: str | torch.device, precision: str = "auto"
    ) -> None:
        """
        Args:
            run: keeps the books.
            head: whose answer it is; its network must be the engine's.
            device: where the network computes, as provenance.
            precision: as the network has it.
        """
        super().__init__(run)
        self.head = head
        self.device = torch.device(device)
        self.precision = str(resolve_precision(precision, device)).removeprefix("torch.")

    def write(
        self, source: StudySource, study: Study, prediction: torch.Tensor, seconds: dict[str, float]
    ) -> None:
        """Result document and page; `prediction` is (1, C)."""
        network = self.head.network
        answer = self.head.answer(prediction, network.attention, network.embeddings, precision=self.precision)
        result = build_result(
            study,
            [answer],
            study_key=source.key,
            seconds=seconds,
            device=str(self.device),
            identifiers=self.run.identifiers,
        )
        write_prediction(self.run, source, StudyPrediction(study, (answer,), result, seconds))


class EmbeddingWriter(StudyWriter):
    """After each study: its embeddings into the store of an `EmbeddingRun`, or the failure into the run."""

    run: EmbeddingRun

    def write(
        self, source: StudySource, study: Study, prediction: torch.Tensor, seconds: dict[str, float]
    ) -> None:
        """HDF5 file of the store; `prediction` is (1, Z·W, d)."""
        start = time.perf_counter()
        attributes = {
            **self.run.attributes,
            **study_identity(source, series_hash=study.series_hash),
            "warnings": tuple(finding.code for finding in study.findings if finding.severity == "warning"),
        }
        coords = instance_coords(study.z_mm, len(self.run.attributes["windows"]))
        self.run.store.write(source.key, prediction[0], coords, attributes)
        seconds["write"] = time.perf_counter() - start
        self.run.done(source, seconds=seconds)
