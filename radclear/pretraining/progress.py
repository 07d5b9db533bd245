"""What a run reports: table rows and lines of its steps, TensorBoard where wanted, a word on a collapse."""

from __future__ import annotations

import csv
import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from radclear.errors import MissingDependencyError
from radclear.pretraining.collapse import COLLAPSED
from radclear.pretraining.distributed import rank
from radclear.pretraining.trainer import LeCLTrainer

logger = logging.getLogger("radclear.training")
FILE = "log.csv"
_BAR = 20  # characters
COLUMNS = (
    "step", "epoch", "loss", "learning_rate", "momentum", "gradient_norm", "feature_std", "alignment",
    "uniformity", "images_per_s", "data_wait_share",
)  # fmt: skip


class TableLog:
    """A CSV table that grows by rows and forgets those behind the step that a run goes on from."""

    def __init__(self, path: Path, columns: tuple[str, ...], *, after_step: int) -> None:
        """
        Args:
            path: of the table.
            columns: the first is `step`.
            after_step: rows of later steps are dropped: they will be written again.
        """
        self.path, self.columns = path, columns
        kept: list[dict[str, str]] = []
        if after_step and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if all(row.get(name) for name in columns)]
            kept = [row for row in rows if int(row["step"]) <= after_step]
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        os.replace(temporary, path)

    def append(self, row: Mapping[str, Any]) -> None:
        """One row, on disk when this returns to the operating system."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)


class Progress:
    """Handler of a `LeCLTrainer`: `log.csv`, a line every few steps, TensorBoard; by the first process alone.

    `data_wait_share` is the part of a step's time in which the network waited for slices: near 0 the data
    keep up, near 1 more `num_workers` are needed.
    """

    def __init__(self, folder: str | Path, *, every_steps: int = 10, tensorboard: bool = False) -> None:
        """
        Args:
            folder: of the run.
            every_steps: steps between lines.
            tensorboard: also write event files.

        Raises:
            MissingDependencyError: TensorBoard is wanted and not installed.
        """
        self.folder = Path(folder)
        self.every_steps = max(1, every_steps)
        self._writer = None
        self._table: TableLog | None = None
        self._tensorboard = tensorboard and rank() == 0
        if self._tensorboard:
            try:
                import torch.utils.tensorboard  # noqa: F401
            except ImportError as error:
                raise MissingDependencyError("tensorboard", purpose="write event files") from error
        self._waited = self._asked = 0.0
        self._since = time.perf_counter()
        self._collapsed = False

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer, in the first process."""
        if rank():
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._got)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._report)
        engine.add_event_handler(Events.COMPLETED, self._end)

    def _start(self, engine: LeCLTrainer) -> None:
        self._table = TableLog(self.folder / FILE, COLUMNS, after_step=engine.steps)
        if self._tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=engine.steps + 1)
        self._waited, self._since = 0.0, time.perf_counter()

    def _ask(self, engine: LeCLTrainer) -> None:
        self._asked = time.perf_counter()

    def _got(self, engine: LeCLTrainer) -> None:
        self._waited += time.perf_counter() - self._asked

    def _report(self, engine: LeCLTrainer) -> None:
        output = engine.state.output
        if not output or self._table is None:
            return
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        row = {
            "step": engine.steps,
            "epoch": engine.state.epoch,
            **{name: output[name] for name in ("loss", "learning_rate", "momentum", "gradient_norm")},
            **output["spread"]._asdict(),
            "images_per_s": round(engine.schedules.batch / seconds, 3),
            "data_wait_share": round(min(1.0, self._waited / seconds), 4),
        }
        self._waited, self._since = 0.0, now
        self._table.append(row)
        if self._writer is not None:
            for name in COLUMNS[2:]:
                self._writer.add_scalar(name, row[name], engine.steps)
        if engine.steps % self.every_steps == 0 or engine.steps in (1, engine.schedules.total_steps):
            logger.info("%s", line(row, engine))
        self._warn(row["feature_std"])

    def _warn(self, deviation: float) -> None:
        collapsed = not math.isnan(deviation) and deviation < COLLAPSED
        if collapsed and not self._collapsed:
            logger.warning(
                "the embeddings of all slices are nearly equal (feature_std %.4f, 1 is even): the encoder "
                "has collapsed. Lower the learning rate, lengthen the warm-up or start from other weights",
                deviation,
            )
        self._collapsed = collapsed

    def _end(self, engine: LeCLTrainer) -> None:
        if self._writer is not None:
            self._writer.close()


def line(row: Mapping[str, Any], engine: LeCLTrainer) -> str:
    """One row in words, with a bar of how far the run is."""
    total = engine.schedules.total_steps
    share = row["step"] / total
    bar = "#" * round(_BAR * share)
    left = (total - row["step"]) * engine.schedules.batch / max(row["images_per_s"], 1e-9)
    return (
        f"epoch {row['epoch']}/{engine.state.max_epochs} [{bar:-<{_BAR}}] step "
        f"{row['step']}/{total} ({100 * share:.0f} %) loss {row['loss']:.4f} lr {row['learning_rate']:.2e} "
        f"momentum {row['momentum']:.4f} | {row['images_per_s']:.1f} images/s, waiting for data "
        f"{100 * row['data_wait_share']:.0f} %, {left / 60:.0f} min left | std {row['feature_std']:.3f} "
        f"alignment {row['alignment']:.3f} uniformity {row['uniformity']:.3f}"
    )
