"""The two-layer perceptron that transformer and state-space blocks share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from radclear.backbones.linear import Linear


class Mlp(nn.Module):
    """Linear, exact GELU, Linear on the last dimension."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden_dim)
        self.fc2 = Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))
