"""Training batches: a pure function of cases, configuration and iteration, so that a resumed run draws on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from verdiff.errors import DataError
from verdiff.train.augment import change_intensity, crop_and_warp, narrow_field, small_field_size
from verdiff.train.config import RunConfig
from verdiff.train.contrast import change_contrast, rescale
from verdiff.train.data.cases import CaseSlices

VERIFIED_PATIENTS = 6
ON_SPINE = 0.6
# A wide field has so many times the rows and columns of the crop.
WIDER = 4 / 3


def verification_slices(cases: list[CaseSlices]) -> np.ndarray:
    """The middle slice of up to six patients, cropped to one size, float16 [N, H, W]; exports are checked on it."""
    middles = [case.images[len(case.images) // 2] for case in cases[:VERIFIED_PATIENTS]]
    rows, cols = (min(plane.shape[axis] for plane in middles) for axis in (0, 1))
    return np.stack([plane[:rows, :cols] for plane in middles])


def require_slices(cases: Sequence[CaseSlices], config: RunConfig) -> None:
    """Refuse slices that are one pixel at the network's lowest resolution: nothing is left to normalise by there.

    Raises:
        DataError: A case has such slices; its name is in the message.
    """
    for case in cases:
        rows, cols = case.images.shape[1:]
        if min(rows, cols) <= config.network.multiple:
            raise DataError(
                f"slices of {rows} x {cols} pixels in case {case.name}, at {config.data.spacing_mm} mm",
                f"more than {config.network.multiple} pixels a side, which the network makes one of",
                "choose a finer spacing_mm in [data]",
            )


def generator_for(seed: int, iteration: int) -> Generator:
    """The random numbers of one iteration."""
    return np.random.default_rng([seed, iteration])


def draw_cases(cases: list[CaseSlices], count: int, rng: Generator) -> list[CaseSlices]:
    """``count`` cases, each drawn by its weight."""
    weights = np.array([case.weight for case in cases])
    if np.all(weights == weights[0]):
        return [cases[int(rng.integers(len(cases)))] for _ in range(count)]
    chosen = rng.choice(len(cases), count, p=weights / weights.sum())
    return [cases[int(index)] for index in chosen]


def make_batch(cases: list[CaseSlices], classes: int, config: RunConfig, rng: Generator) -> tuple[Tensor, Tensor]:
    """``image`` [batch, 1, H, W] in [-1, 1] and ``truth`` [batch, K, H, W] as :mod:`verdiff.train.losses` has it.

    Cases are drawn by their weights, and slices of a case evenly.
    """
    multiple, training = config.network.multiple, config.training
    drawn = draw_cases(cases, training.batch, rng)
    if training.crop is None:
        size = tuple(-(-max(case.images.shape[axis] for case in drawn) // multiple) * multiple for axis in (1, 2))
    else:
        size = training.crop
    small = training.crop is not None and rng.random() < config.augment.small_field
    if small:
        size = small_field_size((size[0], size[1]), multiple, rng)
    elif training.crop is not None and rng.random() < config.augment.wide_field:
        size = tuple(round(WIDER * side / multiple) * multiple for side in size)
    images, truths = [], []
    for case in drawn:
        augment = config.augment.of_sample(rng)
        index = int(rng.integers(len(case.images)))
        image = torch.from_numpy(case.images[index].astype(np.float32))
        label = torch.from_numpy(case.labels[index])
        coverage = None if case.coverage is None else torch.from_numpy(case.coverage[index])
        # Some small fields lie beside the spine: a scan wider than the training slabs has many slices without one.
        on_foreground = small and rng.random() < ON_SPINE
        warped, truth = crop_and_warp(
            image,
            label,
            (size[0], size[1]),
            augment,
            rng,
            classes=classes,
            coverage=coverage,
            unknown=case.unknown,
            on_foreground=on_foreground,
        )
        if on_foreground:
            warped = rescale(warped)
        warped = change_contrast(warped, augment, rng)
        warped = change_intensity(warped, augment, rng)
        warped, truth = narrow_field(warped, truth, augment, rng)
        if augment.mirror:
            axes = [axis for axis in (1, 2) if rng.random() < 0.5]
            warped, truth = warped.flip(axes), truth.flip(axes)
        images.append(warped)
        truths.append(truth)
    return torch.stack(images), torch.stack(truths)
