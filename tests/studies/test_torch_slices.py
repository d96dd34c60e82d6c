"""PyTorch's side of ``rivals``: its loop is the host loop's, in every layout, and random weights are owned up to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from studies.library.torch_slices import TorchSlices
from tests.runtime.tiny_bundle import write_tiny
from tests.train.toy import toy_config
from verdiff.benchmarks.torch_loop import torch_loop
from verdiff.bundle import Bundle, Feature, Label, open_bundle
from verdiff.diffusion import Process, make_table, run_loop
from verdiff.train.checkpoint import Checkpoint, RunFacts, write_checkpoint
from verdiff.train.networks import VerdiffNet
from verdiff.train.prediction import X0Denoiser

pytestmark = pytest.mark.usefixtures("threads_as_before")


@pytest.fixture(scope="module")
def net() -> VerdiffNet:
    torch.manual_seed(3)
    net = VerdiffNet(3, toy_config().network).eval().requires_grad_(False)
    for parameter in net.parameters():
        # Fresh blocks are their shortcuts; these weights make every layer count.
        parameter.add_(0.05 * torch.randn_like(parameter))
    return net


@pytest.fixture(scope="module")
def training_run(tmp_path_factory: pytest.TempPathFactory, net: VerdiffNet) -> Path:
    folder = tmp_path_factory.mktemp("run")
    facts = RunFacts("toy", ("vertebra", "disc", "canal"), (1, 2, 7), 0, {}, ())
    state = net.state_dict()
    write_checkpoint(folder / "best.pt", Checkpoint(toy_config(), facts, state, state, {}, 1, 0.0, 0.0, 0))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of the networks only the manifest's word, which is the toy network's."""
    features = tuple(
        Feature(f"feature_{i}", width, stride)
        for i, (stride, width) in enumerate(sorted(toy_config().network.features.items()))
    )
    path = write_tiny(
        tmp_path_factory.mktemp("bundle") / "toy.verdiff",
        model_id="toy",
        features=features,
        labels=(Label(1, "vertebra"), Label(2, "disc"), Label(7, "canal")),
        multiple=toy_config().network.multiple,
    )
    return open_bundle(path)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (2, 1, 32, 24)).astype(np.float32)


@pytest.mark.parametrize(("sampler", "eta"), [("ddim", 0.0), ("ddim", 1.0), ("dpmpp-2m", 0.0)])
@pytest.mark.parametrize("reuses", [False, True])
def test_the_loop_on_tensors_is_the_host_loop(sampler: Any, eta: float, reuses: bool) -> None:
    table = make_table(Process.from_dict(toy_config().process.build().to_dict()), sampler=sampler, steps=4, eta=eta)
    rng = np.random.default_rng(0)
    f = np.tanh(rng.standard_normal((1, 2, 6, 5))).astype(np.float32)
    noise = rng.standard_normal((5, *f.shape)).astype(np.float32)
    memory = torch.zeros(f.shape)

    def step(x: torch.Tensor, timestep: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        answer = torch.tanh(x + prior * timestep / 1000)
        return memory.copy_(answer) if reuses else answer

    def denoise(x: np.ndarray, timestep: int) -> np.ndarray:
        return np.asarray(np.tanh(x + f * np.float32(timestep / 1000)))

    timesteps = [torch.tensor([float(t)])[:, None, None, None] for t in table.timesteps]
    for stop_after in (None, 3):
        found = torch_loop(
            step,
            table,
            (torch.from_numpy(f),),
            timesteps,
            lambda number: torch.from_numpy(noise[number]),
            stop_after=stop_after,
            reuses_outputs=reuses,
        )
        expected = run_loop(
            denoise,
            table,
            f,
            lambda number: noise[number],
            on_step=lambda state, last=stop_after: state.row + 1 != last,  # type: ignore[misc]
        )
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("form", ["eager", "channels last"])
def test_an_answer_is_the_run_s_networks_through_the_loop(
    bundle: Bundle, training_run: Path, net: VerdiffNet, images: np.ndarray, form: Any
) -> None:
    process = toy_config().process
    table = make_table(process.build(), sampler="ddim", steps=2, eta=1.0)
    rival = TorchSlices(bundle, training_run, 1)
    found = rival.answer(table, 2, form=form)(images, [0, 1])
    assert rival.same_weights and found.flags.c_contiguous
    generator = torch.Generator().manual_seed(bundle.manifest.defaults.seed)
    denoiser = X0Denoiser(net.denoiser, process.build(), process.prediction).eval()
    for index, image in enumerate(images):
        with torch.inference_mode():
            output = net.prior(torch.from_numpy(image[None]))
            f = 2 * torch.sigmoid(output.logits) - 1

            def denoise(x: np.ndarray, timestep: int, given: Any = (f, *output.features)) -> np.ndarray:
                at = torch.full((1,), float(timestep))
                x0hat: np.ndarray = denoiser(torch.from_numpy(x.copy()), at, *given).numpy()
                return x0hat

            drawn = [
                run_loop(
                    denoise, table, f.numpy(), lambda number, f=f: torch.randn(f.shape, generator=generator).numpy()
                )  # type: ignore[misc]
                for _ in range(2)
            ]
        np.testing.assert_allclose(found[index], (np.mean(drawn, axis=0)[0] + 1) / 2, atol=1e-5)
        np.testing.assert_allclose(rival.priors(image[None]), (f.numpy() + 1) / 2, atol=1e-6)


def test_without_a_run_the_weights_are_not_the_bundle_s(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verdiff.train.config.load_config", lambda name: {"toy": toy_config()}[name])
    assert not TorchSlices(bundle, None, 1).same_weights


def test_compiling_is_torch_s_own_and_of_both_networks(
    bundle: Bundle, training_run: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []

    def compile_(module: Any) -> Any:
        compiled.append(type(module).__name__)
        return module

    monkeypatch.setattr(torch, "compile", compile_)
    table = make_table(toy_config().process.build(), sampler="ddim", steps=2)
    rival = TorchSlices(bundle, training_run, 1)
    found = rival.answer(table, form="compiled")(images, [0, 1])
    assert compiled == ["PriorNet", "X0Denoiser"]
    np.testing.assert_allclose(found, rival.answer(table)(images, [0, 1]), atol=1e-5)
