"""A slice encoder with one linear layer on top: what the supervised warm-up trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from radclear.backbones import normalize_slices, resolve_precision


class SliceClassifier(nn.Module):
    """Backbone and linear layer.

    Args:
        backbone: module with `embed(x) → (B, d)` and `embedding_dim`; trained in place.
        n_classes: logits per slice.
        precision: of the backbone, see `radclear.backbones.resolve_precision`.
        device: device type that the precision is resolved for.
    """

    def __init__(
        self, backbone: nn.Module, n_classes: int, *, precision: str = "auto", device: str = "cpu"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.linear = nn.Linear(backbone.embedding_dim, n_classes)
        self.dtype = resolve_precision(precision, device)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, S, S) float in [0, 1] → (B, n_classes) float32 logits."""
        with torch.autocast(x.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            embedding = self.backbone.embed(normalize_slices(x))
        return self.linear(embedding.float())


def step_loss(output: dict[str, Tensor]) -> float:
    """The loss of one step, from the output of MONAI's trainer: an `output_transform` for its handlers."""
    return float(output["loss"])
