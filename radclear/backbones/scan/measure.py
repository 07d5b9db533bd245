"""How much faster each CPU tier is than the naive loop, measured in one run.

The *core* is what a VSSM block does between its convolution and its norm: the projections to time steps, B
and C, the scan in four orders, and their sum. The naive loop does it as the published reference
implementations do: four reordered copies of the image, all decays and inputs (B, 4, C, L, N) at once, then
one step at a time. Legend: B batch, L = H * W pixels, C channels, N states, R rank of the time steps, 4
orders.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from radclear.backbones.scan.dispatch import tier_module
from radclear.errors import RadclearError


def measure_core(
    *,
    height: int = 56,
    width: int = 56,
    channels: int = 192,
    states: int = 16,
    batch: int = 1,
    repeats: int = 5,
    threads: int | None = 1,
    tiers: tuple[str, ...] = ("c", "numba", "slab"),
) -> dict[str, int | dict]:
    """Time the core with each tier and with the naive loop, repeats interleaved, minima compared.

    Args:
        height: H.
        width: W.
        channels: C.
        states: N.
        batch: B.
        repeats: runs of each; every run of the loop is a few hundred times a run of the fastest tier.
        threads: of torch during the measurement; None leaves them as they are. One thread compares the code;
            with more, a busy machine is measured too: each of the slab's many small steps waits for all.
        tiers: CPU tiers to measure.

    Returns:
        ``threads``: as used.
        ``ratio``: tier -> times faster than the naive loop.
        ``milliseconds``: tier or "naive" -> shortest run.
        ``relative_error``: tier -> largest difference to the naive loop over its largest value.
        ``unavailable``: tier -> reason.
    """
    x, weights = _random_core(batch, height, width, channels, states)
    cores: dict[str, Callable[[], Tensor]] = {"naive": lambda: _naive_core(x, *weights, height, width)}
    unavailable = {}
    for name in tiers:
        try:
            module = tier_module(name)
            module.prepare("cpu")
        except RadclearError as error:
            unavailable[name] = str(error)
            continue
        cores[name] = lambda forward=module.forward: _core(forward, x, *weights, height, width)

    threads_before = torch.get_num_threads()
    threads = threads or threads_before
    torch.set_num_threads(threads)
    try:
        results, seconds = _run_in_turns(cores, repeats)
    finally:
        torch.set_num_threads(threads_before)
    naive = results.pop("naive")
    return {
        "threads": threads,
        "ratio": {name: seconds["naive"] / seconds[name] for name in results},
        "milliseconds": {name: 1000 * value for name, value in seconds.items()},
        "relative_error": {
            name: ((result - naive).abs().max() / naive.abs().max()).item()
            for name, result in results.items()
        },
        "unavailable": unavailable,
    }


@torch.inference_mode()
def _run_in_turns(
    cores: dict[str, Callable[[], Tensor]], repeats: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Result and shortest time in seconds of each."""
    results = {name: core() for name, core in cores.items()}  # also warms every tier up
    seconds = dict.fromkeys(cores, float("inf"))
    for _ in range(repeats):
        for name, core in cores.items():
            start = time.perf_counter()
            core()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return results, seconds


def _random_core(batch: int, height: int, width: int, channels: int, states: int) -> tuple[Tensor, tuple]:
    """An image (B, L, C) and weights as a new VSSM block has them (time steps of 0.001 to 0.1)."""
    generator = torch.Generator().manual_seed(0)
    rank = -(-channels // 16)

    def uniform(*shape: int, scale: float) -> Tensor:
        return (2 * torch.rand(shape, generator=generator) - 1) * scale

    x = torch.randn(batch, height * width, channels, generator=generator)
    projection = uniform(4, rank + 2 * states, channels, scale=channels**-0.5)
    expansion = uniform(4, channels, rank, scale=rank**-0.5)
    steps = torch.exp(torch.empty(4, channels).uniform_(-6.9, -2.3, generator=generator))
    bias = steps + torch.log(-torch.expm1(-steps))  # inverse of softplus
    A = -torch.arange(1.0, states + 1).expand(4, channels, states).contiguous()
    return x, (projection, expansion, A, torch.ones(4, channels), bias)


def _core(
    forward: Callable, x: Tensor, projection: Tensor, expansion: Tensor, A: Tensor, D: Tensor, bias: Tensor,
    height: int, width: int,
) -> Tensor:  # fmt: skip
    """The core around a tier: two matrix products, since a projection of single pixels knows no order."""
    batch, length, channels = x.shape
    width_of_all, rank = projection.shape[1], expansion.shape[2]
    low = F.linear(x, projection.reshape(-1, channels)).view(batch, length, 4, width_of_all)
    dt = low[..., :rank].permute(2, 0, 1, 3).reshape(4, batch * length, rank)
    dts = torch.matmul(dt, expansion.transpose(1, 2)).view(4, batch, length, channels)
    return forward(x, dts, low[..., rank:], A, D, bias, height, width, False)[0]


def _naive_core(
    x: Tensor,
    projection: Tensor,
    expansion: Tensor,
    A: Tensor,
    D: Tensor,
    bias: Tensor,
    height: int,
    width: int,
) -> Tensor:
    batch, length, channels = x.shape
    rank, states = expansion.shape[2], A.shape[2]
    rows = x.transpose(1, 2)  # (B, C, L)
    columns = rows.unflatten(2, (height, width)).transpose(2, 3).flatten(2)
    u = torch.stack([rows, columns, rows.flip(2), columns.flip(2)], dim=1)  # (B, 4, C, L)
    low = torch.einsum("bkcl,kpc->bkpl", u, projection)
    dt, b, c = low.split([rank, states, states], dim=2)
    d = F.softplus(torch.einsum("bkrl,kcr->bkcl", dt, expansion) + bias[..., None])
    decay = torch.exp(torch.einsum("bkcl,kcn->bkcln", d, A))
    inputs = torch.einsum("bkcl,bknl,bkcl->bkcln", d, b, u)
    h = torch.zeros(batch, 4, channels, states)
    steps = []
    for t in range(length):
        h = decay[:, :, :, t] * h + inputs[:, :, :, t]
        steps.append(torch.einsum("bkcn,bkn->bkc", h, c[..., t]))
    y = torch.stack(steps, dim=3) + u * D[..., None]
    y = y[:, :2] + y[:, 2:].flip(3)
    back = y[:, 1].unflatten(2, (width, height)).transpose(2, 3).flatten(2)
    return (y[:, 0] + back).transpose(1, 2)
