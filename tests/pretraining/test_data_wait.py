"""`data_wait_share` and `images_per_s` of the log in closed form, on a clock that the test moves."""

from __future__ import annotations

import csv

import pytest
import torch
from monai.inferers import SimpleInferer
from test_momentum import tiny_batches, tiny_network
from torch.utils.data import DataLoader, Dataset

from radclear.pretraining import LeCLLoss, LeCLTrainer, Progress, Schedules, progress

SIZE = 6


class Clock:
    """Stands for the module `time` in `radclear.pretraining.progress`."""

    now = 1000.0

    def perf_counter(self) -> float:
        return self.now


class Loading(Dataset):
    """Batches that take as many seconds as they are told."""

    def __init__(self, clock: Clock, seconds: list[float]) -> None:
        self.clock, self.seconds, self.batches = clock, seconds, tiny_batches(len(seconds), size=SIZE)

    def __len__(self) -> int:
        return len(self.seconds)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        self.clock.now += self.seconds[index]
        return self.batches[index]


def log_of(
    folder, monkeypatch, *, loading: list[float], computing: list[float], accumulation: int
) -> list[dict]:
    """The log of an epoch whose micro-batches take so long to load and to compute."""
    clock, network = Clock(), tiny_network()
    monkeypatch.setattr(progress, "time", clock)
    left = iter(computing)

    def compute(*_):
        clock.now += next(left)

    network.register_forward_hook(compute)
    LeCLTrainer(
        "cpu",
        1,
        DataLoader(Loading(clock, loading), batch_size=None),
        network,
        torch.optim.SGD(network.trained_parameters(), lr=1.0),
        LeCLLoss(),
        Schedules(learning_rate=0.1, batch=SIZE * accumulation, total_steps=len(loading) // accumulation),
        inferer=SimpleInferer(),
        accumulation=accumulation,
        train_handlers=[Progress(folder)],
    ).run()
    with (folder / progress.FILE).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_share_is_the_loading_part_of_each_step(tmp_path, monkeypatch, accumulation):
    """Of a loader that is slow, even, no burden at all, and all there is to wait for."""
    loading = [0.9, 0.3, 0.0, 0.0, 2.0, 0.1]
    computing = [0.1, 0.5, 0.4, 0.2, 0.0, 0.3]
    rows = log_of(tmp_path, monkeypatch, loading=loading, computing=computing, accumulation=accumulation)
    assert len(rows) == 6 // accumulation
    for step, row in enumerate(rows):
        part = slice(step * accumulation, (step + 1) * accumulation)
        waited, worked = sum(loading[part]), sum(computing[part])
        assert float(row["data_wait_share"]) == pytest.approx(waited / (waited + worked), abs=1e-4)
        assert float(row["images_per_s"]) == pytest.approx(accumulation * SIZE / (waited + worked), rel=1e-3)
