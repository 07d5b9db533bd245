"""What a step of LeCL costs for each backbone: time beside its forward passes, bytes, and memory over epochs.

A step has two views of every slice. The learning network goes forward and backward (about three forward
passes of each view), the momentum copy forward: eight forward passes of one view, or four of the pair. At a
ratio of 1 the step costs just these; heads, loss, optimiser and slow backward passes raise it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from radclear.benchmark.timing import fastest_seconds
from radclear.pretraining import LeCLLoss, MomentumNetwork
from radclear.pretraining.errors import PretrainingError


@dataclass(frozen=True)
class Cost:
    """Figures of one backbone.

    Attributes:
        name: architecture.
        slices_per_s: of a whole step, both views of a slice counting once.
        ratio: seconds of a step over four times those of a forward pass of both views without gradients.
        data_bytes: grey levels of both views of a step, as they go to the device.
        kept_bytes: tensors that a step keeps for its backward pass.
        memory_bytes: memory of the process behind each epoch; on a GPU, the most that was taken in it.
    """

    name: str
    slices_per_s: float
    ratio: float
    data_bytes: int
    kept_bytes: int
    memory_bytes: tuple[int, ...]


def measure(
    network: nn.Module,
    *,
    name: str,
    image_size: int,
    slices: int,
    steps: int,
    epochs: int,
    device: str = "cpu",
    precision: str = "auto",
) -> Cost:
    """Run steps of LeCL on random slices, half of them lesion slices.

    Args:
        network: a backbone; trained in place.
        name: what it is called.
        image_size: side of a slice in pixels.
        slices: of a step.
        steps: of an epoch.
        epochs: how often memory is looked at.
        device: "cpu" or a GPU.
        precision: see `radclear.backbones.resolve_precision`.
    """
    momentum_network = MomentumNetwork(
        network, projector_hidden=1024, predictor_hidden=1024, precision=precision, device=device
    ).to(device)
    optimizer = torch.optim.AdamW(momentum_network.trained_parameters(), lr=1e-4)
    criterion = LeCLLoss(temperature=0.2)
    generator = torch.Generator().manual_seed(0)
    views = torch.randint(
        0, 256, (2, slices, 1, image_size, image_size), dtype=torch.uint8, generator=generator
    )
    first, second = views.to(device)
    batch = {"lesion": torch.arange(slices, device=device) % 2 == 0}

    def step() -> None:
        loss = criterion(momentum_network(first, second), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        momentum_network.update(0.99)

    def forward() -> None:
        momentum_network.embed(first)
        momentum_network.embed(second)

    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else None
    seconds = fastest_seconds({"step": step, "forward": forward}, rounds=steps, synchronize=wait)
    kept = kept_bytes(lambda: criterion(momentum_network(first, second), batch))
    memory = []
    for _ in range(epochs):
        for _ in range(steps):
            step()
        memory.append(memory_bytes(device))
    return Cost(
        name=name,
        slices_per_s=slices / seconds["step"],
        ratio=seconds["step"] / (4 * seconds["forward"]),
        data_bytes=views.nbytes,
        kept_bytes=kept,
        memory_bytes=tuple(memory),
    )


def kept_bytes(forward: Callable[[], Tensor]) -> int:
    """Bytes of the distinct tensors that autograd keeps for the backward pass of `forward`'s result."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = forward()
    del result
    return sum(storages.values())


def memory_bytes(device: str) -> int:
    """Memory that this process has now; on a GPU the most since the last call.

    Raises:
        PretrainingError: on a CPU, the system has no /proc to read it from.
    """
    if torch.device(device).type == "cuda":
        taken = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return taken
    status = Path("/proc/self/statm")
    if not status.is_file():
        raise PretrainingError("there is no /proc/self/statm; memory on the CPU is measured on Linux only")
    return int(status.read_text().split()[1]) * 4096


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m radclear.experiments.pretraining_cost", description=__doc__
    )
    made.add_argument(
        "--backbones", nargs="+", default=None, help="architectures (default: one of each family)"
    )
    made.add_argument("--image-size", type=int, default=224)
    made.add_argument("--slices", type=int, default=32, help="of a step (default: 32)")
    made.add_argument("--steps", type=int, default=4, help="of an epoch, and timed rounds (default: 4)")
    made.add_argument("--epochs", type=int, default=5)
    made.add_argument("--device", default="cpu")
    made.add_argument("--precision", default="auto")
    return made


def main(arguments: list[str] | None = None) -> int:
    from radclear.backbones import build

    args = parser().parse_args(arguments)
    print("backbone       slices/s  step/(4·forward)  data/step  kept/step  memory behind each epoch")
    for name in args.backbones or ("vit_nano", "vssm_nano", "mambaout_nano"):
        cost = measure(
            build(name, image_size=args.image_size),
            name=name,
            image_size=args.image_size,
            slices=args.slices,
            steps=args.steps,
            epochs=args.epochs,
            device=args.device,
            precision=args.precision,
        )
        memory = " ".join(f"{value / 2**20:.0f}" for value in cost.memory_bytes)
        print(
            f"{name:<14} {cost.slices_per_s:>8.1f}  {cost.ratio:>16.2f}  {cost.data_bytes / 2**20:>6.1f} MiB"
            f"  {cost.kept_bytes / 2**20:>5.0f} MiB  {memory} MiB",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
