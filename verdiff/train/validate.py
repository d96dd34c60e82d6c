"""Validation in 3D per patient: the prior alone and the sampled mask, through the one host loop."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from verdiff.diffusion.fusion import background_and_labels, fuse
from verdiff.diffusion.loop import run_loop
from verdiff.diffusion.noise import noise_source
from verdiff.diffusion.tables import SamplerTable
from verdiff.evaluate.overlap import dice_of_labels
from verdiff.imaging.resample import resize_planes
from verdiff.train.config import RunConfig
from verdiff.train.data.cases import IGNORE, CaseSlices
from verdiff.train.networks import SegmentationModel
from verdiff.train.prediction import X0Denoiser

_SLICES_AT_ONCE = 4


@dataclass(frozen=True)
class Validation:
    """Dice per case and structure [cases, K] of the prior and of the sampled mask, and the sampled mask's loss.

    NaN stands where a case's data set does not label the structure.
    """

    prior: np.ndarray
    sampled: np.ndarray
    loss: float


def pad_to_multiple(images: np.ndarray, multiple: int) -> np.ndarray:
    """[n, H, W] padded at the bottom and right with -1 to multiples of ``multiple``."""
    rows, cols = (-size % multiple for size in images.shape[1:])
    return np.pad(images, ((0, 0), (0, rows), (0, cols)), constant_values=-1)


def dice_per_class(labels: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Dice [K] of two label volumes with labels 1 to K; 1 where a structure is in neither, 0 where in one only.

    Pixels whose truth is :data:`~verdiff.train.data.cases.IGNORE` do not count.
    """
    known = np.where(truth == IGNORE, 0, labels)
    return np.array(dice_of_labels(known, truth, list(range(1, classes + 1))))


@torch.no_grad()
def sample_case(
    net: SegmentationModel,
    config: RunConfig,
    case: CaseSlices,
    table: SamplerTable,
    *,
    every: int = 1,
    batch: int = 4,
    prior_alone: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prior and sampled probabilities float32 [slices, K, H, W] of every ``every``-th slice, and which slices they are.

    A case of fewer slices gives its middle one. Of a single-pass model, and with ``prior_alone``, the two are the same.
    """
    device = next(net.parameters()).device
    denoiser = None
    if net.denoiser is not None and not prior_alone:
        denoiser = X0Denoiser.of(net, config.process).to(device)
    count = len(case.images)
    chosen = np.arange(count)[min(every, count) // 2 :: every]
    rows, cols = case.images.shape[1:]
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
    return np.concatenate(priors), np.concatenate(sampled or priors), chosen


def validate(
    net: SegmentationModel, config: RunConfig, cases: list[CaseSlices], *, every: int = 1, prior_alone: bool = False
) -> Validation:
    """Score ``net`` on ``cases``: Dice over each case's slices together, on the scan's own pixels.

    Args:
        net: The network.
        config: Configuration of its run.
        cases: Validation cases.
        every: Every how many-th slice counts.
        prior_alone: The denoiser is not trained yet, and the prior's mask counts for the sampled one.
    """
    table, classes = config.sampling.table(config.process.build()), net.classes
    scores: list[list[np.ndarray]] = []
    losses = []
    with evaluation_mode(net):
        for case in cases:
            prior, sampled, chosen = sample_case(net, config, case, table, every=every, prior_alone=prior_alone)
            scores.append([dice_of_case(maps, case, chosen, classes) for maps in (prior, sampled)])
            losses.append(_cross_entropy(sampled, case, chosen))
    prior_scores, sampled_scores = np.array(scores).swapaxes(0, 1)
    return Validation(prior_scores, sampled_scores, float(np.mean(losses)))


@contextlib.contextmanager
def evaluation_mode(net: nn.Module) -> Iterator[None]:
    """A network in evaluation mode; afterwards each of its parts is in its own mode again, fixed ones included."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def dice_of_case(probabilities: np.ndarray, case: CaseSlices, chosen: np.ndarray, classes: int) -> np.ndarray:
    """Dice [K] of a case's slices ``chosen``, from probabilities [slices, K, H, W], on the scan's own pixels.

    NaN stands for structures that its data set does not label.
    """
    truth = (case.labels if case.own is None else case.own)[chosen]
    scores = dice_per_class(labels_of_case(probabilities, case), truth, classes)
    scores[list(case.unknown)] = np.nan
    return scores


def labels_of_case(probabilities: np.ndarray, case: CaseSlices) -> np.ndarray:
    """Channel numbers plus one uint8 [slices, rows, columns] on the scan's own pixels.

    Args:
        probabilities: Probabilities of some of its slices, float32 [slices, K, H, W] on the prepared pixels.
        case: The case.
    """
    rows, cols = (case.labels if case.own is None else case.own).shape[1:]
    # A few slices at a time: the scan's own pixels, K probabilities each, would take a gigabyte.
    return np.concatenate(
        [
            background_and_labels(maps if maps.shape[-2:] == (rows, cols) else resize_planes(maps, rows, cols))
            for maps in np.array_split(probabilities, -(-len(probabilities) // _SLICES_AT_ONCE))
        ]
    )


def scores_row(found: Validation, structures: Sequence[str], data_sets: Mapping[str, float]) -> dict[str, float]:
    """The columns of a validation in a run's metrics: loss, and Dice of all, of each structure and of each data set.

    Args:
        found: The validation.
        structures: Names of the structures.
        data_sets: Mean Dice of each data set (:func:`by_data_set`), which are named where there are several.
    """
    row = {
        "validation_loss": found.loss,
        "dice_prior": known_mean(found.prior.ravel()),
        "dice_sampled": known_mean(found.sampled.ravel()),
    }
    for k, name in enumerate(structures):
        row[f"dice_prior_{name}"] = known_mean(found.prior[:, k])
        row[f"dice_sampled_{name}"] = known_mean(found.sampled[:, k])
    return row | ({f"dice_set_{name}": mean for name, mean in data_sets.items()} if len(data_sets) > 1 else {})


def known_mean(values: Iterable[float]) -> float:
    """Mean of the values that are numbers; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def by_data_set(cases: list[CaseSlices], scores: np.ndarray) -> dict[str, float]:
    """Mean over the known scores [cases, K] of each data set's cases."""
    sets = [case.data_set for case in cases]
    return {name: float(np.nanmean(scores[[each == name for each in sets]])) for name in dict.fromkeys(sets)}


def _cross_entropy(probabilities: np.ndarray, case: CaseSlices, chosen: np.ndarray) -> float:
    """Binary cross-entropy of probabilities [slices, K, H, W] on the prepared pixels, over what is known."""
    truth = case.labels[chosen]
    known = [k for k in range(probabilities.shape[1]) if k not in case.unknown]
    one_hot = np.stack([truth == k + 1 for k in known], axis=1)
    right = np.clip(np.where(one_hot, probabilities[:, known], 1 - probabilities[:, known]), 1e-6, 1)
    counted = np.broadcast_to((truth != IGNORE)[:, None], right.shape)
    return float(-np.log(right[counted]).mean()) if counted.any() else 0.0
