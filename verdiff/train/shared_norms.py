"""Batch norms that count over the shares of all processes, on any device.

PyTorch's ``SyncBatchNorm`` is for GPUs alone. These do the same by two sums a layer and pass, and their gradients, so
that a batch has the statistics it has in one process.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist


class _Sum(torch.autograd.Function):
    """The sum over all processes. Each depends on every share, so the gradient of a share is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        total = mine.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _total(mine: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(mine)
    return total


class _Shared(nn.modules.batchnorm._BatchNorm):
    size = 1

    def forward(self, x: Tensor) -> Tensor:
        """The norm of ``x`` [N, C, ...], the share of this process in a batch; all shares are alike in shape."""
        if not self.training or self.running_mean is None or self.running_var is None or self.momentum is None:
            return super().forward(x)
        values, axes = x.float(), (0, *range(2, x.ndim))
        shape = (1, -1, *[1] * (x.ndim - 2))
        count = self.size * values.numel() // values.shape[1]
        mean = _total(values.sum(axes)) / count
        centred = values - mean.reshape(shape)
        variance = _total((centred * centred).sum(axes)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        normed = centred * torch.rsqrt(variance + self.eps).reshape(shape)
        if self.affine:
            normed = normed * self.weight.reshape(shape) + self.bias.reshape(shape)
        return normed.to(x.dtype)


class SharedBatchNorm2d(_Shared, nn.BatchNorm2d):
    """A batch norm of slices."""


class SharedBatchNorm3d(_Shared, nn.BatchNorm3d):
    """A batch norm of volumes."""


_KINDS: dict[type, type[SharedBatchNorm2d] | type[SharedBatchNorm3d]] = {
    nn.BatchNorm2d: SharedBatchNorm2d,
    nn.BatchNorm3d: SharedBatchNorm3d,
}


def share_norms(net: nn.Module, size: int) -> None:
    """Have the batch norms of a network count over ``size`` processes; parameters, buffers and names stay.

    Args:
        net: The network, changed in place.
        size: Number of processes, each with as many samples as the others.
    """
    for module in net.modules():
        for name, child in module.named_children():
            if type(child) in _KINDS:
                setattr(module, name, _shared(child, size))


def _shared(norm: Any, size: int) -> nn.Module:
    made = _KINDS[type(norm)](norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    made.weight, made.bias, made.size = norm.weight, norm.bias, size
    made.running_mean, made.running_var = norm.running_mean, norm.running_var
    made.num_batches_tracked = norm.num_batches_tracked
    return made.train(norm.training)
