"""On GPUs batch norm becomes torch's SyncBatchNorm: all of it but its exchange, which needs CUDA."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from test_momentum import tiny_batches, tiny_network, trained
from torch import nn

from radclear.pretraining import Schedules, distributed
from radclear.pretraining.batch_norm import GlobalBatchNorm1d

BATCH_NORMS = {f"{part}.{i}" for part in ("projector", "momentum_projector") for i in (1, 4, 7)}
BATCH_NORMS |= {"predictor.1", "predictor.4", "backbone.norm", "momentum_backbone.norm"}


class Normed(nn.Module):
    """A backbone with a batch norm of torch's own, as a user's may have."""

    embedding_dim = 5

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear, self.norm = linear, nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(self.norm(x).flatten(1)))


def normed_network():
    """A tiny network; each batch norm has statistics, and where it has any, parameters, of its own."""
    network = tiny_network()
    network.backbone = Normed(network.backbone.linear)
    network.momentum_backbone = copy.deepcopy(network.backbone).requires_grad_(False)
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.rpartition(".")[0] in BATCH_NORMS and tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=g) + 0.5)
    return network


def distributed_as(monkeypatch, network, device: str, processes: int):
    """`distribute` as in one of several processes, moving nothing; what was asked of torch's wrapper."""
    asked = []

    def wrap(module, **options):
        asked.append(options)
        return SimpleNamespace(module=module)

    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", wrap)
    monkeypatch.setattr(type(network), "to", lambda self, device: self)
    result = distributed.distribute(network, device)
    return getattr(result, "module", result), asked


def kinds(network, *types) -> set[str]:
    return {name for name, module in network.named_modules() if type(module) in types}


def test_every_batch_norm_is_synchronised_and_keeps_what_it_holds(monkeypatch):
    network = normed_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    parameters, trained_before = dict(network.named_parameters()), network.trained_parameters()
    found, asked = distributed_as(monkeypatch, network, "cuda:1", 2)
    assert kinds(found, nn.SyncBatchNorm) == BATCH_NORMS
    assert not kinds(found, GlobalBatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)
    state = found.state_dict()
    assert list(state) == list(before)
    for name, tensor in before.items():
        assert torch.equal(state[name], tensor) and state[name].dtype == tensor.dtype, name
    # What an optimiser holds that was made before is still what is trained.
    assert all(parameter is parameters[name] for name, parameter in found.named_parameters())
    assert [id(p) for p in found.trained_parameters()] == [id(p) for p in trained_before]
    assert asked == [{"device_ids": [torch.device("cuda:1")], "broadcast_buffers": False}]


@pytest.mark.parametrize(("device", "processes"), [("cpu", 1), ("cpu", 2), ("cuda:0", 1)])
def test_elsewhere_batch_norm_stays_as_it_is(monkeypatch, device, processes):
    found, asked = distributed_as(monkeypatch, normed_network(), device, processes)
    assert not kinds(found, nn.SyncBatchNorm)
    assert kinds(found, GlobalBatchNorm1d, nn.BatchNorm2d) == BATCH_NORMS
    wrapped = [{"device_ids": None, "broadcast_buffers": False}] if processes > 1 else []
    assert asked == wrapped


def test_the_synchronised_network_trains_as_the_plain_one_under_accumulation(monkeypatch):
    """Two micro-batches per step; where one process has all of the batch, SyncBatchNorm needs no exchange."""
    plain, converted = normed_network(), normed_network()
    with monkeypatch.context() as patched:
        converted, _ = distributed_as(patched, converted, "cuda:0", 2)
    schedules = Schedules(learning_rate=8.0, batch=12, total_steps=2, momentum=0.8)
    rows = [
        trained(network, tiny_batches(4), schedules, accumulation=2, max_norm=0.5)
        for network in (plain, converted)
    ]
    assert [row["loss"] for row in rows[1]] == pytest.approx([row["loss"] for row in rows[0]], rel=1e-5)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(converted.state_dict()[name], tensor, msg=name)
    counts = {name: int(t) for name, t in converted.state_dict().items() if name.endswith("batches_tracked")}
    assert set(counts.values()) == {8}  # two views of each of four micro-batches


def test_running_statistics_move_once_per_view_of_every_micro_batch():
    """Not once per optimiser step, and with the unbiased variance, in closed form."""
    network, batches = tiny_network(), tiny_batches(4)
    seen = []
    first = network.projector[0]
    first.register_forward_hook(lambda module, inputs, output: seen.append(output.detach().double()))
    schedules = Schedules(learning_rate=8.0, batch=12, total_steps=2, momentum=0.8)
    trained(network, batches, schedules, accumulation=2, max_norm=0.5)
    assert len(seen) == 8
    mean, variance = torch.zeros(7).double(), torch.ones(7).double()
    for x in seen:
        mean = 0.9 * mean + 0.1 * x.mean(dim=0)
        variance = 0.9 * variance + 0.1 * ((x - x.mean(dim=0)) ** 2).sum(dim=0) / (len(x) - 1)
    norm = network.projector[1]
    torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-5, atol=1e-6)
    assert int(norm.num_batches_tracked) == 8
