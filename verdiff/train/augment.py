"""Random changes to training slices: the paper's four, and what sets one scanner apart from another.

One geometric map a sample (rotation, zoom, shift, elastic displacement) is applied in a single resampling; intensity
changes follow. Every draw comes from the NumPy generator handed in, so an iteration's batch depends on its seed alone.
A volume [D, H, W] handed over for a slice [H, W] has the same done to all its slices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional

from verdiff.train.config import AugmentConfig
from verdiff.train.data.cases import IGNORE
from verdiff.train.losses import UNKNOWN

# A pixel of which more than this share is labelled "ignore" is unknown.
IGNORED_SHARE = 0.01


def crop_and_warp(
    image: Tensor,
    label: Tensor,
    size: tuple[int, int],
    config: AugmentConfig,
    rng: Generator,
    *,
    classes: int,
    coverage: Tensor | None = None,
    unknown: Sequence[int] = (),
    on_foreground: bool = False,
    outside: float = -1.0,
) -> tuple[Tensor, Tensor]:
    """A warped crop of one slice, or the same one of all slices of a volume.

    Args:
        image: [H, W] or [D, H, W] in [-1, 1].
        label: Integers of that shape, 0 background to ``classes``, or :data:`~verdiff.train.data.cases.IGNORE`.
        size: Rows and columns of the result.
        classes: K, the foreground channels.
        coverage: [K, H, W], the share of each pixel that a structure covers, 255 for all of it; None: ``label`` says.
        unknown: Channels of which nothing is known.
        on_foreground: Centre the crop on a labelled pixel, where the slice has one.
        outside: What the image has beyond its border.

    Returns:
        The image [1, rows, cols] and the truth [K, rows, cols], as :mod:`verdiff.train.losses` has it: 0 or 1, with
        ``coverage`` anything between; of a volume [1, D, rows, cols] and [K, D, rows, cols].
    """
    rows, cols = size
    height, width = label.shape[-2:]
    angle = np.deg2rad(rng.uniform(-config.rotation_deg, config.rotation_deg))
    zoom = float(np.exp(rng.uniform(-1, 1) * np.log(config.zoom)))
    centre = _crop_centre(label, size, rng, on_foreground) + rng.uniform(-config.shift, config.shift, 2) * size
    grid_r, grid_c = torch.meshgrid(
        torch.arange(rows, dtype=torch.float32) - (rows - 1) / 2,
        torch.arange(cols, dtype=torch.float32) - (cols - 1) / 2,
        indexing="ij",
    )
    if config.elastic_px:
        coarse = torch.from_numpy(
            rng.standard_normal((1, 2, max(2, rows // 48), max(2, cols // 48))).astype(np.float32)
        )
        wave = functional.interpolate(coarse, size, mode="bicubic", align_corners=True)[0]
        wave = wave * float(rng.uniform(0, config.elastic_px))
        grid_r, grid_c = grid_r + wave[0], grid_c + wave[1]
    cos, sin = float(np.cos(angle)) / zoom, float(np.sin(angle)) / zoom
    source_r = cos * grid_r - sin * grid_c + float(centre[0])
    source_c = sin * grid_r + cos * grid_c + float(centre[1])
    # grid_sample's coordinates: -1 and 1 are the outer edges of the first and last pixel (align_corners=False).
    grid = torch.stack([(2 * source_c + 1) / width - 1, (2 * source_r + 1) / height - 1], dim=-1)[None]
    planes = image.reshape(1, -1, height, width) - outside
    warped = _sampled(planes, grid) + outside
    ignored = label == IGNORE
    if coverage is None:
        one_hot = functional.one_hot(label.long() * ~ignored, classes + 1).movedim(-1, 0)[1:].float()
        # Bilinear on the indicator and a threshold at one half moves the boundary smoothly, where nearest would jag it.
        truth = (_sampled(one_hot, grid) > 0.5).float()
    else:
        truth = _sampled(coverage.float() / 255, grid)
    slices = label.shape[:-2]
    truth = truth.reshape(classes, *slices, rows, cols)
    if bool(ignored.any()):
        truth[:, _sampled(ignored.float(), grid).reshape(*slices, rows, cols) > IGNORED_SHARE] = UNKNOWN
    truth[list(unknown)] = UNKNOWN
    return warped.reshape(1, *slices, rows, cols), truth


def _sampled(planes: Tensor, grid: Tensor) -> Tensor:
    """[..., H, W] at the grid's points, 0 outside: [1, planes, rows, cols]."""
    sampled: Tensor = functional.grid_sample(planes.reshape(1, -1, *planes.shape[-2:]), grid, align_corners=False)
    return sampled


