"""Random changes that stand for another sequence, scanner or export: contrast, grey levels, ghosts, metal.

T1 and T2 weighting, fat suppression and gradient echoes exchange what is bright and what is dark, which no brightness
or gamma does. A random shallow network of the image (Ouyang et al. 2022, "Causality-inspired single-source domain
generalization for medical image segmentation", section III-B) gives such contrasts without a second data set.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional

from verdiff.train.config import AugmentConfig

_LAYERS, _CHANNELS, _SLOPE = 4, 2, 0.2
_PERCENTILES = (0.005, 0.995)


def change_contrast(image: Tensor, config: AugmentConfig, rng: Generator) -> Tensor:
    """One image [1, H, W] in [-1, 1] as another scanner or sequence might have shown it, in [-1, 1].

    Each change comes with its own chance in ``config``; [D, H, W] are changed together.
    """
    if rng.random() < config.intensity_map:
        image = intensity_map(image, rng)
    if rng.random() < config.invert:
        image = -image
    if rng.random() < config.rescale:
        image = rescale(image)
    if rng.random() < config.ghost:
        image = _ghost(image, rng)
    if rng.random() < config.metal:
        image = _metal(image, rng)
    if rng.random() < config.grey_levels:
        levels = float(np.exp(rng.uniform(np.log(12), np.log(255))))
        image = torch.round((image + 1) / 2 * levels) * 2 / levels - 1
    return image.clamp(-1, 1)


def rescale(image: Tensor) -> Tensor:
    """[1, H, W] scaled so that its own 0.5th and 99.5th percentiles become -1 and 1, as a scan of this field is."""
    low, high = torch.quantile(image.flatten()[:: 1 + image.numel() // 2**23], torch.tensor(_PERCENTILES)).tolist()
    return ((image - low) * (2 / max(high - low, 1e-3)) - 1).clamp(-1, 1)


def intensity_map(image: Tensor, rng: Generator) -> Tensor:
    """[1, H, W] through four random convolutions of 1 x 1 or 3 x 3, blended with itself, and scaled by percentiles."""
    mapped = image[:, None]
    for layer in range(_LAYERS):
        inputs, outputs = (1 if layer == 0 else _CHANNELS), (1 if layer == _LAYERS - 1 else _CHANNELS)
        size = int(rng.choice([1, 3]))
        weights = torch.from_numpy(rng.standard_normal((outputs, inputs, size, size)).astype(np.float32))
        mapped = functional.conv2d(mapped, weights, padding=size // 2)
        mapped = mapped + torch.from_numpy(rng.standard_normal((1, outputs, 1, 1)).astype(np.float32))
        if layer < _LAYERS - 1:
            mapped = functional.leaky_relu(mapped, _SLOPE)
    share = float(rng.random())
    return rescale(share * _standard(mapped[:, 0]) + (1 - share) * _standard(image))


def _standard(image: Tensor) -> Tensor:
    return (image - image.mean()) / image.std().clamp_min(1e-3)


def _ghost(image: Tensor, rng: Generator) -> Tensor:
    """A weaker copy of the picture, moved along the phase axis and folded over its edge, as breathing makes."""
    axis = int(rng.choice([-2, -1]))
    away = round(float(rng.uniform(0.08, 0.5)) * image.shape[axis])
    strength = float(rng.uniform(0.03, 0.2))
    unit = (image + 1) / 2
    return 2 * (unit + strength * torch.roll(unit, away, axis)) / (1 + strength) - 1


def _metal(image: Tensor, rng: Generator) -> Tensor:
    """One to four voids of 4 to 14 pixels with a bright rim on one side: the field is bent around a screw."""
    rows, cols = image.shape[-2:]
    grid_r, grid_c = torch.meshgrid(torch.arange(float(rows)), torch.arange(float(cols)), indexing="ij")
    for _ in range(int(rng.integers(1, 5))):
        centre, radius = rng.uniform(0, 1, 2) * (rows, cols), rng.uniform(4, 14, 2)
        moved = rng.uniform(-0.5, 0.5, 2)

        def distance(centre: np.ndarray, radius: np.ndarray = radius) -> Tensor:
            return torch.hypot(
                (grid_r - float(centre[0])) / float(radius[0]), (grid_c - float(centre[1])) / float(radius[1])
            )

        void = torch.sigmoid(8 * (1 - distance(centre)))
        rim = torch.sigmoid(8 * (1 - distance(centre + moved * radius))) * (1 - void)
        image = image * (1 - void) - void
        image = torch.maximum(image, image + (1 - image) * rim)
    return image
