"""The training loop: time budget, EMA, finiteness, validation, best weights, and a resume that continues exactly.

A run is a folder: ``config.json`` (everything that defines it), ``last.pt`` and ``best.pt`` (checkpoints),
``metrics.csv`` and ``curves.png``.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from verdiff.errors import DataError, VerdiffError
from verdiff.train.batches import generator_for
from verdiff.train.blending import BLENDED, FIRST, blend
from verdiff.train.building import build_network
from verdiff.train.checkpoint import Checkpoint, checkpoint_to_resume, read_checkpoint, write_checkpoint
from verdiff.train.config import RunConfig
from verdiff.train.curves import METRICS, append_metrics, plot_curves
from verdiff.train.data.cases import ALL, VERIFICATION_SLICES, Dataset
from verdiff.train.dimensions import DimensionSteps
from verdiff.train.networks import SegmentationModel
from verdiff.train.objective import Objective, prior_objective
from verdiff.train.optimisation import (
    bf16_is_fast,
    copy_buffers,
    fraction_done,
    learning_rate,
    make_optimiser,
    update_average,
)
from verdiff.train.progress import Progress
from verdiff.train.ranks import ALONE, Ranks
from verdiff.train.run_folder import refuse_other
from verdiff.train.run_kind import TRAINING, RunKind
from verdiff.train.settling import settle_norms
from verdiff.train.validate import Validation, by_data_set, known_mean, scores_row

MOST_SKIPPED_STEPS = 20
# A killed run loses at most this much, however far apart its validations are; a young one less.
SAVE_MINUTES = 10.0
FIRST_SAVE_MINUTES = 1.0
# Sets the random numbers of settling norms apart from those of an iteration.
_SETTLING = 1


class Trainer:
    """Trains one system on one fold.

    Args:
        config: The run's configuration.
        dataset: The prepared data set.
        fold: Which fold of its splits; :data:`~verdiff.train.data.cases.ALL` trains on every case.
        run: The run's folder; made if absent.
        kind: What is learnt, and from which weights.
        resume: Go on from ``last.pt``.
        device: ``"auto"`` takes CUDA where there is one.
        clock: Seconds, by which the budget of minutes is counted.
        ranks: Place of this process among those that train together; the first one writes the run's files.
        writes: False only checks that the run could begin, and writes nothing.

    Raises:
        DataError: A run is there already and ``resume`` is off, or there is none to resume.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        fold: int,
        run: Path,
        *,
        kind: RunKind = TRAINING,
        resume: bool = False,
        device: str = "auto",
        clock: Callable[[], float] = time.monotonic,
        ranks: Ranks = ALONE,
        writes: bool = True,
    ) -> None:
        self.clock, self.ranks = clock, ranks
        self.config, self.dataset, self.run, self.kind = config, dataset, run, kind
        ranks.require(config.training.batch, distilled=bool(kind.teacher))
        self.train_cases, self.val_cases = dataset.fold(fold)
        # Those that validations look at; all are put aside.
        self.validated = self.val_cases[:: config.training.validate_cases]
        # What has been seen in training chooses no weights.
        self.choose_best = kind.choose_best and fold != ALL
        self.facts = kind.facts(dataset, fold)
        self.of_dimensions = DimensionSteps.of(config)
        self.of_dimensions.require(dataset.cases, config)
        found = f"cuda:{ranks.local}" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(found if device == "auto" else device)
        self.bf16 = bf16_is_fast(self.device, config.dimensions)
        self.net = self._first_network()
        self.ema = copy.deepcopy(self.net).requires_grad_(False)
        self.objective = kind.objective(config, self.device)
        self.prior_objective = prior_objective(config, self.device)
        self.optimizer = make_optimiser(config.training, self.net)
        self.iteration, self.minutes, self.best, self.stale, self.skipped = 0, 0.0, -math.inf, 0, 0
        self.rate_factor, self.since_drop, self.denoiser_iterations = 1.0, 0, 0
        self._asked_to_stop = False
        if resume:
            self._restore(checkpoint_to_resume(run))
        elif (run / "last.pt").exists():
            raise DataError(
                f"{run.name} already holds a run",
                "an empty or new folder",
                "pass --resume to go on with it, or another -o",
            )
        self._losses = ranks.compute(self.net, idle_parts=config.diffusion and config.training.prior_first > 0)
        if ranks.first and writes:
            self._begin_folder()

    def _first_network(self) -> SegmentationModel:
        """The network before its first iteration, on the device: from the seed, or with the weights it begins from."""
        torch.manual_seed(self.config.training.seed)
        net = build_network(self.config, len(self.dataset.labels)).to(self.device)
        if self.kind.initial is not None:
            net.load_state_dict(self.kind.initial)
        for part in self.kind.fixed:
            # In evaluation mode the running statistics of batch norms stay too.
            net.get_submodule(part).requires_grad_(False).eval()
        return net.to(memory_format=self.of_dimensions.layout)  # type: ignore[call-overload]

    def _begin_folder(self) -> None:
        """Write what a folder holds from the start: images that an export checks itself on, and the first weights."""
        self.run.mkdir(parents=True, exist_ok=True)
        if self.kind.initial is not None and self.config.training.keep_first:
            self._save(FIRST)
        images = self.of_dimensions.verification(self.val_cases, self.config)
        np.savez_compressed(self.run / VERIFICATION_SLICES, images=images)

    def _restore(self, checkpoint: Checkpoint) -> None:
        refuse_other(self.config, self.facts, checkpoint.config, checkpoint.facts)
        self.facts = replace(self.facts, origin=checkpoint.facts.origin)
        self.net.load_state_dict(checkpoint.net)
        self.ema.load_state_dict(checkpoint.ema)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.iteration, self.minutes = checkpoint.iteration, checkpoint.minutes
        self.best, self.stale = checkpoint.best, checkpoint.stale
        self.rate_factor, self.since_drop = checkpoint.rate_factor, checkpoint.since_drop
        self.denoiser_iterations = checkpoint.denoiser_iterations

    def _save(self, name: str) -> None:
        if not self.ranks.first:
            return
        write_checkpoint(
            self.run / name,
            Checkpoint(
                self.config, self.facts, self.net.state_dict(), self.ema.state_dict(), self.optimizer.state_dict(),
                self.iteration, self.minutes, self.best, self.stale, self.rate_factor, self.since_drop,
                self.denoiser_iterations,
            ),
        )  # fmt: skip

    @property
    def fraction(self) -> float:
        """How much of the run is done, by iterations or by the time budget, whichever is further."""
        return fraction_done(self.config.training, self.iteration, self.minutes)

    @property
    def prior_alone(self) -> bool:
        """Whether the run is in its first part, in which only the prior network learns.

        A denoiser that has begun to learn goes on, however far a longer budget moves the end of that part.
        """
        return self._denoiser_waits and self.fraction < self.config.training.prior_first

    @property
    def _denoiser_waits(self) -> bool:
        return self.config.diffusion and not self.denoiser_iterations

    def _learning_rate(self) -> float:
        return learning_rate(self.config.training, self.iteration, self.fraction, self.rate_factor)

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def step(self) -> dict[str, float]:
        """One iteration; returns the parts of its loss. A step with non-finite gradients is skipped.

        Raises:
            VerdiffError: The loss is not finite, or too many gradients in a row were not; the weights from before are
                in ``last.pt``.
        """
        training = self.config.training
        rng = generator_for(training.seed, self.iteration)
        image, truth = self._batch(rng)
        alone = self.prior_alone
        if self.config.diffusion and not alone:
            self._count_denoiser()
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            losses = self._losses(self._current_objective, image, truth, rng)
        if not bool(torch.isfinite(losses.total)):
            raise self._failed(f"the loss of batch {self.iteration + 1} is {float(losses.total.detach())}")
        losses.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), training.clip)
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
            self.skipped = 0
            update_average(self.ema, self.net, training.ema, self.iteration)
        else:
            self.skipped += 1
            if self.skipped > MOST_SKIPPED_STEPS:
                raise self._failed(f"{self.skipped} batches in a row up to {self.iteration + 1} had gradients of NaN")
        waiting = {"denoiser": math.nan} if alone else {}
        self.iteration += 1
        return {**{name: float(loss) for name, loss in losses.parts.items()}, **waiting}

    def _count_denoiser(self) -> None:
        """An iteration in which the denoiser learns. From the first on, scores of the prior's masks do not count."""
        if not self.denoiser_iterations and self.iteration:
            self.best, self.stale, self.since_drop = -math.inf, 0, 0
        self.denoiser_iterations += 1

    def _failed(self, found: str) -> VerdiffError:
        """Keep the weights there were before, and say what happened."""
        # A forward pass on what is not finite has spoilt the statistics of batch norms; the averaged network has the
        # ones from before.
        copy_buffers(self.ema, self.net)
        self._save("last.pt")
        return VerdiffError(
            found,
            "finite numbers",
            "go on with --resume from last.pt, the weights before it; if it happens again, lower learning_rate",
        )

    def stop(self) -> None:
        """Ask the run to end after the iteration it is in, with its weights in ``last.pt``."""
        self._asked_to_stop = True

    def train(self) -> Iterator[Progress]:
        """Run until the budget is spent, patience runs out or :meth:`stop` was called, saving as it goes.

        Yields after every iteration; of a budget of no minutes, once: the first weights are validated and saved.
        """
        training = self.config.training
        window: list[dict[str, float]] = []
        if self.fraction >= 1.0 and not self.iteration:
            yield Progress(0, self.minutes, 1.0, math.nan, self._validate({}))
        started, saved, wait = self.clock() - 60 * self.minutes, time.monotonic(), FIRST_SAVE_MINUTES
        while self.fraction < 1.0 and not self._out_of_patience:
            window.append(self.step())
            # Looked at once: who asks from now on is obeyed after the next iteration, and no run ends unsaved.
            self.minutes, stopped = self.ranks.agree((self.clock() - started) / 60, self._asked_to_stop)
            validation = None
            if self.iteration % training.validate_every == 0 or self.fraction >= 1.0:
                validation = self._validate({name: known_mean(row[name] for row in window) for name in window[-1]})
                window.clear()
                self.minutes, _ = self.ranks.agree((self.clock() - started) / 60, False)
                if self.fraction >= 1.0:
                    # The minutes of the last validation count too: with them a budget may be spent.
                    self._save("last.pt")
                saved, wait = time.monotonic(), SAVE_MINUTES
            elif stopped or time.monotonic() - saved >= 60 * min(wait, SAVE_MINUTES):
                self._save("last.pt")
                saved, wait = time.monotonic(), SAVE_MINUTES
            loss = float(np.nansum(list(window[-1].values()))) if window else math.nan
            yield Progress(self.iteration, self.minutes, self.fraction, loss, validation, stopped)
            if stopped:
                return
        if self.ranks.first and training.keep_first and (self.run / FIRST).is_file():
            yield self._blended()

    @property
    def _out_of_patience(self) -> bool:
        # The patience of the first part would end a run whose denoiser has learnt nothing.
        patience = self.config.training.patience
        return patience is not None and self.stale >= patience and not self._denoiser_waits

    def _blended(self) -> Progress:
        """Blend the averaged weights with the first ones, validate the result and keep it beside the last ones."""
        training = self.config.training
        blend(self.ema, read_checkpoint(self.run / FIRST).ema, training.keep_first)
        settle_norms(self.ema, self._forward_averaged, self.kind.fixed)
        validation = self.of_dimensions.validate(self.ema, self.config, self.validated, every=training.validate_slices)
        self._save(BLENDED)
        return Progress(self.iteration, self.minutes, 1.0, validation.loss, validation, self._asked_to_stop)

    @property
    def _current_objective(self) -> Objective:
        return self.prior_objective if self.prior_alone else self.objective

    def _batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images and truths of a training batch, on the device and in the layout of the network."""
        image, truth = self.of_dimensions.make_batch(self.train_cases, self.net.classes, self.config, rng)
        return (
            image.to(self.device, memory_format=self.of_dimensions.layout),
            truth.to(self.device, memory_format=self.of_dimensions.layout),
        )

    def _forward_averaged(self, number: int) -> None:
        """Run the averaged network on a training batch that depends on the seed and ``number`` alone."""
        rng = np.random.default_rng([self.config.training.seed, number, _SETTLING])
        image, truth = self._batch(rng)
        with self._autocast():
            self._current_objective(self.ema, image, truth, rng)

    def _validate(self, losses: Mapping[str, float]) -> Validation:
        """Validate in the first process, while the others wait for what it found."""
        validation = self._validate_here(losses) if self.ranks.first else None
        validation, self.best, self.stale, self.since_drop, self.rate_factor = self.ranks.told(
            None if validation is None else (validation, self.best, self.stale, self.since_drop, self.rate_factor)
        )
        return validation

    def _validate_here(self, losses: Mapping[str, float]) -> Validation:
        """Validate the averaged weights, note the figures, keep the checkpoint and the best weights."""
        training = self.config.training
        fixed = (*self.kind.fixed, *(["denoiser"] if self.prior_alone else []))
        settle_norms(self.ema, self._forward_averaged, fixed)
        validation = self.of_dimensions.validate(
            self.ema, self.config, self.validated, every=training.validate_slices, prior_alone=self.prior_alone
        )
        # With patience the validation loss decides, as in Verdiff-Net's paper; else the Dice of the sampled mask, in
        # the mean over the data sets: one of many patients shall not hide what another, of few, loses.
        sets = by_data_set(self.validated, validation.sampled)
        score = -validation.loss if training.patience else float(np.mean(list(sets.values())))
        improved = score > self.best
        self.best, self.stale = (score, 0) if improved else (self.best, self.stale + 1)
        self.since_drop = 0 if improved else self.since_drop + 1
        if training.decay == "plateau" and self.since_drop > training.plateau_patience:
            self.rate_factor, self.since_drop = self.rate_factor * training.plateau_factor, 0
        row = {
            "iteration": self.iteration,
            "minutes": round(self.minutes, 3),
            "learning_rate": self._learning_rate(),
            **{f"loss_{name}": loss for name, loss in losses.items()},
            **scores_row(validation, self.dataset.labels, sets),
        }
        append_metrics(self.run / METRICS, row)
        plot_curves(self.run / METRICS, self.run / "curves.png")
        # The best first: where the second is not kept, the run goes on from before this validation and finds it again.
        if improved and self.choose_best:
            self._save("best.pt")
        self._save("last.pt")
        return validation
