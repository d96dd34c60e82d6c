"""Goldens: a small generated image with the expected output of every stage, computed by PyTorch and kept in the bundle.

The image is a phantom, not a patient: bright blocks between dark bands beside a bright channel, in noise.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from verdiff.bundle.objects import ids_in_masks
from verdiff.diffusion.fusion import background_and_labels, fuse_mean
from verdiff.diffusion.loop import StepState, run_loop
from verdiff.diffusion.noise import noise_source
from verdiff.diffusion.tables import SamplerTable
from verdiff.export.torch_graphs import PriorGraph
from verdiff.train.config import RunConfig
from verdiff.train.networks import SegmentationModel
from verdiff.train.prediction import X0Denoiser

GOLDEN_SEED = 35
PHANTOM_SLICES = 2


def phantom(rows: int, cols: int) -> NDArray[np.float32]:
    """A spine-like image [2, 1, rows, cols] in [-1, 1], the same on every machine."""
    y, x = np.mgrid[:rows, :cols].astype(np.float64)
    planes = []
    for index in range(PHANTOM_SLICES):
        column = np.exp(-((((x - cols * (0.4 + 0.02 * index)) / (cols * 0.16)) ** 2) ** 4))
        bands = 0.5 + 0.5 * np.tanh(4 * np.sin(2 * np.pi * y / (rows / 2.5) + index))
        canal = np.exp(-(((x - cols * 0.72) / (cols * 0.06)) ** 2))
        texture = noise_source(GOLDEN_SEED, slices=[index], samples=[0], shape=(rows, cols))(0)[0]
        planes.append(np.clip(0.15 + 0.45 * column * bands + 0.7 * canal + 0.03 * texture, 0, 1))
    return (2 * np.stack(planes)[:, None] - 1).astype(np.float32)


@torch.no_grad()
def torch_reference(
    net: SegmentationModel,
    config: RunConfig,
    table: SamplerTable | None,
    image: NDArray[np.float32],
) -> dict[str, NDArray[np.float32]]:
    """Every stage on ``image`` [N, 1, H, W] in PyTorch: prior, features, start noise, x at the start, x0hat a row.

    Keys: ``prior``, ``feature_i``, ``noise`` [1, N, K, H, W], ``x_start``, ``x0hat_i``; without a
    table the prior alone.
    """
    prior, *features = PriorGraph(net).eval()(torch.from_numpy(image))
    if table is None:
        return {"prior": prior.numpy()}
    denoiser = X0Denoiser.of(net, config.process).eval()
    f = prior.numpy()
    noise = noise_source(GOLDEN_SEED, slices=range(len(image)), samples=[0] * len(image), shape=f.shape[1:])
    kept: dict[str, NDArray[np.float32]] = {"prior": f, "noise": noise(0)[None]}
    kept.update({f"feature_{index}": feature.numpy() for index, feature in enumerate(features)})

    def denoise(x: NDArray[np.float32], timestep: int) -> NDArray[np.float32]:
        x0hat: NDArray[np.float32] = denoiser(
            torch.from_numpy(x), torch.full((len(x),), float(timestep)), prior, *features
        ).numpy()
        return x0hat

    def keep(state: StepState) -> None:
        if state.row == 0:
            kept["x_start"] = state.x.copy()
        kept[f"x0hat_{state.row}"] = state.x0hat

    run_loop(denoise, table, f, noise, on_step=keep)
    return kept


def features_of(stages: Mapping[str, NDArray[np.float32]]) -> tuple[NDArray[np.float32], ...]:
    """The prior's features among the stages of :func:`torch_reference`, from the finest level down."""
    count = sum(key.startswith("feature_") for key in stages)
    return tuple(stages[f"feature_{index}"] for index in range(count))


def make_golden(
    net: SegmentationModel, config: RunConfig, table: SamplerTable | None, label_ids: tuple[int, ...]
) -> dict[str, NDArray[np.generic]]:
    """The arrays of ``golden/golden.npz``: the image, every stage, and the mask and uncertainty on the model's grid."""
    multiple = config.network.multiple
    image = phantom(6 * multiple, 4 * multiple)
    stages = torch_reference(net, config, table, image)
    fused = fuse_mean(stages["prior" if table is None else f"x0hat_{len(table) - 1}"][None])
    ids = ids_in_masks(label_ids)
    return {
        "image": image,
        **stages,
        "labels": ids[background_and_labels(fused.probabilities)],
        "uncertainty": fused.uncertainty,
    }
