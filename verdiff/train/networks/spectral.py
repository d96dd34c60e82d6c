"""The FF-parser of MedSegDiff: a learned weight for every spatial frequency of a feature map."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def fourier_matrices(count: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of 2 pi k j / n, [frequencies, n], for positions ``count`` = 0 ... n - 1 and frequencies k.

    k j is taken modulo n before it is an angle: both are whole numbers that float32 holds exactly, so the angle of a
    high frequency is as exact as that of a low one.
    """
    size = (count[-1:] + 1)[None]
    turns = frequencies[:, None] * count[None]
    angle = (turns - size * torch.floor(turns / size)) * (2 * math.pi / size)
    return angle.cos(), angle.sin()


def interpolation_matrix(positions: Tensor, nodes: int) -> Tensor:
    """[positions, nodes]: linear interpolation of values at 0 ... ``nodes`` - 1 to ``positions`` among them."""
    grid = torch.arange(nodes, dtype=torch.float32, device=positions.device)
    return (1 - (positions[:, None] - grid[None]).abs()).clamp_min(0)


class FFParser(nn.Module):
    """Features [N, C, H, W] -> the same, every frequency multiplied by a learned complex weight of its channel.

    MedSegDiff (Wu et al. 2023, "FF-Parser"): m' = F^-1[A x F[m]] with F the two-dimensional Fourier transform. The
    released code has one weight a frequency of a fixed input size. Here A is a grid over the frequencies in cycles a
    pixel, interpolated to those that a map of H x W pixels has, so that one model takes every size. It starts at 1,
    the identity.

    F is written as products with cosine and sine matrices, which equals ``torch.fft.rfft2`` and ``irfft2`` and is made
    of operators that ONNX Runtime, OpenVINO and TensorRT all have; ONNX's DFT is missing in TensorRT.

    Args:
        channels: C.
        grid: Nodes of A over the row frequencies from -1/2 to 1/2, and over the column frequencies from 0 to 1/2.
    """

    def __init__(self, channels: int, grid: tuple[int, int] = (33, 17)) -> None:
        super().__init__()
        self.grid = grid
        self.real = nn.Parameter(torch.ones(channels, *grid))
        self.imaginary = nn.Parameter(torch.zeros(channels, *grid))

    def weights(self, row_frequencies: Tensor, col_frequencies: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary part of A, [C, rows, cols], at frequencies in cycles a pixel."""
        rows = interpolation_matrix((row_frequencies + 0.5) * (self.grid[0] - 1), self.grid[0])[None]
        cols = interpolation_matrix(col_frequencies * (2 * (self.grid[1] - 1)), self.grid[1]).T[None]
        # As second factors the weights would be a layer to OpenVINO, which has none with an axis for C.
        return rows @ (self.real @ cols), rows @ (self.imaginary @ cols)

    def forward(self, x: Tensor) -> Tensor:
        # A sum over a whole map loses too many digits in half precision.
        with torch.autocast(device_type=x.device.type, enabled=False):
            return self._parse(x.float())

    def _parse(self, x: Tensor) -> Tensor:
        high, wide = (torch.arange(x.shape[axis], dtype=torch.float32, device=x.device) for axis in (2, 3))
        half = torch.arange(x.shape[3] // 2 + 1, dtype=torch.float32, device=x.device)
        rows, cols = high[-1:] + 1, wide[-1:] + 1
        # Matrices of four axes, as the maps: OpenVINO multiplies no others where sizes are dynamic.
        row_cos, row_sin = (matrix[None, None] for matrix in fourier_matrices(high, high))
        col_cos, col_sin = (matrix[None, None] for matrix in fourier_matrices(wide, half))

        # exp(-i angle) along the columns, then along the rows; the input is real, so half the columns say it all.
        re, im = x @ col_cos.transpose(2, 3), -(x @ col_sin.transpose(2, 3))
        re, im = row_cos @ re + row_sin @ im, row_cos @ im - row_sin @ re

        signed = high / rows
        signed = signed - (signed > 0.5).float()
        a, b = self.weights(signed, half / cols)
        re, im = re * a - im * b, re * b + im * a

        re, im = row_cos @ re - row_sin @ im, row_cos @ im + row_sin @ re
        # Every column frequency stands for its mirror too, save 0 and, for an even width, the highest.
        alone = (half == 0).float() + (2 * half == cols).float()
        share = (2 - alone) / (rows * cols)
        return (re * share) @ col_cos - (im * share) @ col_sin
