"""Training windows of volumes: what :mod:`verdiff.train.batches` is for slices, and as reproducible."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from verdiff.train.augment import change_intensity, crop_and_warp, narrow_field
from verdiff.train.batches import VERIFIED_PATIENTS, draw_cases
from verdiff.train.config import RunConfig
from verdiff.train.contrast import change_contrast
from verdiff.train.data.cases import CaseSlices

# The share of windows laid on a structure where they do not show a whole volume: nnU-Net's (Isensee et al. 2021).
ON_STRUCTURE = 1 / 3


def make_batch3d(cases: list[CaseSlices], classes: int, config: RunConfig, rng: Generator) -> tuple[Tensor, Tensor]:
    """``image`` [batch, 1, D, H, W] in [-1, 1] and ``truth`` [batch, K, D, H, W] as :mod:`verdiff.train.losses` has it.

    Cases are drawn by their weights. A window has the size of the network's ``patch``. Rotation, zoom, shift and
    elastic displacement lie within slices and are the same in all of them: neighbours stay above each other.
    """
    images, truths = [], []
    for case in draw_cases(cases, config.training.batch, rng):
        image, truth = _window(case, classes, config, rng)
        if config.augment.mirror:
            axes = [axis for axis in (-2, -1) if rng.random() < 0.5]
            image, truth = image.flip(axes), truth.flip(axes)
        images.append(image)
        truths.append(truth)
    return torch.stack(images), torch.stack(truths)


def _window(case: CaseSlices, classes: int, config: RunConfig, rng: Generator) -> tuple[Tensor, Tensor]:
    patch: tuple[int, int, int] = config.network.patch
    augment = config.augment.of_sample(rng)
    depth, size = patch[0], patch[1:]
    part = any(length > window for length, window in zip(case.images.shape, patch, strict=True))
    on_structure = part and rng.random() < ON_STRUCTURE
    chosen = _slices(case, depth, rng, on_structure)
    darkest = float(case.images.min())
    image = torch.from_numpy(case.images[chosen].astype(np.float32))
    label = torch.from_numpy(case.labels[chosen])
    warped, truth = crop_and_warp(
        image,
        label,
        size,
        augment,
        rng,
        classes=classes,
        unknown=case.unknown,
        on_foreground=on_structure,
        outside=darkest,
    )
    missing = depth - len(image)
    if missing > 0:
        # Behind the last slice, where a scan is padded too when the model is run: nothing is there, also of structures
        # that the data set does not label.
        warped = torch.cat([warped, torch.full((1, missing, *size), darkest)], dim=1)
        truth = torch.cat([truth, torch.zeros(classes, missing, *size)], dim=1)
    changed = change_intensity(change_contrast(warped[0], augment, rng), augment, rng)
    return narrow_field(changed[None], truth, augment, rng)


def _slices(case: CaseSlices, depth: int, rng: Generator, on_structure: bool) -> slice:
    """``depth`` neighbouring slices, or all of them; with a labelled one among them where that is asked for."""
    room = len(case.images) - depth
    if room <= 0:
        return slice(0, len(case.images))
    start = int(rng.integers(room + 1))
    if on_structure:
        labelled = np.flatnonzero(case.labels.any(axis=(1, 2)))
        if len(labelled):
            wanted = int(labelled[int(rng.integers(len(labelled)))])
            start = int(np.clip(wanted - int(rng.integers(depth)), 0, room))
    return slice(start, start + depth)


def pad_to_patch(images: np.ndarray, patch: tuple[int, int, int]) -> np.ndarray:
    """[D, H, W] as float32, padded behind, below and to the right with its darkest voxel to at least ``patch``."""
    missing = [(0, max(0, window - length)) for length, window in zip(images.shape, patch, strict=True)]
    return np.pad(images.astype(np.float32), missing, constant_values=float(images.min()))


def verification_windows(cases: list[CaseSlices], config: RunConfig) -> np.ndarray:
    """The middle window of up to six patients, float16 [N, D, H, W]; exports are checked on it."""
    windows = []
    for case in cases[:VERIFIED_PATIENTS]:
        padded = pad_to_patch(case.images, config.network.patch)
        starts = [(length - window) // 2 for length, window in zip(padded.shape, config.network.patch, strict=True)]
        place = (slice(start, start + window) for start, window in zip(starts, config.network.patch, strict=True))
        windows.append(padded[tuple(place)].astype(np.float16))
    return np.stack(windows)
