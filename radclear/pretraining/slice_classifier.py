"""A slice encoder with linear layers on its embedding and its maps: what the supervised warm-up trains."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from radclear.backbones import normalize_slices, resolve_precision
from radclear.backbones.gated_cnn import GatedCNN
from radclear.pretraining.annotated_views import CohortError
from radclear.pretraining.region_labels import COVERAGE, EXTENT, PRESENT

N_TARGETS = 3  # present, extent, coverage
RARE_LOGIT = -3.0  # a cell shows a finding seldom: where training starts
SIZE_BETA = 0.25  # errors of sizes below this count with their square
SMALLEST_EXTENT = 0.01  # in UNIT_MM, so that an empty box has a logarithm


class SliceClassifier(nn.Module):
    """Backbone, a linear layer on the embedding and one on each of the last two maps.

    Args:
        backbone: whose embedding is the norm of the mean of its tokens; trained in place.
        n_findings: F.
        frozen_stages: how many of the backbone's first stages are not trained, which makes a step about
            three times as cheap where only the last one is.
        precision: of the backbone, see `radclear.backbones.resolve_precision`.
        device: where it will run, which decides the precision.
    """

    def __init__(
        self,
        backbone: GatedCNN,
        n_findings: int,
        *,
        frozen_stages: int = 0,
        precision: str = "auto",
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        if not 0 <= frozen_stages <= len(backbone.stages):
            raise CohortError(
                f"frozen_stages is {frozen_stages}; expected 0 to {len(backbone.stages)}, as the backbone has"
            )
        self.backbone = backbone
        self.frozen_stages = frozen_stages
        for part in (*backbone.downsample_layers[:frozen_stages], *backbone.stages[:frozen_stages]):
            part.requires_grad_(False)
        self.n_findings = n_findings
        *_, finer, last = backbone.config.dims
        self.slice_linear = nn.Linear(last, n_findings * N_TARGETS)
        self.last_linear = nn.Linear(last, n_findings * N_TARGETS)
        self.finer_norm = nn.LayerNorm(finer)
        self.finer_linear = nn.Linear(finer, n_findings * N_TARGETS)
        for linear in (self.last_linear, self.finer_linear):
            nn.init.constant_(linear.bias.view(n_findings, N_TARGETS)[:, PRESENT], RARE_LOGIT)
        self.dtype = resolve_precision(precision, device)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, S, S) float in [0, 1] → (B, 1 + (S/32)² + (S/16)², F, 3) float32.

        Rows as those of `radclear.pretraining.region_labels` with strides (32, 16): the logit of presence,
        the logarithm of the extent in `UNIT_MM`, and the coverage in `UNIT_MM`.
        """
        with torch.autocast(x.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            map_, maps = normalize_slices(x), []
            layers = zip(self.backbone.downsample_layers, self.backbone.stages, strict=True)
            for number, (downsample, stage) in enumerate(layers):
                with torch.set_grad_enabled(torch.is_grad_enabled() and number >= self.frozen_stages):
                    map_ = stage(downsample(map_))
                maps.append(map_)
        finer, last = (map_.flatten(1, 2).float() for map_ in maps[-2:])
        embedding = self.backbone.norm(last.mean(dim=1))  # as GatedCNN.embed
        rows = [
            self.slice_linear(embedding)[:, None],
            self.last_linear(self.backbone.norm(last)),
            self.finer_linear(self.finer_norm(finer)),
        ]
        return torch.cat(rows, dim=1).unflatten(2, (self.n_findings, N_TARGETS))


class RegionLoss(nn.Module):
    """Cross-entropy of presence and a smooth L1 of the sizes, of the slice and of the cells.

    Extents are compared by their logarithms, and where the finding is present only: what decides (a T, for
    example) is by what factor a size is off.

    Args:
        slice_weight: of the slice's cross-entropy.
        cell_weight: of the cross-entropy averaged over cells.
        positive_weight: of present findings in the cross-entropy, since they are rare.
        size_weight: of the slice's extent and coverage.
        cell_size_weight: of the extent in cells, where the finding is present.
    """

    def __init__(
        self,
        *,
        slice_weight: float = 2.0,
        cell_weight: float = 6.0,
        positive_weight: float = 5.0,
        size_weight: float = 1.0,
        cell_size_weight: float = 0.4,
    ) -> None:
        super().__init__()
        self.slice_weight = slice_weight
        self.cell_weight = cell_weight
        self.positive_weight = positive_weight
        self.size_weight = size_weight
        self.cell_size_weight = cell_size_weight

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """(B, 1 + N, F, 3) outputs and labels → scalar.

        Labels hold the extent in `UNIT_MM` and presence as 0, 1 or `UNSURE`, outputs the logarithm of the
        one and the logit of the other.
        """
        loss = self.slice_weight * self._presence(outputs[:, 0], labels[:, 0])
        loss = loss + self.cell_weight * self._presence(outputs[:, 1:], labels[:, 1:])
        covered = F.smooth_l1_loss(outputs[:, 0, :, COVERAGE], labels[:, 0, :, COVERAGE], beta=SIZE_BETA)
        loss = loss + self.size_weight * (covered + _extent(outputs[:, 0], labels[:, 0]))
        loss = loss + self.cell_size_weight * _extent(outputs[:, 1:], labels[:, 1:])
        return loss

    def _presence(self, outputs: Tensor, labels: Tensor) -> Tensor:
        present = labels[..., PRESENT]
        weight = torch.where(present < 0, 0.0, torch.where(present > 0, self.positive_weight, 1.0))
        return F.binary_cross_entropy_with_logits(outputs[..., PRESENT], present.clamp(min=0), weight=weight)


def _extent(outputs: Tensor, labels: Tensor) -> Tensor:
    present = labels[..., PRESENT] > 0
    if not bool(present.any()):
        return outputs.sum() * 0.0
    wanted = labels[..., EXTENT][present].clamp(min=SMALLEST_EXTENT).log()
    return F.smooth_l1_loss(outputs[..., EXTENT][present], wanted, beta=SIZE_BETA)


class ClipGradients:
    """Handler of a MONAI trainer: scale the gradient of a network down to a norm before each step.

    Args:
        network: whose gradient.
        max_norm: largest L2 norm over all parameters.
    """

    def __init__(self, network: nn.Module, *, max_norm: float = 1.0) -> None:
        self.network = network
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Run after every backward pass of `engine`."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


def step_loss(output: dict[str, Tensor]) -> float:
    """The loss of one step, from the output of MONAI's trainer: an `output_transform` for its handlers."""
    return float(output["loss"].detach())
