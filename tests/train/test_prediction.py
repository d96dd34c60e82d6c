"""x0, epsilon and v are three ways to say the same thing."""

from __future__ import annotations

import pytest
import torch

from verdiff.diffusion.process import Process
from verdiff.diffusion.schedules import Schedule
from verdiff.errors import DataError
from verdiff.train.prediction import MarginalTable, X0Denoiser, target, to_x0hat


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("name", ["verdiff", "card", "ddpm"])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_right_raw_output_gives_back_the_true_mask(prediction: str, name: str, scale: float) -> None:
    process = Process(name, Schedule("linear", 1000), scale)  # type: ignore[arg-type]
    table = MarginalTable(process)
    torch.manual_seed(0)
    x0 = torch.randint(0, 2, (3, 2, 8, 8)).float() * 2 - 1
    prior, eps = torch.rand_like(x0) * 2 - 1, torch.randn_like(x0)
    at = table(torch.tensor([5, 300, 700]))
    x = at.signal * x0 + at.prior * prior + at.noise * eps
    raw = target(prediction, x0, x, prior, at)
    if prediction == "epsilon":
        assert torch.allclose(raw, eps, atol=2e-4)
    assert torch.allclose(to_x0hat(prediction, raw, x, prior, at), x0, atol=2e-3)


def test_x0_logits_become_a_mask_on_minus_one_to_one() -> None:
    at = MarginalTable(Process("ddpm", Schedule("cosine", 10)))(torch.tensor([3]))
    x = torch.zeros(1, 1, 1, 3)
    assert to_x0hat("x0", torch.tensor([[[[-50.0, 0.0, 50.0]]]]), x, x, at).flatten().tolist() == [-1, 0, 1]


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(DataError, match="one of x0, epsilon, v"):
        X0Denoiser(torch.nn.Identity(), Process("ddpm", Schedule("linear", 10)), "score")
