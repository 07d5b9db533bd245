"""Which slices make which batch: the same whatever the number of processes, workers and interruptions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from radclear.pretraining.distributed import rank, world_size
from radclear.pretraining.errors import PretrainingDataError
from radclear.pretraining.slice_pairs import Draw


class EpochBatches(Sampler):
    """Batches of `Draw`s of this process; a batch sampler.

    Batch b of the epoch is one global batch of `batch_size · processes` draws, of which process r takes the
    r-th part. Which draws there are depends on seed and epoch alone. What does not fill the last batch (or
    the last group of accumulated batches) is left out, each epoch other slices.
    """

    def __init__(
        self,
        lesion_mask: Tensor,
        *,
        batch_size: int,
        seed: int = 0,
        samples_per_epoch: int | None = None,
        lesion_share: float | None = None,
        accumulation: int = 1,
    ) -> None:
        """
        Args:
            lesion_mask: (slices,) bool, which slices have a lesion.
            batch_size: slices per process and micro-batch.
            seed: of the order.
            samples_per_epoch: draws of an epoch; each slice once when omitted.
            lesion_share: part of the draws that are lesion slices; their share of the data when omitted.
            accumulation: batches per optimiser step; an epoch is a whole number of steps.

        Raises:
            PretrainingDataError: not one step fits into an epoch, or lesions are asked for and there are
                none.
        """
        self.lesion_mask = lesion_mask.bool().cpu()
        self.batch_size = batch_size
        self.accumulation = accumulation
        self.seed = seed
        self.lesion_share = lesion_share
        self.draws = samples_per_epoch or len(lesion_mask)
        if batch_size < 2 or accumulation < 1:
            raise PretrainingDataError(
                f"samples_per_batch is {batch_size} and accumulation {accumulation}; expected 2 or more (a "
                "slice alone has no negatives), and 1 or more"
            )
        step = batch_size * world_size() * accumulation
        self.batches = self.draws // step * accumulation
        if self.batches < 1:
            raise PretrainingDataError(
                f"an epoch of {self.draws} slices has no step of {step} ({batch_size} slices x "
                f"{world_size()} processes x {accumulation} accumulated); lower --samples_per_batch, "
                "or raise --samples_per_epoch"
            )
        n_lesions = int(self.lesion_mask.sum())
        if lesion_share is not None and (
            not 0 <= lesion_share <= 1
            or (lesion_share > 0 and n_lesions == 0)
            or (lesion_share < 1 and n_lesions == len(self.lesion_mask))
        ):
            raise PretrainingDataError(
                f"lesion_share is {lesion_share}, of data with {n_lesions} lesion slices among "
                f"{len(self.lesion_mask)}; expected 0 to 1, and slices of both kinds"
            )
        self.done = 0

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return self.batches // self.accumulation

    @property
    def step_size(self) -> int:
        """Slices of one optimiser step, over all processes and accumulated batches."""
        return self.batch_size * world_size() * self.accumulation

    def start_after(self, batches: int) -> None:
        """Begin the next iteration where a run stands after so many batches of this process."""
        self.done = batches

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.batches

    def order(self, epoch: int) -> np.ndarray:
        """(draws,) which slice is drawn at each position of an epoch, over all processes."""
        generator = np.random.default_rng([self.seed, epoch])
        lesions, others = (np.flatnonzero(mask) for mask in (self.lesion_mask, ~self.lesion_mask))
        if self.lesion_share is None:
            return _shuffled(np.arange(len(self.lesion_mask)), self.draws, generator)
        n_lesions = round(self.lesion_share * self.draws)
        drawn = [
            _shuffled(lesions, n_lesions, generator),
            _shuffled(others, self.draws - n_lesions, generator),
        ]
        return generator.permutation(np.concatenate(drawn))

    def __iter__(self) -> Iterator[list[Draw]]:
        """Batches without end, epoch after epoch, so that an epoch starts without a wait."""
        width = self.batch_size * world_size()
        epoch, start = self.done // self.batches + 1, self.done % self.batches
        while True:
            order = self.order(epoch)
            for batch in range(start, self.batches):
                first = batch * width + rank() * self.batch_size
                yield [Draw(epoch, p, int(order[p])) for p in range(first, first + self.batch_size)]
            epoch, start = epoch + 1, 0


def _shuffled(indices: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` of the indices in random order, each as often as every other, give or take one."""
    if not count:
        return indices[:0]
    rounds = [generator.permutation(indices) for _ in range(-(-count // len(indices)))]
    return np.concatenate(rounds)[:count]


def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Items of a batch, stacked."""
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}
