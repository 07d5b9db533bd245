"""How fast each backbone embeds slices, against the machine's own measured matrix-product peak."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from radclear.backbones import build, count_flops, embed_slices
from radclear.benchmark.timing import fastest_seconds

BATCHES = 4
DEFAULT_BACKBONES = ("vit_small", "vssm_clear", "mambaout_tiny")


@dataclass(frozen=True)
class EncoderSpeed:
    """One backbone in one precision.

    Attributes:
        backbone: its name.
        precision: `"float32"` or `"bfloat16"`.
        slices_per_second: batches of `batch_size`, uint8 slice in, embedding out.
        one_slice_ratio: that rate over the rate of one slice at a time in float32.
        peak_share: achieved FLOP/s (matrix products and convolutions, not the scan) over `peak_flops`.
        peak_flops: FLOP/s of a large square matrix product in this precision, measured in the same rounds.
    """

    backbone: str
    precision: str
    slices_per_second: float
    one_slice_ratio: float
    peak_share: float
    peak_flops: float


def matrix_product(
    precision: str, device: str, *, side: int | None = None
) -> tuple[Callable[[], object], float]:
    """A square matrix product and its FLOPs: the yardstick of `peak_share`.

    Left out, `side` is 2048, on a GPU 8192: there a small product takes less time than its start.
    """
    side = side or (8192 if device.startswith("cuda") else 2048)
    dtype = getattr(torch, precision)
    left = torch.randn(side, side, device=device).to(dtype)
    right = torch.randn(side, side, device=device).to(dtype)
    return (lambda: left @ right), 2.0 * side**3


def measure_encoders(
    backbones: Sequence[str] = DEFAULT_BACKBONES,
    *,
    precisions: Sequence[str] = ("float32", "bfloat16"),
    device: str = "cpu",
    batch_size: int = 8,
    rounds: int = 5,
) -> Iterator[EncoderSpeed]:
    """Measure backbones one after the other; each one's precisions, loop and yardsticks share their rounds.

    Args:
        backbones: names for `radclear.backbones.build`; weights are random, which does not change the speed.
        precisions: what to measure besides the float32 loop.
        device: torch device.
        batch_size: slices per forward pass.
        rounds: repeats; the fastest counts.
    """
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else None
    n_slices = BATCHES * batch_size
    slices = torch.randint(0, 256, (1, n_slices, 224, 224), dtype=torch.uint8)
    for name in backbones:
        backbone = build(name).eval().to(device)
        products = {precision: matrix_product(precision, device) for precision in precisions}

        def embed(
            precision: str, batch: int, n: int = n_slices, backbone: torch.nn.Module = backbone
        ) -> Callable[[], object]:
            return lambda: embed_slices(
                backbone, slices[:, :n], device=device, precision=precision, batch_size=batch
            )

        candidates = {"loop": embed("float32", 1, n=batch_size)}
        for precision in precisions:
            candidates[precision] = embed(precision, batch_size)
            candidates[f"peak {precision}"] = products[precision][0]
        seconds = fastest_seconds(candidates, rounds=rounds, synchronize=synchronize)
        flops = count_flops(backbone, 224)
        for precision in precisions:
            rate = n_slices / seconds[precision]
            peak = products[precision][1] / seconds[f"peak {precision}"]
            yield EncoderSpeed(
                name, precision, rate, rate * seconds["loop"] / batch_size, rate * flops / peak, peak
            )
