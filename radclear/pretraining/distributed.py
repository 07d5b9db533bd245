"""Several processes as one: start and end, gathered keys, the wrapped network."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from radclear.pretraining.errors import PretrainingError


def local_device() -> torch.device:
    """The GPU of this process, as `torchrun` numbers them on each machine; the CPU where torch sees none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", 0))
    if local >= torch.cuda.device_count():
        raise PretrainingError(
            f"process {local} of this machine has no GPU: torch sees {torch.cuda.device_count()}; start as "
            "many processes as there are GPUs (--nproc_per_node)"
        )
    return torch.device("cuda", local)


def start_processes() -> None:
    """Join the processes that `torchrun` started: NCCL on GPUs, Gloo on CPUs. Nothing to do for one process.

    Raises:
        PretrainingError: not started by torchrun.
    """
    if dist.is_initialized():
        return
    if "WORLD_SIZE" not in os.environ or "MASTER_ADDR" not in os.environ:
        raise PretrainingError(
            "multi_gpu_train.json is for several processes; start them with: torchrun --standalone "
            "--nproc_per_node=2 -m monai.bundle run …"
        )
    device = local_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=2))


def end_processes() -> None:
    """Leave the group of processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, 0 where it is the only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def batch_of_process(slices_per_batch: int, *, views_per_item: int = 1) -> int:
    """Items of a batch that each process takes.

    Args:
        slices_per_batch: of all processes together.
        views_per_item: how many slices an item has.

    Raises:
        PretrainingError: processes and items cannot share it evenly.
    """
    share = world_size() * views_per_item
    if slices_per_batch < share or slices_per_batch % share:
        raise PretrainingError(
            f"slices_per_batch is {slices_per_batch}; expected a multiple of {share}: {world_size()} "
            f"processes x {views_per_item} views of a place"
        )
    return slices_per_batch // share


def refuse_unjoined() -> None:
    """Refuse processes that torchrun started but that would each train alone.

    Raises:
        PretrainingError: as said.
    """
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started > 1 and not dist.is_initialized():
        raise PretrainingError(
            f"{started} processes were started, but each would train alone; add multi_gpu_train.json: "
            "--config_file \"['…/CONFIG.json','…/multi_gpu_train.json']\""
        )


def barrier() -> None:
    """Wait for all processes."""
    if dist.is_initialized():
        dist.barrier()


def gather(x: Tensor) -> Tensor:
    """Tensors of all processes one after the other in rank order, without gradient.

    Args:
        x: (n, …), equally long in every process.

    Returns:
        (N, …) with N = n · processes.
    """
    x = x.detach().contiguous()
    if world_size() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x)
    return torch.cat(parts)


def distribute(network: nn.Module, device: torch.device | str) -> nn.Module:
    """The network on its device; with several processes one that averages gradients over them.

    On GPUs batch norm becomes torch's SyncBatchNorm; on CPUs the network's own batch norm already counts the
    batch of all processes.
    """
    device = torch.device(device)
    network = network.to(device)
    if world_size() == 1:
        return network
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return nn.parallel.DistributedDataParallel(
        network,
        device_ids=[device] if device.type == "cuda" else None,
        broadcast_buffers=False,  # running statistics are equal already: they come from the global batch
    )


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside `distribute`."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
