"""What the denoiser's raw output means: logits of x0, epsilon or v, and how each becomes x0hat.

All arrays are [N, K, H, W]; masks are on [-1, 1]; x_t = k s x0 + k m f + sigma eps with the process's signal scale k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from verdiff.choices import PREDICTIONS
from verdiff.diffusion.loop import Array, Denoiser
from verdiff.diffusion.process import Process
from verdiff.errors import DataError

if TYPE_CHECKING:
    from verdiff.train.config import ProcessConfig
    from verdiff.train.networks import SegmentationModel


class Coefficients(NamedTuple):
    """k s, k m and sigma at each sample's timestep, shaped [N, 1, 1, 1]."""

    signal: Tensor
    prior: Tensor
    noise: Tensor


class MarginalTable(nn.Module):
    """The process's marginal coefficients as float32 buffers, looked up by timestep."""

    signal: Tensor
    prior: Tensor
    noise: Tensor

    def __init__(self, process: Process) -> None:
        super().__init__()
        scale = process.signal_scale
        for name, values in (
            ("signal", scale * process.signal),
            ("prior", scale * process.prior),
            ("noise", process.noise),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def forward(self, timestep: Tensor) -> Coefficients:
        index = timestep.long()
        return Coefficients(*(table[index][:, None, None, None] for table in (self.signal, self.prior, self.noise)))


def to_x0hat(prediction: str, raw: Tensor, x: Tensor, prior: Tensor, at: Coefficients) -> Tensor:
    """x0hat in [-1, 1] from the raw output; epsilon and v are solved for x0 and clamped."""
    if prediction == "x0":
        return 2 * torch.sigmoid(raw) - 1
    u = x - at.prior * prior
    if prediction == "epsilon":
        return ((u - at.noise * raw) / at.signal.clamp_min(1e-6)).clamp(-1, 1)
    # v = s eps - sigma x0 on unit-variance data. With u = k s x0 + sigma eps, (k s, sigma) is not a unit vector for
    # k < 1, so the rotation uses its normalised direction and the norm is undone.
    norm = (at.signal**2 + at.noise**2).sqrt()
    return ((at.signal * u / norm - at.noise * raw) / norm).clamp(-1, 1)


def target(prediction: str, x0: Tensor, x: Tensor, prior: Tensor, at: Coefficients) -> Tensor:
    """What the raw output should be, given the true mask and the x_t the network saw; for x0 it is x0 itself.

    Taken from x_t rather than from the noise that was drawn, so that it also holds when x_t was made from the
    model's own prediction.
    """
    if prediction == "x0":
        return x0
    u = x - at.prior * prior
    epsilon = (u - at.signal * x0) / at.noise
    if prediction == "epsilon":
        return epsilon
    norm = (at.signal**2 + at.noise**2).sqrt()
    return (at.signal * epsilon - at.noise * x0) / norm


class X0Denoiser(nn.Module):
    """The denoiser as every sampler wants it: (x_t, timestep [N], prior, *features) -> x0hat in [-1, 1].

    This is also what the exported ``denoiser`` graph computes.
    """

    def __init__(self, denoiser: nn.Module, process: Process, prediction: str) -> None:
        super().__init__()
        if prediction not in PREDICTIONS:
            raise DataError(f"prediction = {prediction!r}", f"one of {', '.join(PREDICTIONS)}", "correct [process]")
        self.denoiser, self.table, self.prediction = denoiser, MarginalTable(process), prediction

    @classmethod
    def of(cls, net: SegmentationModel, process: ProcessConfig) -> X0Denoiser:
        """The denoiser of a diffusion system. Raises DataError for a model that answers in one pass."""
        if net.denoiser is None:
            raise DataError(
                "a model that answers in one pass", "a diffusion system, which has a denoiser", "see verdiff models"
            )
        return cls(net.denoiser, process.build(), process.prediction)

    def forward(self, x: Tensor, timestep: Tensor, prior: Tensor, *features: Tensor) -> Tensor:
        raw = self.denoiser(x, timestep, prior, features)
        return to_x0hat(self.prediction, raw, x, prior, self.table(timestep))

    def on_host(self, prior: Tensor, features: Sequence[Tensor]) -> Denoiser:
        """This denoiser as :func:`verdiff.diffusion.loop.run_loop` calls it, on one batch; without gradient."""

        @torch.no_grad()
        def denoise(x: Array, timestep: int) -> Array:
            at = torch.full((len(x),), float(timestep), device=prior.device)
            x0hat: Array = self(torch.from_numpy(x).to(prior.device), at, prior, *features).float().cpu().numpy()
            return x0hat

        return denoise
