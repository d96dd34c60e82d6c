"""From samples of x0hat to probabilities, labels and uncertainty.

K foreground channels on [-1, 1]: p_k = (mean x0hat_k + 1) / 2 and p_background = 1 - max_k p_k, so that the label is
the argmax over background and the K, a threshold at 0.5 when K = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import VerdiffError

Array = NDArray[np.float32]
StepsVariant = Literal["normalised", "published"]

STEPS_FUSIONS: dict[str, StepsVariant] = {"steps": "normalised", "steps-published": "published"}
"""Names of the step-uncertainty fusions, which want every step's x0hat, and the variant each of them is."""

FUSIONS = ("mean", *STEPS_FUSIONS)
"""Names of the fusions that this module has; ``staple`` is :mod:`verdiff.imaging.staple`'s."""

_PUBLISHED_FLOOR = 0.001  # Diff-UNet's code lets no probability fall below this before its logarithm
_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Fused:
    """An ensemble made into one answer.

    ``probabilities`` float32 [N, K, H, W] in [0, 1]; ``spread`` float32 [N, H, W] in [0, 0.5], how far the samples
    disagree: the standard deviation of p over the samples, in the foreground channel where it is largest (0 for a
    single sample).
    """

    probabilities: Array
    spread: Array

    @cached_property
    def uncertainty(self) -> Array:
        """float32 [N, H, W] in [0, 1], see :func:`entropy_uncertainty`; computed when it is first asked for."""
        return entropy_uncertainty(self.probabilities)


def fuse(fusion: str, x0hat: NDArray[Any]) -> Fused:
    """The fusion of that name: one of :data:`FUSIONS`.

    Args:
        x0hat: Rows' x0hat of each sample on [-1, 1], [M, R, N, K, H, W], in the order of sampling; ``mean`` takes the
            last of them.

    Raises:
        VerdiffError: Another name, or not six axes.
    """
    if fusion not in FUSIONS:
        raise VerdiffError(f"fusion {fusion!r}", f"one of {', '.join(FUSIONS)}", "choose one of them")
    samples = _samples(x0hat, 6, "[M, R, N, K, H, W]")
    return fuse_steps(samples, STEPS_FUSIONS[fusion]) if fusion in STEPS_FUSIONS else fuse_mean(samples[:, -1])


