"""The training loss: deep supervision, the truncated chain, and the terms that can be chosen."""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from verdiff.errors import DataError, VerdiffError
from verdiff.train.config import ProcessConfig, RunConfig, SamplingConfig, TrainingConfig
from verdiff.train.losses import logit_loss
from verdiff.train.networks import PriorOutput, SegmentationModel
from verdiff.train.objective import joint_objective, prior_loss

CPU = torch.device("cpu")
IMAGE = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
TRUTH = (torch.rand(4, 2, 16, 16, generator=torch.Generator().manual_seed(1)) > 0.5).float()


class Recorder(SegmentationModel):
    """A model of two convolutions that remembers what its denoiser was given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.classes, self.config = 2, None
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.prior, self.denoiser = Head(1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor, timestep: Tensor, prior: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        self.seen.append((x.detach().clone(), timestep.clone()))
        raw: Tensor = self.denoiser(torch.cat([x, prior], dim=1))
        return raw


class Head(nn.Conv2d):
    def __init__(self, c_in: int) -> None:
        super().__init__(c_in, 2, 1)

    def forward(self, image: Tensor) -> PriorOutput:
        return PriorOutput(super().forward(image))


def chain(start: str = "prior", start_step: int | None = 20, prediction: str = "x0", **training: Any) -> RunConfig:
    return RunConfig(
        process=ProcessConfig("ddpm", "cosine", 30, prediction=prediction),
        sampling=SamplingConfig(start=start, start_step=start_step),
        training=dataclasses.replace(TrainingConfig(), **training),
    )


def losses(config: RunConfig, net: Recorder, seed: int = 0, truth: Tensor = TRUTH) -> float:
    return float(joint_objective(config, CPU)(net, IMAGE, truth, np.random.default_rng(seed)).parts["denoiser"])


@pytest.mark.parametrize(("start_step", "last"), [(20, 20), (None, 30)])
def test_timesteps_are_drawn_from_the_chain_that_is_sampled_and_from_all_of_it(start_step: Any, last: int) -> None:
    config, net = chain("prior" if start_step else "noise", start_step), Recorder()
    for seed in range(100):
        losses(config, net, seed)
    drawn = torch.cat([timestep for _, timestep in net.seen])
    assert set(drawn.tolist()) == set(range(1, last + 1))


@pytest.mark.parametrize("start", ["prior", "noise"])
def test_a_recycled_chain_comes_down_from_what_sampling_starts_at(start: str) -> None:
    """From the prior, the true mask has no part in it; from noise, the state before the recycled one is the truth's."""
    config, net = chain(start, recycle=1.0), Recorder()
    losses(config, net)
    losses(config, net, truth=1 - TRUTH)
    (before, at), (same_before, _) = net.seen[0], net.seen[2]
    assert int(at.max()) <= 20
    assert torch.equal(before, same_before) is (start == "prior")


@pytest.mark.parametrize(("share", "hidden"), [(0.0, 0), (0.5, 100), (1.0, 200)])
def test_a_share_of_the_states_is_made_from_the_prior_and_has_the_truth_as_its_target(
    share: float, hidden: int
) -> None:
    config, net = chain("prior", from_prior=share), Recorder()
    unseen, different = 0, 0
    for seed in range(50):
        first, second = losses(config, net, seed), losses(config, net, seed, truth=1 - TRUTH)
        (x, _), (other, _) = net.seen[-2:]
        unseen += sum(bool(torch.equal(a, b)) for a, b in zip(x, other, strict=True))
        different += first != second
    assert unseen == pytest.approx(hidden, abs=0 if share in (0, 1) else 30)
    assert different == 50, "the truth stays the target"


@pytest.mark.parametrize("prediction", ["x0", "epsilon"])
@pytest.mark.parametrize(("mse", "bce", "dice"), [terms for terms in product((0.0, 1.0), repeat=3) if any(terms)])
def test_every_choice_of_terms_is_their_sum(prediction: str, mse: float, bce: float, dice: float) -> None:
    def loss(*weights: float) -> float:
        mse, bce, dice = weights
        return losses(chain(prediction=prediction, loss_mse=mse, loss_bce=bce, loss_dice=dice), Recorder())

    alone = loss(1, 0, 0), loss(0, 1, 0), loss(0, 0, 1)
    assert min(alone) > 0
    assert loss(mse, bce, dice) == pytest.approx(np.dot(alone, (mse, bce, dice)), rel=1e-5)


def test_a_loss_without_terms_and_a_chain_that_does_not_exist_are_refused_before_training() -> None:
    with pytest.raises(DataError, match="all 0"):
        joint_objective(chain(loss_mse=0.0, loss_bce=0.0, loss_dice=0.0), CPU)
    with pytest.raises(DataError, match=r"from_prior = 0\.5 with a chain that starts from noise"):
        joint_objective(chain("noise", from_prior=0.5), CPU)
    with pytest.raises(VerdiffError, match="start step 31"):
        joint_objective(chain(start_step=31), CPU)
    with pytest.raises(VerdiffError, match="nothing of it would be left"):
        joint_objective(chain(start_step=None), CPU)


def test_deep_supervision_halves_the_weight_at_every_lower_resolution() -> None:
    torch.manual_seed(0)
    fine, middle, coarse = (torch.randn(4, 2, size, size) for size in (16, 8, 4))
    parts = [
        float(logit_loss(logits, TRUTH[..., ::step, ::step], 1.0, 1.0))
        for logits, step in ((fine, 1), (middle, 2), (coarse, 4))
    ]
    found = prior_loss(PriorOutput(fine, (), (middle, coarse)), TRUTH, 1.0, 1.0)
    assert float(found) == pytest.approx((parts[0] + parts[1] / 2 + parts[2] / 4) / 1.75, rel=1e-6)
    assert torch.equal(prior_loss(PriorOutput(fine), TRUTH, 1.0, 1.0), logit_loss(fine, TRUTH, 1.0, 1.0))


@pytest.mark.parametrize(
    ("key", "value"),
    [("recycle", 1.5), ("from_prior", -0.1), ("corrupt", 2.0)]
    + [(key, 0) for key in ("iterations", "batch", "validate_every", "validate_slices")],
)
def test_a_number_that_no_training_can_have_is_refused(key: str, value: float) -> None:
    with pytest.raises(DataError, match=rf"{key} = {value}"):
        chain(**{key: value})
