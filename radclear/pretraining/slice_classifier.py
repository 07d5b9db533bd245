"""A slice encoder with linear layers on its embedding and tokens: what the supervised warm-up trains."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radclear.backbones import normalize_slices, resolve_precision
from radclear.backbones.gated_cnn import GatedCNN


class SliceClassifier(nn.Module):
    """Backbone, a linear layer on the embedding and one on the tokens.

    Args:
        backbone: whose embedding is the norm of the mean of its tokens; trained in place.
        n_classes: logits per slice and per token.
        precision: of the backbone, see `radclear.backbones.resolve_precision`.
        device: where it will run, which decides the precision.
    """

    def __init__(
        self,
        backbone: GatedCNN,
        n_classes: int,
        *,
        precision: str = "auto",
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.slice_linear = nn.Linear(backbone.embedding_dim, n_classes)
        self.token_linear = nn.Linear(backbone.embedding_dim, n_classes)
        self.dtype = resolve_precision(precision, device)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, S, S) float in [0, 1] → (B, 1 + N, n_classes) float32 logits, slice before tokens."""
        with torch.autocast(x.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            tokens = self.backbone.tokens(normalize_slices(x))
        tokens = tokens.float()
        embedding = self.backbone.norm(tokens.mean(dim=1))  # as GatedCNN.embed, without a second pass
        of_tokens = self.token_linear(self.backbone.norm(tokens))
        return torch.cat([self.slice_linear(embedding)[:, None], of_tokens], dim=1)


class SliceAndTokenLoss(nn.Module):
    """Binary cross-entropy of the slice plus that of its tokens, where a positive token weighs more.

    Args:
        token_weight: of the tokens' mean loss beside the slice's.
        positive_weight: of positive tokens, which are rare.
    """

    def __init__(self, *, token_weight: float = 1.0, positive_weight: float = 5.0) -> None:
        super().__init__()
        self.token_weight = token_weight
        self.positive_weight = positive_weight

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, 1 + N, C) logits and labels → scalar."""
        of_slice = F.binary_cross_entropy_with_logits(logits[:, 0], labels[:, 0])
        weight = logits.new_tensor(self.positive_weight)
        of_tokens = F.binary_cross_entropy_with_logits(logits[:, 1:], labels[:, 1:], pos_weight=weight)
        return of_slice + self.token_weight * of_tokens


def step_loss(output: dict[str, Tensor]) -> float:
    """The loss of one step, from the output of MONAI's trainer: an `output_transform` for its handlers."""
    return float(output["loss"])
