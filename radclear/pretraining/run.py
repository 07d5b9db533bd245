"""A run of `train.json` from its first to its last step, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from radclear.bundle import started_from, store_backbone
from radclear.pretraining.distributed import barrier, rank
from radclear.pretraining.errors import ending_plainly
from radclear.pretraining.run_data import RunData, training_statement
from radclear.pretraining.run_state import Checkpoints
from radclear.pretraining.trainer import LeCLTrainer


def pretrain(
    trainer: LeCLTrainer,
    *,
    checkpoints: Checkpoints,
    resume: bool,
    data: RunData,
    backbone: nn.Module,
    bundle_root: str | Path,
    output_bundle: str | Path,
    demonstration: bool,
    settings: Mapping[str, Any],
    initial_weights: str | Path | None = None,
) -> None:
    """Train, or go on training, and put the backbone into its bundle.

    Args:
        trainer: with its handlers; writes checkpoints and logs.
        checkpoints: of the run.
        resume: go on from the run's checkpoint where there is one.
        data: that is trained on.
        backbone: that is trained.
        bundle_root, output_bundle, demonstration: see `radclear.bundle.store_backbone`.
        settings: for the record of the weights.
        initial_weights: that training started from, if any.

    Raises:
        SystemExit: code 2, after one plain sentence, where training cannot start or go on.
    """
    with ending_plainly():
        before = started_from(initial_weights)
        checkpoints.resume(trainer, resume=resume)
        trainer.run()
    if rank() == 0:
        loss = trainer.loss_function
        store_backbone(
            backbone,
            bundle_root=bundle_root,
            output_bundle=output_bundle,
            training=training_statement(
                data,
                weighting=loss.weighting,
                weight=loss.weight,
                steps=trainer.steps,
                batch=trainer.schedules.batch,
            ),
            demonstration=demonstration,
            n_studies=data.n_studies,
            settings=settings,
            started_from=before,
            patients=data.train.patients,
            seconds=checkpoints.seconds,
        )
    barrier()
