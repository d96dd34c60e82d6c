"""The multi-scale fusion module (MSFM), Verdiff-Net section 2.3, equations 11 to 14: a selective kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MSFM(nn.Module):
    """Image [N, c_in, H, W] -> features [N, channels, H, W], each channel a soft choice among three kernel sizes.

    Branches of 3 x 3, 5 x 5 and 7 x 7 are summed (Eq. 11), averaged over space (Eq. 12), squeezed to ``z`` with
    ``squeeze`` entries (Eq. 13) and turned into weights that sum to one over the branches (Eq. 14). The paper puts
    batch norm on the squeezed vector, which has no spatial extent and so fails at the paper's own batch size of 1;
    layer norm stands there instead.
    """

    def __init__(self, c_in: int, channels: int, squeeze: int = 16) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(c_in, channels, size, padding=size // 2) for size in (3, 5, 7))
        self.squeeze = nn.Sequential(nn.Linear(channels, squeeze), nn.LayerNorm(squeeze), nn.ELU())
        self.select = nn.Linear(squeeze, channels * len(self.branches))

    def forward(self, image: Tensor) -> Tensor:
        a, b, c = (branch(image) for branch in self.branches)
        pooled = (a + b + c).mean(dim=(2, 3))
        weights = self.select(self.squeeze(pooled)).reshape(-1, 3, a.shape[1]).softmax(dim=1)[..., None, None]
        mixed: Tensor = a * weights[:, 0] + b * weights[:, 1] + c * weights[:, 2]
        return mixed

    @torch.no_grad()
    def branch_weights(self, image: Tensor) -> Tensor:
        """The softmax weights [N, 3, channels] for an image, to inspect which kernel sizes a trained model uses."""
        pooled = torch.stack([branch(image) for branch in self.branches]).sum(0).mean(dim=(2, 3))
        weights: Tensor = self.select(self.squeeze(pooled)).reshape(len(pooled), 3, -1).softmax(dim=1)
        return weights
