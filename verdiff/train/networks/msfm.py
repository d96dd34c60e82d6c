"""The multi-scale fusion module (MSFM), Verdiff-Net section 2.3, equations 11 to 14: a selective kernel."""

from __future__ import annotations

from torch import Tensor, nn

POOLINGS = ("field", "body")
# On the [-1, 1] scale of an image: below it lie air, margins and what gives no signal.
BODY = -0.8


class MSFM(nn.Module):
    """Image [N, c_in, H, W] -> features [N, channels, H, W], each channel a soft choice among three kernel sizes.

    Branches of 3 x 3, 5 x 5 and 7 x 7 are summed (Eq. 11), averaged over space (Eq. 12), squeezed to ``z`` with
    ``squeeze`` entries (Eq. 13) and turned into weights that sum to one over the branches (Eq. 14). The paper puts
    batch norm on the squeezed vector, which has no spatial extent and so fails at the paper's own batch size of 1;
    layer norm stands there instead.

    Args:
        c_in: Channels of the image.
        channels: Channels of the features.
        squeeze: Entries of ``z``.
        pooling: ``"field"`` averages over the whole field of view, as Eq. 12 does; ``"body"`` over the pixels brighter
            than :data:`BODY` alone, so that air and black margins have no say in what is chosen.
    """

    def __init__(self, c_in: int, channels: int, squeeze: int = 16, pooling: str = "field") -> None:
        super().__init__()
        self.pooling = pooling
        self.branches = nn.ModuleList(nn.Conv2d(c_in, channels, size, padding=size // 2) for size in (3, 5, 7))
        self.squeeze = nn.Sequential(nn.Linear(channels, squeeze), nn.LayerNorm(squeeze), nn.ELU())
        self.select = nn.Linear(squeeze, channels * len(self.branches))

    def forward(self, image: Tensor) -> Tensor:
        a, b, c = (branch(image) for branch in self.branches)
        weights = self.weights(image, a + b + c)[..., None, None]
        mixed: Tensor = a * weights[:, 0] + b * weights[:, 1] + c * weights[:, 2]
        return mixed

    def weights(self, image: Tensor, summed: Tensor) -> Tensor:
        """How much of each branch there is in each channel, [N, 3, channels]; ``summed`` is the branches' sum."""
        pooled = self._pooled(image, summed)
        weights: Tensor = self.select(self.squeeze(pooled)).reshape(-1, 3, summed.shape[1]).softmax(dim=1)
        return weights

    def _pooled(self, image: Tensor, summed: Tensor) -> Tensor:
        if self.pooling == "field":
            return summed.mean(dim=(2, 3))
        body = (image.amax(dim=1, keepdim=True) > BODY).to(summed.dtype)
        return (summed * body).mean(dim=(2, 3)) / body.mean(dim=(2, 3)).clamp_min(1e-3)
