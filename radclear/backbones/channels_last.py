"""Convolution on maps whose channels come last."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelsLastConv2d(nn.Conv2d):
    """`nn.Conv2d` from (B, H, W, C) to (B, H', W', C'); same parameters, and the permutations are views."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x.permute(0, 3, 1, 2), self.weight, self.bias).permute(0, 2, 3, 1)
