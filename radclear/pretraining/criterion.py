"""The symmetrised LeCL loss of a batch that is spread over processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from radclear.pretraining.distributed import gather, rank
from radclear.pretraining.errors import PretrainingError
from radclear.pretraining.loss import WEIGHTINGS, lecl_loss
from radclear.pretraining.momentum import Pairs

EXCLUDE = ("none", "patient", "class")


class LeCLLoss(nn.Module):
    """`lecl_loss` of both view orders, with the keys of all processes.

    Attributes:
        weighting, weight, temperature, lesion_queries_only: see `radclear.pretraining.lecl_loss`.
        exclude: keys that are no negatives: `"none"`, those of the same `"patient"`, or those of the same
            lesion `"class"`.
    """

    def __init__(
        self,
        *,
        weighting: str = "similarity",
        weight: float = 1.0,
        temperature: float = 1.0,
        exclude: str = "none",
        lesion_queries_only: bool = False,
    ) -> None:
        super().__init__()
        for name, value, allowed in (("weighting", weighting, WEIGHTINGS), ("exclude", exclude, EXCLUDE)):
            if value not in allowed:
                raise PretrainingError(f"{name} is {value!r}; expected one of {', '.join(allowed)}")
        if not temperature > 0 or not weight >= 0:
            raise PretrainingError(
                f"temperature is {temperature} and lesion_weight {weight}; expected above 0, and 0 or more"
            )
        self.weighting, self.weight, self.temperature = weighting, weight, temperature
        self.exclude, self.lesion_queries_only = exclude, lesion_queries_only

    def forward(self, pairs: Pairs, batch: dict[str, Tensor]) -> Tensor:
        """The scalar loss of this process; its mean over the processes is the loss of the global batch.

        Args:
            pairs: of this process.
            batch: with `lesion` (B,) bool, and `patient` and `lesion_class` (B,) codes.
        """
        lesion = gather(batch["lesion"])
        excluded = self._excluded(batch)
        options = {
            "temperature": self.temperature,
            "weight": self.weight,
            "weighting": self.weighting,
            "rank": rank(),
            "exclude": excluded,
            "lesion_queries_only": self.lesion_queries_only,
        }
        first = lecl_loss(pairs.q1, gather(pairs.k2), lesion, **options)
        return first + lecl_loss(pairs.q2, gather(pairs.k1), lesion, **options)

    def _excluded(self, batch: dict[str, Tensor]) -> Tensor | None:
        if self.exclude == "none":
            return None
        codes = batch["patient" if self.exclude == "patient" else "lesion_class"]
        same = codes[:, None] == gather(codes)[None, :]
        return same & (codes[:, None] >= 0)  # −1 is an unknown class, which is the same as no other


def mean_over_processes(value: Tensor) -> float:
    """A scalar averaged over the processes."""
    return float(gather(value.detach().float().reshape(1)).mean().item())


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in at least one process."""
    return bool(gather(torch.tensor([flag], device=device)).any())
