"""Batch norm over the batch of all processes, on the CPU too, where torch's SyncBatchNorm does not work."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from radclear.pretraining.distributed import world_size


class _SumOverProcesses(torch.autograd.Function):
    """Σ over processes; its gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class GlobalBatchNorm1d(nn.BatchNorm1d):
    """`nn.BatchNorm1d` whose mean and variance in training are those of the global batch.

    Every process must hold equally many rows. On GPUs `radclear.pretraining.distributed.distribute` replaces
    it by `nn.SyncBatchNorm`, which does the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) → (n, d) in the type of x."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            values = x.float()
            count = len(values) * world_size()
            mean = _SumOverProcesses.apply(values.sum(dim=0)) / count
            centred = values - mean
            variance = _SumOverProcesses.apply((centred * centred).sum(dim=0)) / count
            self._remember(mean.detach(), variance.detach() * count / max(1, count - 1))
            normed = centred * torch.rsqrt(variance + self.eps)
            if self.affine:
                normed = normed * self.weight + self.bias
        return normed.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)
