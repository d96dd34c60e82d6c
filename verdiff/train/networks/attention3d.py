"""SAFNet's self-attention ("Self-attention mechanism", figures 5 and 6): over positions, then over channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from verdiff.train.networks.blocks3d import convolution


class PositionAttention(nn.Module):
    """[N, C, D, H, W] -> the same: every position adds a mean of all others, weighted by how alike they are.

    Queries and keys have C / 8 channels, as the paper says. Its residual sum has no weight; here the attended part has
    one that is learnt and starts at 0, as in the module the paper's is (Fu et al. 2019, arXiv 1809.02983, equation 2).
    Likeness is divided by the root of the channels it is summed over, without which the softmax of a deep map picks a
    single position and passes no gradient.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 8)
        self.query, self.key = convolution(channels, inner, 1), convolution(channels, inner, 1)
        self.value = convolution(channels, channels, 1)
        self.weight = nn.Parameter(torch.zeros(()))
        self.scale = inner**-0.5

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        alike = torch.softmax(self.scale * query.transpose(1, 2) @ key, dim=-1)
        return x + self.weight * (value @ alike.transpose(1, 2)).reshape(x.shape)


class ChannelAttention(nn.Module):
    """[N, C, D, H, W] -> the same: every channel adds a mean of all others, weighted by how alike their maps are.

    Without layers of its own. Its weight is that of :class:`PositionAttention`; likeness is the mean product over the
    positions, since a sum of thousands would leave every channel with itself alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        maps = x.flatten(2)
        alike = torch.softmax(maps @ maps.transpose(1, 2) / maps.shape[-1], dim=-1)
        return x + self.weight * (alike @ maps).reshape(x.shape)
