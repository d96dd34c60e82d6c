"""Atrous spatial pyramid pooling in 3D, as SAFNet and the 3D DeepLabv3 use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from verdiff.train.networks.blocks3d import Size, cbr, convolution, dilated

RATES = (6, 12, 18)


class ASPP3d(nn.Module):
    """[N, c_in, D, H, W] -> [N, c_out, D, H, W]: the map seen at several scales at once.

    Five branches (SAFNet, "Atrous spatial pyramid pooling", figure 4; Chen et al. 2017, arXiv 1706.05587, section 3.3):
    a 1 x 1 x 1 convolution, 3 x 3 x 3 ones with their taps 6, 12 and 18 apart, and the mean of the whole map; joined
    and brought to ``c_out`` channels.

    SAFNet writes 2D kernels and pools to 1 x 1 in a network whose maps are 3D; here all three axes are treated alike.
    On its map of 18 x 16 x 8 most of what the rates promise lies outside (Chen et al. name the same at figure 4): 6
    reaches on every axis, 12 along slices and rows only, and 18 nowhere, a second 1 x 1 x 1 convolution. Taps that
    can reach nothing are left out (:func:`~verdiff.train.networks.blocks3d.dilated`).

    The pooled branch has no normalisation: of one number a channel, group norm would leave the sign and batch norm
    fails at batch size 1.

    Args:
        c_in, c_out: Channels.
        size: D, H, W.
        norm: ``"group"`` or ``"batch"``.
        rates: Distances of the taps.
    """

    def __init__(self, c_in: int, c_out: int, size: Size, norm: str, rates: tuple[int, ...] = RATES) -> None:
        super().__init__()
        layers = [convolution(c_in, c_out, 1), *(dilated(c_in, c_out, rate, size) for rate in rates)]
        self.branches = nn.ModuleList(cbr(layer, norm) for layer in layers)
        self.pooled = nn.Sequential(convolution(c_in, c_out, 1), nn.ReLU(inplace=True))
        self.join = cbr(convolution((len(layers) + 1) * c_out, c_out, 1), norm)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pooled(x.mean(dim=(2, 3, 4), keepdim=True)).expand(-1, -1, *x.shape[2:])
        joined: Tensor = self.join(torch.cat([*(branch(x) for branch in self.branches), pooled], dim=1))
        return joined
