"""The two networks of momentum contrast: one that learns, and its slow average that gives the keys.

Shapes: B slices, S side, d embedding, p projection. Source: MoCo v3 (Chen, Xie, He; arXiv 2104.02057), whose
projector (d, h, h, p) and predictor (p, h, p) have batch norm after every linear layer and ReLU between; the
last batch norm has no affine part.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radclear.backbones import normalize_slices, resolve_precision
from radclear.pretraining.batch_norm import GlobalBatchNorm1d
from radclear.pretraining.errors import PretrainingError


class Pairs(NamedTuple):
    """What one pass over two views gives; all rows L2-normalised but the embeddings.

    Attributes:
        q1, q2: (B, p) queries, predictions of the learning network.
        k1, k2: (B, p) keys of the momentum network, without gradient.
        e1, e2: (B, d) embeddings of the learning network, without gradient, for the collapse monitor.
    """

    q1: Tensor
    q2: Tensor
    k1: Tensor
    k2: Tensor
    e1: Tensor
    e2: Tensor


def perceptron(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers without bias, each with batch norm, ReLU between them; the last norm without affine."""
    layers: list[nn.Module] = []
    last = len(widths) - 2
    for index, (inner, outer) in enumerate(zip(widths, widths[1:], strict=False)):
        layers += [nn.Linear(inner, outer, bias=False), GlobalBatchNorm1d(outer, affine=index < last)]
        if index < last:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class MomentumNetwork(nn.Module):
    """Backbone, projector and predictor, and the momentum copy of the first two.

    The momentum copy stays in training mode, as in MoCo v3, so that its batch norm counts the batch; it gets
    no gradient, and its parameters change in `update` alone.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        projector_hidden: int = 4096,
        projection_dim: int = 256,
        predictor_hidden: int = 4096,
        precision: str = "auto",
        device: str | torch.device = "cpu",
    ) -> None:
        """
        Args:
            backbone: with `embedding_dim`; trained in place.
            projector_hidden, projection_dim, predictor_hidden: widths of the two perceptrons.
            precision: of backbone and perceptrons, see `radclear.backbones.resolve_precision`.
            device: where it will run, which decides the precision.

        Raises:
            PretrainingError: float16 on a device where gradients cannot be scaled.
        """
        super().__init__()
        self.dtype = resolve_precision(precision, device)
        if self.dtype == torch.float16 and torch.device(device).type != "cuda":
            raise PretrainingError(
                f"precision float16 needs scaled gradients, which {torch.device(device)} has not; use "
                "bfloat16, float32 or auto"
            )
        self.backbone = backbone
        self.projector = perceptron(
            (backbone.embedding_dim, projector_hidden, projector_hidden, projection_dim)
        )
        self.predictor = perceptron((projection_dim, predictor_hidden, projection_dim))
        self.momentum_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def forward(self, x1: Tensor, x2: Tensor) -> Pairs:
        """Two views, (B, 1, S, S) uint8 grey levels or float in [0, 1] → `Pairs` in float32."""
        device = x1.device.type
        with torch.autocast(device, dtype=self.dtype, enabled=self.dtype != torch.float32):
            x1, x2 = (_three_channels(x) for x in (x1, x2))
            e1, e2 = self.backbone(x1), self.backbone(x2)
            q1, q2 = (self.predictor(self.projector(e)) for e in (e1, e2))
            with torch.no_grad():
                k1, k2 = (self.momentum_projector(self.momentum_backbone(x)) for x in (x1, x2))
        return Pairs(
            *(F.normalize(v.float(), dim=1) for v in (q1, q2, k1, k2)),
            e1.detach().float(),
            e2.detach().float(),
        )

    @torch.no_grad()
    def embed(self, x: Tensor) -> Tensor:
        """Slices as in `forward` → (B, d) float32 embeddings of the learning backbone, in its mode."""
        with torch.autocast(x.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            return self.backbone(_three_channels(x)).float()

    def trained_parameters(self) -> list[nn.Parameter]:
        """What the optimiser changes: not the momentum copy, and nothing that the backbone keeps fixed."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """Move the momentum copy: θ_k ← m θ_k + (1 − m) θ_q, once per optimiser step.

        Buffers (the running statistics of batch norm) are not averaged: each network keeps its own.
        """
        for slow, fast in (
            (self.momentum_backbone, self.backbone),
            (self.momentum_projector, self.projector),
        ):
            for target, source in zip(slow.parameters(), fast.parameters(), strict=True):
                target.lerp_(source, 1 - momentum)


def _three_channels(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        x = x.float() / 255
    return normalize_slices(x)
