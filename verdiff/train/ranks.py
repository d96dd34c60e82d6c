"""Several processes that train one network: who is which, what they agree on, and how one batch is shared out.

``torchrun`` starts the processes and tells each its number. Every one of them makes the same global batch, since the
random numbers of an iteration are the same everywhere, and runs the networks on its own share. What the networks say is
gathered, so that each computes the loss of the whole batch: losses over a batch, such as soft Dice, are those of one
process. DistributedDataParallel adds up the gradients.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from verdiff.errors import DataError, VerdiffError
from verdiff.train.networks import PriorOutput, SegmentationModel
from verdiff.train.objective import Losses, Objective
from verdiff.train.shared_norms import share_norms

Value = TypeVar("Value")
Compute = Callable[[Objective, Tensor, Tensor, Generator], Losses]

# The others wait while the first one validates, which takes as long as it takes.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: Its number, from 0; the first one writes the files.
        size: How many there are.
        local: Its number on this machine, which is that of its GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that validates, writes and tells."""
        return self.rank == 0

    def agree(self, minutes: float, stop: bool) -> tuple[float, bool]:
        """The minutes of the first process, and whether any was asked to stop: the same answer everywhere."""
        if self.size == 1:
            return minutes, stop
        said = torch.tensor([minutes if self.first else 0.0, float(stop)], dtype=torch.float64, device=_device())
        dist.all_reduce(said)
        return float(said[0]), bool(said[1] > 0)

    def told(self, value: Value | None) -> Value:
        """What the first process says, which the others give None for."""
        if self.size == 1:
            return cast(Value, value)
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0, device=_device())
        return cast(Value, box[0])

    def require(self, batch: int, *, distilled: bool) -> None:
        """Refuse what several processes cannot train together.

        Raises:
            DataError: A global batch that does not divide, or a distillation.
        """
        if self.size > 1 and distilled:
            raise DataError(
                f"a distillation by {self.size} processes", "one process", "call verdiff distill without torchrun"
            )
        if batch % self.size:
            raise DataError(
                f"a batch of {batch} for {self.size} processes",
                "a batch that every process has the same share of",
                f"set training.batch to a multiple of {self.size}, or start fewer processes",
            )

    def compute(self, net: SegmentationModel, *, idle_parts: bool) -> Compute:
        """What computes the losses of a global batch; their gradients add up over the processes.

        Args:
            net: The network; in several processes its batch norms are changed to count over all of them.
            idle_parts: Whether some parameters have no part in some iterations.
        """
        if self.size == 1:
            return lambda objective, image, truth, rng: objective(net, image, truth, rng)
        share_norms(net, self.size)
        step: Any = DistributedDataParallel(_Step(net, self), find_unused_parameters=idle_parts)
        return cast(Compute, step)


ALONE = Ranks()


def processes_of_torchrun() -> int:
    """How many processes ``torchrun`` started to train together; 1 where it started none."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def ranks_of_torchrun() -> Iterator[Ranks]:
    """This process among those that ``torchrun`` started; alone where it was not.

    Raises:
        VerdiffError: The others cannot be reached.
    """
    size = processes_of_torchrun()
    if size == 1 or dist.is_initialized():
        yield ALONE if size == 1 else _present()
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())
        raise VerdiffError(
            f"no way to the other processes of this training: {told}",
            "processes that torchrun started together, on machines that reach each other",
            "start them with torchrun, or call verdiff train without it",
        ) from error
    try:
        yield _present()
    finally:
        dist.destroy_process_group()


def _present() -> Ranks:
    return Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


class _Step(nn.Module):
    """The losses of a global batch, as one forward pass for DistributedDataParallel."""

    def __init__(self, net: SegmentationModel, ranks: Ranks) -> None:
        super().__init__()
        self.net = net
        self._shared = _SharedNetwork(net, ranks)

    def forward(self, objective: Objective, image: Tensor, truth: Tensor, rng: Generator) -> Losses:
        losses = objective(cast(SegmentationModel, self._shared), image, truth, rng)
        # The gradients are averaged over the processes, and each has that of its share alone.
        return Losses(losses.total * dist.get_world_size(), losses.parts)


class _SharedNetwork:
    """A network as an objective calls it: given a global batch, it runs on its share and says what all processes say.

    Features stay where they were computed: an objective only hands them back.
    """

    def __init__(self, net: SegmentationModel, ranks: Ranks) -> None:
        self._net, self._ranks = net, ranks

    @property
    def classes(self) -> int:
        return self._net.classes

    def prior(self, image: Tensor) -> PriorOutput:
        output = self._net.prior(self._share(image))
        return PriorOutput(
            self._gathered(output.logits), output.features, tuple(self._gathered(each) for each in output.auxiliary)
        )

    def __call__(self, x: Tensor, timestep: Tensor, prior: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        return self._gathered(self._net(self._share(x), self._share(timestep), self._share(prior), features))

    def _share(self, batch: Tensor) -> Tensor:
        count = len(batch) // self._ranks.size
        return batch[self._ranks.rank * count : (self._ranks.rank + 1) * count]

    def _gathered(self, mine: Tensor) -> Tensor:
        """The whole batch; its own share alone carries a gradient, which is that of the whole loss for it."""
        # Neither library carries the memory format of a network's answer.
        plain = mine.detach().contiguous()
        parts = [torch.empty_like(plain) for _ in range(self._ranks.size)]
        dist.all_gather(parts, plain)
        parts[self._ranks.rank] = mine
        return torch.cat(parts)
