"""Checkpoints of a run: weights, optimiser, counters, and the facts an export needs. Written atomically."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from verdiff.bundle.put_aside import put_aside_by_all, stated
from verdiff.errors import DataError, OutputError
from verdiff.files import atomic_path
from verdiff.train.building import build_network
from verdiff.train.config import RunConfig
from verdiff.train.networks import SegmentationModel
from verdiff.train.optimisation import fraction_done


@dataclass(frozen=True)
class RunFacts:
    """What a run knows of its data: names and ids of the structures, fold, source statistics, cases of either side.

    ``teacher`` says what a distilled run was taught by, and is empty for any other; ``parts`` what each of several
    joined data sets brought; ``origin`` which run the first weights were of, under ``trained_on`` which of the
    validation cases these had been trained on, and under ``put_aside`` which cases they had not been trained on, of
    every data set that had a part in them. A checkpoint from before these were kept has none of them.
    """

    dataset: str
    labels: tuple[str, ...]
    label_ids: tuple[int, ...]
    fold: int
    statistics: dict[str, Any]
    validation_cases: tuple[str, ...]
    teacher: dict[str, Any] = field(default_factory=dict)
    training_cases: tuple[str, ...] = ()
    parts: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)

    @property
    def held_out(self) -> tuple[str, ...]:
        """The validation cases that neither this run nor its first weights saw."""
        return tuple(name for name in self.validation_cases if name not in self.origin.get("trained_on", ()))

    @property
    def aside(self) -> dict[str, tuple[str, ...]]:
        """The held-out cases, by their names in it, of every data set that this run or its first weights saw."""
        own = {self.dataset: self.held_out, **{name: self._held_out_of(name) for name in self.parts}}
        return put_aside_by_all([own, stated(self.origin.get("put_aside"))])

    def put_aside(self, data_set: str) -> tuple[str, ...] | None:
        """Held-out cases of one data set; None for one that neither the run nor its first weights were trained on."""
        return self.aside.get(data_set)

    def _held_out_of(self, part: str) -> tuple[str, ...]:
        held_out = []
        for name in self.parts[part]["validation_cases"]:
            # A joined set renames a case whose name another of its sets has, too.
            renamed = f"{name}@{part}"
            if (renamed if renamed in self.validation_cases else name) in self.held_out:
                held_out.append(name)
        return tuple(held_out)


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a run.

    ``ema`` holds the averaged weights, which validation and export use. ``denoiser_iterations`` says in how many of the
    iterations the denoiser learnt, too; it is 0 for a model without one.
    """

    config: RunConfig
    facts: RunFacts
    net: dict[str, Any]
    ema: dict[str, Any]
    optimizer: dict[str, Any]
    iteration: int
    minutes: float
    best: float
    stale: int
    rate_factor: float = 1.0
    since_drop: int = 0
    denoiser_iterations: int = 0

    @property
    def waits_for_denoiser(self) -> bool:
        """Whether the denoiser still has its random first weights, since the prior network was trained alone so far."""
        fresh = not (self.facts.origin or self.facts.teacher)
        return self.config.diffusion and fresh and self.iteration > 0 and not self.denoiser_iterations


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``path`` whole or not at all: interrupted, or with a full disk, the old file is still there and no other.

    Raises:
        OutputError: There is no room, or the folder cannot be written.
    """
    values = {field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}
    values["config"], values["facts"] = checkpoint.config.to_dict(), dataclasses.asdict(checkpoint.facts)
    with atomic_path(path) as temporary:
        try:
            torch.save(values, temporary)
        except RuntimeError as error:
            # torch's zip writer has no errno; the disk is the one thing that can fail a state that was saved before.
            raise OutputError(
                f"{path} cannot be written ({str(error).splitlines()[0]}): no space left, or a limit on file sizes",
                f"room on the disk of {path.parent}",
                "free some space and go on with --resume; the checkpoint from before is still there if there was one",
            ) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint with ``weights_only``: a file from a stranger runs no code. Raises DataError if it is none."""
    if not path.is_file():
        raise DataError(
            f"{path.parent.name} has no {path.name}",
            "the folder of a training run",
            "check the path; a distilled run that was not kept has last.pt only",
        )
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        values["config"] = RunConfig.from_dict(values["config"], path.name)
        facts: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values["facts"].items()
        }
        values["facts"] = RunFacts(**facts)
        return Checkpoint(**{"denoiser_iterations": _iterations_of_denoiser(values), **values})
    except DataError:
        raise
    except Exception as error:  # torch raises many kinds on a damaged file; each means the same here
        raise DataError(
            f"{path.name} is damaged ({error})", "a checkpoint of verdiff train", "use best.pt or last.pt"
        ) from error


def _iterations_of_denoiser(values: dict[str, Any]) -> int:
    """How often the denoiser learnt, at most, in a run from before that was counted: none in its first part."""
    training, iteration = values["config"].training, values["iteration"]
    done = fraction_done(training, iteration, values["minutes"])
    return iteration if values["config"].diffusion and done > training.prior_first else 0


def checkpoint_to_resume(run: Path) -> Checkpoint:
    """``last.pt`` of a run. Raises DataError, with a way on, when there is none or it is damaged."""
    last = run / "last.pt"
    if not last.is_file():
        raise DataError(f"{run.name} has no last.pt", "a run to resume", "start it without --resume")
    try:
        return read_checkpoint(last)
    except DataError as error:
        best = (run / "best.pt").is_file()
        raise DataError(
            error.found,
            "the checkpoint that the run was to go on from",
            "start a new run in another folder, without --resume"
            + ("; best.pt holds the best weights so far, for verdiff export" if best else ""),
        ) from error


def load_network(run: Path, weights: str = "best.pt") -> tuple[SegmentationModel, Checkpoint]:
    """The averaged weights of a run as an evaluation-mode network, with the checkpoint they came from."""
    checkpoint = read_checkpoint(run if run.is_file() else run / weights)
    net = build_network(checkpoint.config, len(checkpoint.facts.labels))
    net.load_state_dict(checkpoint.ema)
    return net.eval().requires_grad_(False), checkpoint


def digest(weights: dict[str, Any]) -> str:
    """SHA-256 of a state dictionary's names and values."""
    total = hashlib.sha256()
    for name, value in weights.items():
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
