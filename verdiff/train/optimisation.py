"""How weights follow their gradients: the optimiser, the learning rate of an iteration, the averaged weights."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from verdiff.train.config import TrainingConfig


def make_optimiser(training: TrainingConfig, net: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a run, for those parameters that learn."""
    learning = [p for p in net.parameters() if p.requires_grad]
    rate, weight_decay = training.learning_rate, training.weight_decay
    if training.optimizer == "sgd":
        return torch.optim.SGD(learning, lr=rate, momentum=training.momentum, nesterov=True, weight_decay=weight_decay)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[training.optimizer](learning, lr=rate, weight_decay=weight_decay)


def fraction_done(training: TrainingConfig, iteration: int, minutes: float) -> float:
    """How much of a run is done, by iterations or by its budget of minutes, whichever is further: 0 to 1."""
    parts = [iteration / training.iterations]
    if training.minutes is not None:
        parts.append(minutes / training.minutes if training.minutes else 1.0)
    return min(1.0, max(parts))


def learning_rate(training: TrainingConfig, iteration: int, fraction: float, plateau: float) -> float:
    """The learning rate of an iteration.

    Args:
        training: The schedule.
        iteration: How many iterations came before.
        fraction: Share of the run that is done, 0 to 1.
        plateau: Product of the factors of the plateaus so far; only the schedule ``"plateau"`` looks at it.
    """
    rate = training.learning_rate * min(1.0, (iteration + 1) / max(1, training.warmup))
    if training.decay == "cosine":
        return rate * (0.5 + 0.5 * math.cos(math.pi * fraction)) + 1e-6
    if training.decay == "poly":
        return rate * (1 - fraction) ** 0.9 + 1e-6
    return rate * plateau


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float, iteration: int) -> None:
    """Move averaged weights towards those of ``net`` after an iteration; buffers are copied."""
    # The average starts with a short memory, so that the first validations are not of the initial weights.
    decay = min(decay, (1 + iteration) / (10 + iteration))
    for mean, value in zip(average.parameters(), net.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    copy_buffers(net, average)


@torch.no_grad()
def copy_buffers(source: nn.Module, target: nn.Module) -> None:
    """Give ``target`` the buffers of ``source``, such as the running statistics of batch norms."""
    for theirs, ours in zip(source.buffers(), target.buffers(), strict=True):
        ours.copy_(theirs)


def bf16_is_fast(device: torch.device, dimensions: int, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether bf16 autocast pays, and is right: on CUDA, and on processors with native bf16 arithmetic.

    Not for 3D networks on processors with AMX: there a convolution of stride (1, 2, 2) was seen to give other values at
    each call on the same input, NaN among them (PyTorch 2.13). Without AMX's kernels it does not.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    try:
        flags = cpuinfo.read_text("utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags and not (dimensions == 3 and "amx_bf16" in flags)
