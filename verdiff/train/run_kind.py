"""What sets one kind of training run apart from another: what it minimises, where it begins, what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from verdiff.train.checkpoint import RunFacts
from verdiff.train.config import RunConfig
from verdiff.train.data.cases import ALL, Dataset
from verdiff.train.objective import Objective, joint_objective
from verdiff.train.single_pass import single_pass_objective


def objective_of_system(config: RunConfig, device: torch.device) -> Objective:
    """What ``verdiff train`` minimises: the loss of both networks, or of the one there is."""
    return (joint_objective if config.diffusion else single_pass_objective)(config, device)


@dataclass(frozen=True)
class RunKind:
    """What sets one kind of run apart from another; the default is to train every network of a system from nothing.

    Attributes:
        objective: Makes the loss of a batch.
        initial: First weights of the whole network; ``None``: random, from the seed.
        fixed: Which of its parts (``"prior"``, ``"denoiser"``) keep those weights.
        choose_best: Write ``best.pt`` whenever a validation is the best so far. Off where the run is judged afterwards
            on the same patients, who must not have chosen the weights.
        teacher: What the run was distilled from, for the checkpoint's facts.
        origin: Which run the first weights are of, for the checkpoint's facts.
    """

    objective: Callable[[RunConfig, torch.device], Objective] = objective_of_system
    initial: Mapping[str, Tensor] | None = None
    fixed: tuple[str, ...] = ()
    choose_best: bool = True
    teacher: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def facts(self, dataset: Dataset, fold: int) -> RunFacts:
        """What a run of this kind keeps of its data in a checkpoint."""
        training, validation = dataset.fold(fold)
        put_aside = [] if fold == ALL else validation
        return RunFacts(
            dataset.name,
            dataset.labels,
            dataset.label_ids,
            fold,
            dataset.statistics,
            tuple(case.name for case in put_aside),
            dict(self.teacher),
            tuple(case.name for case in training),
            dataset.parts(put_aside),
            dict(self.origin),
        )


TRAINING = RunKind()
