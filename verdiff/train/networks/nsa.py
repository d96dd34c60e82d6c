"""The noise semantic adapter (NSA): Verdiff-Net section 2.4, equations 15 and 16, a large selective kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NSA(nn.Module):
    """Features [N, C, H, W] and a foreground estimate [N, 1, H, W] in [0, 1] -> re-weighted features [N, C, H, W].

    The paper chooses a 3 x 3 kernel where mask pixels surround the pixel and a 5 x 5 one in the background. A hard
    choice has no gradient, so a sigmoid of the locally averaged estimate, with learned slope and threshold, mixes the
    two. A depthwise 7 x 7 kernel with dilation 3 (a 19 x 19 window) sees the neighbourhood. Both are halved in
    channels, pooled over channels by mean and maximum into two sigmoid maps (Eq. 15), weighted, summed, brought back
    to C channels and multiplied with the input (Eq. 16). The last layer starts at weight 0 and bias 1: the identity.

    The fine kernels are depthwise, as the large one is: full 5 x 5 convolutions would cost more than the whole
    residual block that the adapter follows.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = max(1, channels // 2)
        self.fine3 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.fine5 = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.wide = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.reduce_fine, self.reduce_wide = nn.Conv2d(channels, half, 1), nn.Conv2d(channels, half, 1)
        self.attend = nn.Conv2d(2, 2, 7, padding=3)
        self.expand = nn.Conv2d(half, channels, 1)
        self.gate_slope = nn.Parameter(torch.tensor(20.0))
        self.gate_threshold = nn.Parameter(torch.tensor(0.1))
        nn.init.zeros_(self.expand.weight)
        if self.expand.bias is not None:
            nn.init.ones_(self.expand.bias)

    def forward(self, x: Tensor, foreground: Tensor) -> Tensor:
        around = nn.functional.avg_pool2d(foreground, 5, stride=1, padding=2)
        gate = torch.sigmoid(self.gate_slope * (around - self.gate_threshold))
        fine = gate * self.fine3(x) + (1 - gate) * self.fine5(x)
        # CPU autocast to bfloat16 gives this layer non-finite weight gradients now and then: it stays in float32.
        with torch.autocast(device_type=x.device.type, enabled=False):
            wide = self.wide(fine.float())
        fine, wide = self.reduce_fine(fine), self.reduce_wide(wide)
        both = torch.cat([fine, wide], dim=1)
        pooled = torch.cat([both.mean(dim=1, keepdim=True), both.amax(dim=1, keepdim=True)], dim=1)
        weights = torch.sigmoid(self.attend(pooled))
        out: Tensor = self.expand(fine * weights[:, :1] + wide * weights[:, 1:]) * x
        return out
