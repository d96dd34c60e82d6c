"""PyTorch's loop on the CPU is the host loop's: same networks, table and noise, so only the device differs on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.runtime.tiny_bundle import write_tiny
from tests.train.toy import toy_config
from verdiff.benchmarks.gpu.torch_rivals import torch_rival, torch_rival_on
from verdiff.benchmarks.gpu.workload import Workload
from verdiff.bundle import Feature, Label, open_bundle
from verdiff.diffusion import fuse_mean, run_loop
from verdiff.errors import BackendError
from verdiff.train.checkpoint import Checkpoint, RunFacts, write_checkpoint
from verdiff.train.networks import VerdiffNet
from verdiff.train.prediction import X0Denoiser


@pytest.fixture(scope="module")
def net() -> VerdiffNet:
    torch.manual_seed(3)
    net = VerdiffNet(3, toy_config().network).eval().requires_grad_(False)
    for parameter in net.parameters():
        # Fresh blocks are their shortcuts; these weights make every layer count.
        parameter.add_(0.05 * torch.randn_like(parameter))
    return net


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, net: VerdiffNet) -> Path:
    folder = tmp_path_factory.mktemp("run")
    facts = RunFacts("toy", ("vertebra", "disc", "canal"), (1, 2, 7), 0, {}, ())
    state = net.state_dict()
    write_checkpoint(folder / "best.pt", Checkpoint(toy_config(), facts, state, state, {}, 1, 0.0, 0.0, 0))
    return folder


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """The tiny bundle's image and table; of its networks only the manifest's word, which is the toy network's."""
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
    return Workload(open_bundle(path), slices=2, size=(32, 48), samples=2, steps=3)


def host_mask(workload: Workload, net: VerdiffNet) -> np.ndarray:
    config = toy_config()
    step = X0Denoiser(net.denoiser, config.process.build(), config.process.prediction).eval()
    with torch.inference_mode():
        output = net.prior(torch.from_numpy(workload.images))
        f = 2 * torch.sigmoid(output.logits) - 1

        def denoise(x: np.ndarray, timestep: int) -> np.ndarray:
            given = torch.full((len(x),), float(timestep))
            found: np.ndarray = step(torch.from_numpy(x.copy()), given, f, *output.features).numpy()
            return found

        samples = [run_loop(denoise, workload.table, f.numpy(), lambda n, s=s: workload.noise(s, n)) for s in range(2)]
    probabilities = fuse_mean(np.stack(samples)).probabilities
    ids = np.array([0, 1, 2, 7], np.uint8)
    return ids[np.where(probabilities.max(1) > 0.5, probabilities.argmax(1) + 1, 0)]


def test_the_mask_is_the_host_loop_s(workload: Workload, net: VerdiffNet, run_folder: Path) -> None:
    rival = torch_rival_on(workload, "cpu", precision="fp32", compiled=False, training_run=run_folder)
    expected, found = host_mask(workload, net), rival.volume()
    assert len(np.unique(expected)) > 1
    assert np.mean(found == expected) > 0.999
    assert (rival.same_weights, rival.batch) == (True, 2)


def test_a_loop_runs_every_step_of_one_batch(workload: Workload, run_folder: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    calls: list[int] = []
    forward = X0Denoiser.forward

    def counted(self: X0Denoiser, x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return forward(self, x, *rest)

    monkeypatch.setattr(X0Denoiser, "forward", counted)
    rival = torch_rival_on(workload, "cpu", precision="fp32", compiled=False, training_run=run_folder)
    with rival.loop() as loop:
        loop()
    assert calls == [2, 2, 2]


def test_half_precision_computes_nearly_the_same_mask(workload: Workload, run_folder: Path) -> None:
    whole, half = (
        torch_rival_on(workload, "cpu", precision=precision, compiled=False, training_run=run_folder).volume()
        for precision in ("fp32", "fp16")
    )
    assert np.mean(whole == half) > 0.98


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU that PyTorch drives")
def test_a_pytorch_without_a_gpu_is_a_reason(workload: Workload) -> None:
    with pytest.raises(BackendError, match="finds no GPU"):
        torch_rival(workload, "cuda:0", precision="fp32", compiled=False, training_run=None)
