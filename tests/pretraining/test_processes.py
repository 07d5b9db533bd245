"""Two processes that share a batch give the loss, the gradients and the weights of one that has all of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_momentum import tiny_batches, tiny_network

from radclear.pretraining import LeCLLoss, Schedules, distributed
from radclear.pretraining.batch_norm import GlobalBatchNorm1d
from radclear.pretraining.criterion import mean_over_processes
from radclear.pretraining.distributed import (
    distribute,
    end_processes,
    gather,
    rank,
    start_processes,
    unwrapped,
    world_size,
)
from radclear.pretraining.errors import PretrainingError

WEIGHTS = ("network", "gradients")


def part_of(batch):
    size = len(batch["lesion"]) // world_size()
    return {key: value[rank() * size : (rank() + 1) * size] for key, value in batch.items()}


def results(exclude: str = "patient") -> dict:
    """Loss and gradients of one pass, then the weights after a few accumulated steps."""
    from test_momentum import trained

    network = distribute(tiny_network(), "cpu")
    batch = part_of(tiny_batches(1, size=12)[0])
    loss_function = LeCLLoss(temperature=0.5, exclude=exclude)
    loss = loss_function(network(batch["view_1"], batch["view_2"]), batch)
    loss.backward()
    plain = unwrapped(network)
    found = {
        "loss": mean_over_processes(loss),
        "gradients": {n: p.grad.clone() for n, p in plain.named_parameters() if p.grad is not None},
        "gathered": gather(batch["patient"]),
    }
    torch.manual_seed(5)
    norm, x = GlobalBatchNorm1d(3), part_of({"lesion": torch.arange(8), "x": torch.randn(8, 3)})["x"]
    found["normed"] = gather(norm(x))
    found["running"] = (norm.running_mean.clone(), norm.running_var.clone())
    network = distribute(tiny_network(), "cpu")
    batches = [part_of(batch) for batch in tiny_batches(4, size=12, seed=9)]
    schedules = Schedules(learning_rate=8.0, batch=24, total_steps=2, momentum=0.8)
    network.trained_parameters = unwrapped(network).trained_parameters
    rows = trained(network, batches, schedules, accumulation=2, max_norm=0.5)
    found["losses"] = [row["loss"] for row in rows]
    found["network"] = {n: p.detach().clone() for n, p in unwrapped(network).named_parameters()}
    found["buffers"] = {n: b.clone() for n, b in unwrapped(network).named_buffers()}
    return found


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two processes find, each in a file, and what one finds."""
    folder = tmp_path_factory.mktemp("processes")
    port = free_port()
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parents[1]), str(here)])
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder / f"{r}.pt")],
            env={
                **os.environ, "PYTHONPATH": path, "RANK": str(r), "WORLD_SIZE": "2", "LOCAL_RANK": str(r),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
                "CUDA_VISIBLE_DEVICES": "",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(2)
    ]  # fmt: skip
    for process in running:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
    return [torch.load(folder / f"{r}.pt", weights_only=True) for r in range(2)], results()


def test_loss_and_gradients_are_those_of_the_global_batch(both):
    pair, alone = both
    for found in pair:
        assert found["loss"] == pytest.approx(alone["loss"], rel=1e-6)
        assert found["gradients"].keys() == alone["gradients"].keys()
        for name, gradient in alone["gradients"].items():
            torch.testing.assert_close(found["gradients"][name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_batch_norm_counts_the_global_batch(both):
    pair, alone = both
    for found in pair:
        torch.testing.assert_close(found["normed"], alone["normed"])
        for a, b in zip(found["running"], alone["running"], strict=True):
            torch.testing.assert_close(a, b)


def test_gathered_rows_are_in_rank_order(both):
    pair, alone = both
    assert all(torch.equal(found["gathered"], alone["gathered"]) for found in pair)


def test_accumulated_steps_leave_the_same_weights_everywhere(both):
    """Two micro-batches per step, cut in two; the momentum copy included."""
    pair, alone = both
    for found in pair:
        assert found["losses"] == pytest.approx(alone["losses"], rel=1e-4)
        for name, value in alone["network"].items():
            torch.testing.assert_close(found["network"][name], value, rtol=1e-3, atol=1e-4, msg=name)
    for part in ("network", "buffers"):
        for name, value in pair[0][part].items():
            assert torch.equal(pair[1][part][name], value), name


def test_processes_that_were_not_started_together_are_refused(monkeypatch):
    from radclear.pretraining.distributed import refuse_unjoined

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(PretrainingError, match="torchrun"):
        start_processes()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(PretrainingError, match="multi_gpu_train.json"):
        refuse_unjoined()


if __name__ == "__main__":
    start_processes()
    torch.save(results(), sys.argv[1])
    end_processes()


def test_a_batch_is_shared_evenly_or_refused(monkeypatch):
    """Uneven shares would take other numbers of steps than the schedule has."""
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    assert distributed.batch_of_process(48) == 16
    assert distributed.batch_of_process(48, views_per_item=2) == 8
    for batch in (0, 47, 4):
        with pytest.raises(PretrainingError, match="expected a multiple of 6: 3 processes x 2 views"):
            distributed.batch_of_process(batch, views_per_item=2)
