"""Step distillation: a denoiser that gives in one to four steps what its teacher gives in many.

The teacher is a trained run sampled with many steps; the student starts as a copy of its denoiser and keeps its prior
network. As in progressive distillation (Salimans and Ho 2022) the student is drawn to where many of the teacher's
steps lead; unlike there, each x_t is one that the student's own table and its own earlier steps reach (on-policy, as
in DAgger, Ross et al. 2011): it is trained on the errors it will meet, not on the true mask's marginal.
"""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional

from verdiff.diffusion.loop import Array, Noise, StepState, run_loop
from verdiff.train.checkpoint import Checkpoint, digest
from verdiff.train.config import RunConfig, SamplingConfig
from verdiff.train.corrupt import corrupt_prior
from verdiff.train.losses import logit_loss, probability_loss
from verdiff.train.networks import SegmentationModel
from verdiff.train.objective import Losses
from verdiff.train.prediction import MarginalTable, X0Denoiser, to_x0hat
from verdiff.train.run_kind import RunKind


def student_config(teacher: RunConfig) -> RunConfig:
    """The student's run, from its teacher's configuration and the ``[distillation]`` table in it.

    Data, network, process, augmentation and the damage to priors are the teacher's; sampling is ``steps`` steps of one
    sample, which is what an exported bundle starts from. Its denoiser learns from the first iteration on.
    """
    recipe = teacher.distillation
    training = dataclasses.replace(
        teacher.training,
        optimizer="adam",
        weight_decay=0.0,
        decay="cosine",
        patience=None,
        prior_first=0.0,
        keep_first=0.0,
        iterations=recipe.iterations,
        minutes=recipe.minutes,
        learning_rate=recipe.learning_rate,
        warmup=recipe.warmup,
        ema=recipe.ema,
        validate_every=recipe.validate_every,
    )
    sampling = dataclasses.replace(teacher.sampling, steps=recipe.steps, samples=1)
    return dataclasses.replace(teacher, sampling=sampling, training=training)


def teacher_sampling(config: RunConfig) -> SamplingConfig:
    """How the teacher's masks are drawn, from its own or the student's configuration."""
    recipe = config.distillation
    return dataclasses.replace(config.sampling, steps=recipe.teacher_steps, samples=recipe.teacher_samples)


def distillation_kind(teacher: SegmentationModel, checkpoint: Checkpoint) -> RunKind:
    """What a :class:`~verdiff.train.trainer.Trainer` learns from ``teacher``, the network of ``checkpoint``."""
    weights = teacher.state_dict()
    return RunKind(
        objective=lambda config, device: DistillationObjective(teacher, config, device),
        initial=weights,
        fixed=("prior",),
        # The student is judged on the validation patients afterwards.
        choose_best=False,
        teacher={"iteration": checkpoint.iteration, "weights_sha256": digest(weights)},
        # What the teacher's first weights saw, its student has seen.
        origin=checkpoint.facts.origin,
    )


class DistillationObjective:
    """The loss of one batch: one pass of the student, at a random row of its own table, against the teacher's mask.

    Args:
        teacher: The trained network; only its denoiser is used, since student and teacher share the prior network.
        config: The student's, from :func:`student_config`.
        device: Where the student is.
    """

    def __init__(self, teacher: SegmentationModel, config: RunConfig, device: torch.device) -> None:
        process = config.process.build()
        self.config, self.recipe, self.prediction = config, config.distillation, config.process.prediction
        frozen = X0Denoiser.of(copy.deepcopy(teacher), config.process).eval().requires_grad_(False)
        self.teacher = frozen.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.marginal = MarginalTable(process).to(device)
        self.table = config.sampling.table(process)
        self.teacher_table = teacher_sampling(config).table(process)

    def __call__(self, net: SegmentationModel, image: Tensor, truth: Tensor, rng: Generator) -> Losses:
        """Losses for ``image`` [N, 1, H, W] in [-1, 1] and ``truth`` [N, K, H, W] in {0, 1}."""
        with torch.no_grad():
            output = net.prior(image)
            prior = (2 * torch.sigmoid(output.logits.float()) - 1).contiguous()
            # The teacher keeps the undamaged prior: what it knows more is what the student has to find in the image.
            wanted = self.teacher_mask(prior, output.features, rng)
            prior = corrupt_prior(prior, self.config.training.corrupt, rng)
        raw, x, timestep = self.student_pass(net, prior, output.features, rng)
        if self.prediction == "x0":
            # Soft Dice against a soft mask is not least where the two agree, so the teacher's part has none.
            imitation = functional.binary_cross_entropy_with_logits(raw, wanted)
            of_truth = logit_loss(raw, truth, self.config.training.loss_bce, self.config.training.loss_dice)
        else:
            x0hat = to_x0hat(self.prediction, raw, x, prior, self.marginal(timestep))
            imitation = probability_loss(x0hat, wanted, 1.0, 0.0)
            of_truth = probability_loss(x0hat, truth, self.config.training.loss_bce, self.config.training.loss_dice)
        share = self.recipe.truth_weight
        total = (1 - share) * imitation + share * of_truth
        return Losses(total, {"teacher": imitation.detach(), "truth": of_truth.detach()})

    def teacher_mask(self, prior: Tensor, features: tuple[Tensor, ...], rng: Generator) -> Tensor:
        """The teacher's probabilities [N, K, H, W]: the mean of its samples, each run through its whole table."""
        denoise, f = self.teacher.on_host(prior, features), prior.cpu().numpy()
        drawn = [
            run_loop(denoise, self.teacher_table, f, _noise(f.shape, rng)) for _ in range(self.recipe.teacher_samples)
        ]
        mean = (np.mean(drawn, axis=0, dtype=np.float32) + 1) / 2
        return torch.from_numpy(mean).clamp(0, 1).to(prior.device)

    def student_pass(
        self, net: SegmentationModel, prior: Tensor, features: tuple[Tensor, ...], rng: Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The student's raw output with gradient at a row drawn at random, the x_t it saw there and the timestep [N].

        The rows before it are run without gradient: x_t is where the student's own sampling arrives.
        """
        last = int(rng.integers(len(self.table)))
        on_policy = X0Denoiser.of(net, self.config.process).to(prior.device)
        without_gradient = on_policy.on_host(prior, features)
        seen: list[tuple[Tensor, Tensor, Tensor]] = []

        def denoise(x: Array, timestep: int) -> Array:
            if timestep != int(self.table.timesteps[last]):
                x0hat: Array = without_gradient(x, timestep)
                return x0hat
            at = torch.full((len(x),), float(timestep), device=prior.device)
            # A copy, since the loop goes on to change x and the backward pass needs it.
            copied = torch.from_numpy(x.copy()).to(prior.device)
            raw = net(copied, at, prior, features).float()
            seen.append((raw, copied, at))
            return np.zeros_like(x)

        def stop(state: StepState) -> bool:
            return state.row < last

        f = prior.cpu().numpy()
        run_loop(denoise, self.table, f, _noise(f.shape, rng), on_step=stop)
        return seen[0]


def _noise(shape: tuple[int, ...], rng: Generator) -> Noise:
    return lambda step: rng.standard_normal(shape, dtype=np.float32)
