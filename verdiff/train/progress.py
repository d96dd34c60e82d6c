"""What a training run tells of itself after each iteration."""

from __future__ import annotations

from dataclasses import dataclass

from verdiff.train.validate import Validation


@dataclass(frozen=True)
class Progress:
    """What a progress bar needs to know after each iteration; ``validation`` only where one was run.

    ``stopped``: the run was asked to stop, has kept its weights in ``last.pt``, and this is the last to be said of it.
    """

    iteration: int
    minutes: float
    fraction: float
    loss: float
    validation: Validation | None
    stopped: bool = False
