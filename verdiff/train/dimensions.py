"""What training on slices and training on volumes do differently, each in one record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from verdiff.train.batches import make_batch, require_slices, verification_slices
from verdiff.train.batches3d import make_batch3d, verification_windows
from verdiff.train.config import RunConfig
from verdiff.train.data.cases import CaseSlices
from verdiff.train.data.volumes import require_volumes
from verdiff.train.validate import Validation, validate
from verdiff.train.validate3d import validate3d


@dataclass(frozen=True)
class DimensionSteps:
    """The parts of a training run that depend on whether its networks see slices or volumes.

    Attributes:
        layout: Memory format of images and weights.
        require: Refuses cases, by name, that such a network cannot learn from.
        make_batch: Draws images and truths of one iteration.
        validate: Scores the averaged network on the cases put aside.
        verification: Images of those cases, on which an export checks itself.
    """

    layout: torch.memory_format
    require: Callable[[Sequence[CaseSlices], RunConfig], None]
    make_batch: Callable[[list[CaseSlices], int, RunConfig, np.random.Generator], tuple[Tensor, Tensor]]
    validate: Callable[..., Validation]
    verification: Callable[[list[CaseSlices], RunConfig], np.ndarray]

    @classmethod
    def of(cls, config: RunConfig) -> DimensionSteps:
        """The parts for a configuration's networks."""
        return _VOLUMES if config.dimensions == 3 else _SLICES


_SLICES = DimensionSteps(
    torch.channels_last, require_slices, make_batch, validate, lambda cases, config: verification_slices(cases)
)
_VOLUMES = DimensionSteps(torch.channels_last_3d, require_volumes, make_batch3d, validate3d, verification_windows)
