"""Validation of a 3D system: overlapping windows fused as the runtime fuses them, scored per patient."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from verdiff.diffusion.fusion import background_and_labels
from verdiff.imaging.windows import fuse_windows
from verdiff.train.batches3d import pad_to_patch
from verdiff.train.config import RunConfig
from verdiff.train.data.cases import IGNORE, CaseSlices
from verdiff.train.networks import SegmentationModel
from verdiff.train.validate import Validation, dice_per_class, evaluation_mode

# Windows that go through the network at once; the answer does not depend on it.
BATCH = 2


def probabilities_by_slice(
    net: SegmentationModel, case: CaseSlices, config: RunConfig
) -> Iterator[tuple[slice, np.ndarray]]:
    """Probabilities of a case, some finished slices at a time: which, and float32 [n, K, rows, cols].

    Padding is cut off again; all slices come, in order, once.
    """
    patch: tuple[int, int, int] = config.network.patch
    device = next(net.parameters()).device
    slices, rows, cols = case.images.shape
    volume = pad_to_patch(case.images, patch)

    @torch.no_grad()
    def predict(windows: np.ndarray) -> np.ndarray:
        logits = net.prior(torch.from_numpy(windows).to(device)).logits
        maps: np.ndarray = torch.sigmoid(logits.float()).cpu().numpy()
        return maps

    depth, height, width = volume.shape
    for done, maps in fuse_windows((depth, height, width), patch, volume.__getitem__, predict, batch=BATCH):
        kept = slice(done.start, min(done.stop, slices))
        if kept.start < kept.stop:
            yield kept, np.moveaxis(maps[:, : kept.stop - kept.start, :rows, :cols], 0, 1)


def validate3d(
    net: SegmentationModel, config: RunConfig, cases: list[CaseSlices], *, every: int = 1, prior_alone: bool = False
) -> Validation:
    """Score ``net`` on ``cases``: Dice over each whole volume, on the prepared grid, and the loss over what is known.

    A model of this kind answers in one pass, so the prior and the sampled mask are the same. ``every`` is 1
    (:func:`~verdiff.train.data.volumes.require_volumes` sees to it): a window needs all its slices.
    """
    assert every == 1, "slices of a volume are not left out"
    scores, losses = [], []
    with evaluation_mode(net):
        for case in cases:
            labels, loss, counted = np.zeros_like(case.labels), 0.0, 0
            known = [k for k in range(net.classes) if k not in case.unknown]
            for part, probabilities in probabilities_by_slice(net, case, config):
                labels[part] = background_and_labels(probabilities)
                truth = case.labels[part][:, None]
                one_hot = truth == np.array(known)[:, None, None] + 1
                likelihood = np.clip(np.where(one_hot, probabilities[:, known], 1 - probabilities[:, known]), 1e-6, 1)
                judged = np.broadcast_to(truth != IGNORE, likelihood.shape)
                loss -= float(np.log(likelihood[judged]).sum(dtype=np.float64))
                counted += int(np.count_nonzero(judged))
            dice = dice_per_class(labels, case.labels, net.classes)
            dice[list(case.unknown)] = np.nan
            scores.append(dice)
            losses.append(loss / counted if counted else 0.0)
    return Validation(np.array(scores), np.array(scores), float(np.mean(losses)))