def small_field_size(crop: tuple[int, int], multiple: int, rng: Generator) -> tuple[int, int]:
    """Rows and columns of a small field of view: multiples from about a third of the crop up to all of it."""
    rows, cols = (int(rng.integers(max(2, extent // multiple // 3), extent // multiple + 1)) for extent in crop)
    return rows * multiple, cols * multiple


def _crop_centre(label: Tensor, size: tuple[int, int], rng: Generator, on_foreground: bool) -> np.ndarray:
    """Row and column of the crop's centre: the slice's own where the crop covers it, else anywhere it fits."""
    if on_foreground:
        pixels = torch.nonzero((label > 0) & (label != IGNORE))[:, -2:]
        if len(pixels):
            return pixels[int(rng.integers(len(pixels)))].numpy().astype(np.float64)
    centre = np.empty(2)
    for axis, extent in enumerate(label.shape[-2:]):
        slack = max(0.0, (extent - size[axis]) / 2)
        centre[axis] = (extent - 1) / 2 + rng.uniform(-slack, slack)
    return centre


def change_intensity(image: Tensor, config: AugmentConfig, rng: Generator) -> Tensor:
    """Contrast, gamma, bias field, blur, undersampling and noise on one image [1, H, W] in [-1, 1].

    On [D, H, W] the same for each slice but for the noise, which is drawn for every voxel.
    """
    unit = (image + 1) / 2
    _, rows, cols = unit.shape
    if config.low_resolution > 1 and rng.random() < 0.25:
        factors = rng.uniform(1, config.low_resolution, 2)
        if rng.random() < 0.5:
            factors[1] = factors[0]
        small = (max(8, round(rows / factors[0])), max(8, round(cols / factors[1])))
        low = functional.interpolate(unit[None], small, mode="bilinear", antialias=True)
        unit = functional.interpolate(low, (rows, cols), mode="bilinear")[0]
    if config.blur_px and rng.random() < 0.25:
        unit = _blur(unit, float(rng.uniform(min(0.2, config.blur_px), config.blur_px)))
    if config.bias_field and rng.random() < 0.5:
        coarse = torch.from_numpy(rng.standard_normal((1, 1, 4, 3)).astype(np.float32))
        field = functional.interpolate(coarse, (rows, cols), mode="bicubic", align_corners=True)[0]
        unit = unit * torch.exp(float(rng.uniform(0, config.bias_field)) * field)
    if config.gamma and rng.random() < 0.5:
        unit = unit.clamp(0, 1) ** float(np.exp(rng.uniform(-config.gamma, config.gamma)))
    if config.contrast:
        mean = unit.mean()
        unit = (unit - mean) * float(1 + rng.uniform(-config.contrast, config.contrast)) + mean
        unit = unit + float(rng.uniform(-config.contrast, config.contrast)) / 3
    if config.noise and rng.random() < 0.5:
        scale = float(rng.uniform(0, config.noise)) / 2
        unit = unit + scale * torch.from_numpy(rng.standard_normal(unit.shape).astype(np.float32))
    return 2 * unit.clamp(0, 1) - 1


def narrow_field(image: Tensor, truth: Tensor, config: AugmentConfig, rng: Generator) -> tuple[Tensor, Tensor]:
    """Bands at the edges of an image [1, ..., H, W] that are outside the scanner's field: darkest, and no structure.

    The truth [K, ..., H, W] is emptied there, also where nothing was known: in a black band there is nothing.
    """
    if not config.field_of_view or rng.random() >= config.field_of_view:
        return image, truth
    image, truth = image.clone(), truth.clone()
    for edge in rng.permutation(4)[: int(rng.choice([1, 1, 2, 3]))]:
        axis = -1 - int(edge) % 2
        count = round(float(rng.uniform(0.05, max(0.05, config.field_of_view_depth))) * image.shape[axis])
        start = 0 if edge < 2 else image.shape[axis] - count
        image.narrow(axis, start, count).fill_(-1.0)
        truth.narrow(axis, start, count).zero_()
    return image, truth


def _blur(image: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur of each slice of [D, H, W] with reflected borders."""
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(image[:, None], (radius, radius, radius, radius), mode="reflect")
    blurred = functional.conv2d(functional.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])
    return blurred[:, 0]