def fused_rows(variant: StepsVariant, steps: int) -> range:
    """Which of ``steps`` rows :func:`fuse_steps` weighs: all of them as published, else the later half, rounded up."""
    return range(0 if variant == "published" else steps // 2, steps)


def fuse_mean(x0hat: NDArray[Any]) -> Fused:
    """The mean of the samples (Verdiff-Net, end of section 2.2.2).

    Args:
        x0hat: The last x0hat of each sample on [-1, 1], [M, N, K, H, W].

    Raises:
        VerdiffError: Not five axes, or no sample.
    """
    samples = _samples(x0hat, 5, "[M, N, K, H, W]")
    return _fused(_mean(samples), samples)


def fuse_steps(x0hat: NDArray[Any], variant: StepsVariant = "normalised", *, late_steps: int | None = None) -> Fused:
    """The step-uncertainty fusion of Diff-UNet (Xing et al. 2023) and SpineSegDiff.

    With xbar_i the mean over the samples at step i = 1 ... R and u_i its uncertainty, per pixel and channel,

        w_i = exp(sigmoid(i / R) (1 - u_i)),    fused = sum_i w_i xbar_i / sum_i w_i.

    ``published`` is Diff-UNet's released code (BraTS2020/test.py; SpineSegDiff's uncertainty_sample is the same with
    a floor of 0.0001): every step, u = -p ln p with p not below 0.001. That u is one-sided: 0.23 at p = 0.1 but 0.09
    at p = 0.9, so sure foreground outweighs equally sure background. The code sums without dividing by the weights,
    which leaves every label as it is but gives no probability, and its p is the sigmoid of the network's output, which
    x0hat = 2 p - 1 has had already.

    ``normalised``: the binary entropy in bits, which treats p and 1 - p alike, over the late steps only, since early
    x0hat are guesses from noise.

    Args:
        x0hat: Every row's x0hat of each sample on [-1, 1], [M, R, N, K, H, W], in the order of sampling.
        variant: Which of the two.
        late_steps: How many of the last steps are fused; ``None``: all R for ``published``, the last half (rounded
            up) for ``normalised``.

    Raises:
        VerdiffError: Not six axes, no sample or no step, an unknown variant, or late_steps outside 1 ... R.
    """
    if variant not in get_args(StepsVariant):
        raise VerdiffError(
            f"variant {variant!r} of the steps fusion", f"one of {', '.join(get_args(StepsVariant))}", "choose one"
        )
    samples = _samples(x0hat, 6, "[M, R, N, K, H, W]")
    steps = samples.shape[1]
    count = len(fused_rows(variant, steps)) if late_steps is None else late_steps
    if not 1 <= count <= steps:
        raise VerdiffError(f"{count} late steps of {steps}", f"1 ... {steps}", "fuse no more steps than were sampled")

    total = np.zeros(samples.shape[2:], dtype=np.float32)
    weights = np.zeros_like(total)
    for i in range(steps - count, steps):
        p = _mean(samples[:, i])
        sure = 1.0 - (_published_uncertainty(p) if variant == "published" else _binary_entropy(p))
        sure *= np.float32(1.0 / (1.0 + np.exp(-(i + 1) / steps)))
        weight = np.exp(sure, out=sure)
        weights += weight
        weight *= p
        total += weight
    total /= weights
    np.clip(total, 0.0, 1.0, out=total)
    return _fused(total, samples[:, -1])


def background_and_labels(probabilities: NDArray[Any]) -> NDArray[np.uint8]:
    """The label index of each pixel: 0 for background, k + 1 for channel k; [..., K, H, W] -> uint8 [..., H, W].

    The argmax over (1 - max_k p_k, p_1, ..., p_K), where the first of equals wins, without making that array.
    """
    channels = np.moveaxis(probabilities, -3, 0)
    best = channels[0]
    label = np.ones(best.shape, dtype=np.uint8)
    for index in range(1, len(channels)):
        # A later channel has the higher number, so the one that is better last is the largest there is.
        better = (channels[index] > best).view(np.uint8)
        better *= np.uint8(index + 1)
        np.maximum(label, better, out=label)
        best = np.maximum(best, channels[index])
    # p > 1 - p in floating point exactly when p > 1/2.
    label *= best > 0.5
    return label


def entropy_uncertainty(probabilities: NDArray[Any]) -> Array:
    """The entropy of (p_background, p_1, ..., p_K) divided by their sum, over ln(K + 1): [..., K, H, W] -> [..., H, W].

    0: one class is certain. 1: all K + 1 are equally likely. float32 in [0, 1], also where some p is 0 or 1.
    """
    channels = np.moveaxis(np.asarray(probabilities, dtype=np.float32), -3, 0)
    background = 1.0 - channels.max(axis=0)
    # With q = p / total, -sum q ln q = ln total - (sum p ln p) / total; total >= 1, so nothing is divided by 0.
    total = background.copy()
    weighted = _p_log_p(background)
    for channel in channels:
        total += channel
        weighted += _p_log_p(channel)
    weighted /= total
    entropy: Array = np.log(total)
    entropy -= weighted
    entropy /= np.float32(np.log(len(channels) + 1.0))
    np.clip(entropy, 0.0, 1.0, out=entropy)
    return entropy


def _samples(x0hat: NDArray[Any], axes: int, layout: str) -> Array:
    samples = np.asarray(x0hat, dtype=np.float32)
    if samples.ndim != axes or 0 in samples.shape[:-2]:
        raise VerdiffError(f"x0hat of shape {samples.shape}", layout, "stack the samples along the first axis")
    return samples


def _mean(samples: Array) -> Array:
    """p = (mean over the first axis + 1) / 2, clipped to [0, 1]; summed in order, so it does not depend on shapes."""
    scale = np.float32(0.5 / len(samples))
    if len(samples) == 1:
        p: Array = samples[0] * scale
    else:
        p = samples[0] + samples[1]
        for sample in samples[2:]:
            p += sample
        p *= scale
    p += np.float32(0.5)
    np.clip(p, 0.0, 1.0, out=p)
    return p


def _fused(probabilities: Array, samples: Array) -> Fused:
    return Fused(probabilities, _spread(samples))


def _spread(samples: Array) -> Array:
    """The largest standard deviation over the samples of any channel's p; [M, N, K, H, W] -> [N, H, W]."""
    if len(samples) == 1:
        return np.zeros((samples.shape[1], *samples.shape[3:]), dtype=np.float32)
    mean = samples[0].copy()
    for sample in samples[1:]:
        mean += sample
    mean /= np.float32(len(samples))
    squares = np.zeros_like(mean)
    difference = np.empty_like(mean)
    for sample in samples:
        np.subtract(sample, mean, out=difference)
        difference *= difference
        squares += difference
    spread: Array = squares.max(axis=1)
    spread /= np.float32(len(samples))
    np.sqrt(spread, out=spread)
    spread *= np.float32(0.5)
    return spread


def _p_log_p(p: Array) -> Array:
    """p ln p with 0 ln 0 = 0."""
    result = np.maximum(p, np.float32(_SMALLEST))
    np.log(result, out=result)
    result *= p
    return result


def _binary_entropy(p: Array) -> Array:
    """Entropy in bits: 0 at p = 0 and 1, 1 at p = 1/2."""
    entropy = _p_log_p(p)
    entropy += _p_log_p(1.0 - p)
    entropy /= np.float32(-np.log(2.0))
    return entropy


def _published_uncertainty(p: Array) -> Array:
    floored = np.maximum(p, np.float32(_PUBLISHED_FLOOR))
    return -floored * np.log(floored)
