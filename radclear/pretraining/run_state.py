"""Checkpoints of a run: all that its next step depends on, written at once or not at all."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from radclear.pretraining.distributed import barrier, rank, world_size
from radclear.pretraining.draws import EpochBatches
from radclear.pretraining.errors import PretrainingError
from radclear.pretraining.trainer import LeCLTrainer

logger = logging.getLogger("radclear.training")
FILE = "checkpoint.pt"
_FORMAT = 3


class Checkpoints:
    """Writes `checkpoint.pt` of a run's folder; goes on from it.

    A checkpoint has network with momentum copy, optimiser, gradient scaler, position in the data, the random
    states of every process, the run's settings, and how long it has taken. It holds tensors, numbers and text
    only.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        batches: EpochBatches,
        settings: Mapping[str, Any],
        every_steps: int | None = None,
    ) -> None:
        """
        Args:
            folder: of the run; made when the first checkpoint is written.
            batches: which are moved to where the run stands.
            settings: what the result depends on; a run goes on with the same ones only.
            every_steps: optimiser steps between checkpoints; the end of each epoch always has one.
        """
        if every_steps is not None and every_steps < 1:
            raise PretrainingError(f"checkpoint_every_steps is {every_steps}; expected 1 or more, or null")
        self.path = Path(folder) / FILE
        self.batches = batches
        self.settings = {**{key: _plain(value) for key, value in settings.items()}, "processes": world_size()}
        self.every_steps = every_steps
        self._seconds_before, self._since = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time of the run so far: since this was made, and up to the checkpoint that it went on from."""
        return self._seconds_before + time.perf_counter() - self._since

    def attach(self, engine: Engine) -> None:
        """Write after steps and epochs of `engine`; attach behind what logs them."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def _after_iteration(self, engine: LeCLTrainer) -> None:
        ends_step = engine.state.iteration % engine.accumulation == 0
        ends_epoch = engine.state.iteration % engine.state.epoch_length == 0
        if self.every_steps and ends_step and not ends_epoch and engine.steps % self.every_steps == 0:
            self.save(engine)

    def save(self, trainer: LeCLTrainer) -> None:
        """Write the state; the file before it stays whole until this one is."""
        states = _gathered(random_state())
        if rank() == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                torch.save(
                    {
                        "format": _FORMAT,
                        "settings": self.settings,
                        "iteration": trainer.state.iteration,
                        "steps": trainer.steps,
                        "network": trainer.momentum_network.state_dict(),
                        "optimizer": trainer.optimizer.state_dict(),
                        "grad_scaler": trainer.grad_scaler.state_dict(),
                        "random": states,
                        "seconds": self.seconds,
                    },
                    file,
                )
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        barrier()

    def resume(self, trainer: LeCLTrainer, *, resume: bool) -> int:
        """Bring the trainer to where the run stands.

        Args:
            trainer: freshly built.
            resume: whether to go on from a checkpoint.

        Returns:
            Optimiser steps done; 0 for a run that starts.

        Raises:
            PretrainingError: there is a checkpoint and `resume` is false, or it is of other settings.
        """
        if not self.path.is_file():
            if resume and rank() == 0:
                logger.info("nothing to go on with, so this run starts: there is no %s", self.path)
            return 0
        if not resume:
            raise PretrainingError(
                f"{self.path} is of an earlier run; go on with it: --resume True, or choose another "
                "--run_dir, or delete it"
            )
        saved = torch.load(self.path, map_location="cpu", weights_only=True)
        if saved.get("format") != _FORMAT:
            raise PretrainingError(
                f"{self.path} is not a checkpoint of this version of radclear; choose another "
                "--run_dir, or delete it"
            )
        names = sorted(set(saved["settings"]) | set(self.settings))
        changed = [n for n in names if saved["settings"].get(n) != self.settings.get(n)]
        if changed:
            said = "; ".join(
                f"{n} was {saved['settings'].get(n)!r} and is {self.settings.get(n)!r}" for n in changed
            )
            raise PretrainingError(
                f"{self.path} is of a run with other settings ({said}); go on with the earlier values, or "
                "train anew in another --run_dir"
            )
        trainer.momentum_network.load_state_dict(saved["network"])
        trainer.optimizer.load_state_dict(saved["optimizer"])
        trainer.grad_scaler.load_state_dict(saved["grad_scaler"])
        trainer.steps = saved["steps"]
        self._seconds_before = saved["seconds"]
        trainer.state.iteration = saved["iteration"]
        trainer.state.epoch = saved["iteration"] // trainer.state.epoch_length
        self.batches.start_after(saved["iteration"])
        state = saved["random"][rank()]
        # Opening the data loader draws a number: restore behind it.
        trainer.add_event_handler(
            Events.ITERATION_STARTED(once=saved["iteration"] + 1), set_random_state, state
        )
        if rank() == 0:
            logger.info("going on after step %d, from %s", trainer.steps, self.path)
        return trainer.steps


def _plain(value: Any) -> Any:
    """Settings as JSON would have them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def random_state() -> dict[str, Any]:
    """The states of Python's, numpy's and torch's global generators in this process."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put the generators back to what `random_state` said."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _gathered(state: dict[str, Any]) -> list[dict[str, Any]]:
    if world_size() == 1:
        return [state]
    states: list[Any] = [None] * world_size()
    dist.all_gather_object(states, state)
    return states
