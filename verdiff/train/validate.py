"""Validation in 3D per patient: the prior alone and the sampled mask, through the one host loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from verdiff.diffusion.fusion import background_and_labels, fuse
from verdiff.diffusion.loop import run_loop
from verdiff.diffusion.noise import noise_source
from verdiff.diffusion.tables import SamplerTable
from verdiff.train.config import RunConfig
from verdiff.train.data.cases import Case
from verdiff.train.networks import SegmentationModel
from verdiff.train.prediction import X0Denoiser


@dataclass(frozen=True)
class Validation:
    """Dice per patient and structure [cases, K] of the prior and of the sampled mask, and the sampled mask's loss."""

    prior: np.ndarray
    sampled: np.ndarray
    loss: float


def pad_to_multiple(images: np.ndarray, multiple: int) -> np.ndarray:
    """[n, H, W] padded at the bottom and right with -1 to multiples of ``multiple``."""
    rows, cols = (-size % multiple for size in images.shape[1:])
    return np.pad(images, ((0, 0), (0, rows), (0, cols)), constant_values=-1)


def dice_per_class(labels: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Dice [K] of two label volumes with labels 1 to K; 1 where a structure is in neither, 0 where in one only."""
    scores = np.empty(classes)
    for k in range(1, classes + 1):
        ours, theirs = labels == k, truth == k
        total = int(ours.sum()) + int(theirs.sum())
        scores[k - 1] = 2 * int((ours & theirs).sum()) / total if total else 1.0
    return scores


@torch.no_grad()
def sample_case(
    net: SegmentationModel, config: RunConfig, case: Case, table: SamplerTable, *, every: int = 1, batch: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prior and sampled probabilities float32 [slices, K, H, W] of every ``every``-th slice, and the true labels.

    A case of fewer slices gives its middle one. Of a single-pass model the two are the same.
    """
    device = next(net.parameters()).device
    denoiser = None
    if net.denoiser is not None:
        denoiser = X0Denoiser.of(net, config.process).to(device)
    count = len(case.images)
    chosen = np.arange(count)[min(every, count) // 2 :: every]
    truth = case.labels[chosen]
    rows, cols = truth.shape[1:]
    priors, sampled = [], []
    for begin in range(0, len(chosen), batch):
        index = chosen[begin : begin + batch]
        padded = pad_to_multiple(case.images[index].astype(np.float32), config.network.multiple)
        output = net.prior(torch.from_numpy(padded[:, None]).to(device))
        prior = 2 * torch.sigmoid(output.logits) - 1
        f = prior.cpu().numpy()
        priors.append((f[:, :, :rows, :cols] + 1) / 2)
        if denoiser is None:
            continue
        denoise = denoiser.on_host(prior, output.features)
        drawn: list[list[np.ndarray]] = []
        for sample in range(config.sampling.samples):
            members = [sample] * len(index)
            noise = noise_source(config.sampling.seed, slices=index.tolist(), samples=members, shape=f.shape[1:])
            steps: list[np.ndarray] = []
            run_loop(denoise, table, f, noise, keep_steps=steps)
            drawn.append(steps)
        fused = fuse(config.sampling.fusion, np.array(drawn))
        sampled.append(fused.probabilities[:, :, :rows, :cols])
    return np.concatenate(priors), np.concatenate(sampled or priors), truth


def validate(net: SegmentationModel, config: RunConfig, cases: list[Case], *, every: int = 1) -> Validation:
    """Score ``net`` on ``cases``: Dice over each patient's slices together, on the prepared grid."""
    net.eval()
    table, classes = config.sampling.table(config.process.build()), net.classes
    prior_scores, sampled_scores, losses = [], [], []
    for case in cases:
        prior, sampled, truth = sample_case(net, config, case, table, every=every)
        prior_scores.append(dice_per_class(background_and_labels(prior), truth, classes))
        sampled_scores.append(dice_per_class(background_and_labels(sampled), truth, classes))
        one_hot = np.stack([truth == k for k in range(1, classes + 1)], axis=1)
        p = np.clip(np.where(one_hot, sampled, 1 - sampled), 1e-6, 1)
        losses.append(float(-np.log(p).mean()))
    net.train()
    return Validation(np.array(prior_scores), np.array(sampled_scores), float(np.mean(losses)))
