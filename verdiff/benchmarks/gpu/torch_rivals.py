"""The rivals in PyTorch: the same two networks, the same table and the same noise, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from verdiff.benchmarks.gpu.rivals import GpuRival, Mask
from verdiff.benchmarks.gpu.trace import cuda_torch
from verdiff.benchmarks.gpu.workload import Workload
from verdiff.benchmarks.torch_loop import torch_loop
from verdiff.benchmarks.torch_rival import torch_network


def torch_rival(
    workload: Workload, device: str, *, precision: str, compiled: bool, training_run: Path | None
) -> GpuRival:
    """PyTorch on a GPU; its noise is on the device before anything is timed, which is in its favour.

    Args:
        workload: What to run.
        device: ``"cuda:N"``.
        precision: ``"fp32"``, which is held to (no TF32), or ``"fp16"``: autocast, with weights stored in fp16.
        compiled: ``torch.compile`` with CUDA graphs, instead of eager.
        training_run: The run behind the bundle; None leaves the networks' weights random.

    Raises:
        VerdiffError: No PyTorch that drives a GPU, or no network to run.
    """
    cuda_torch()
    return torch_rival_on(workload, device, precision=precision, compiled=compiled, training_run=training_run)


def torch_rival_on(
    workload: Workload, device: str, *, precision: str, compiled: bool, training_run: Path | None
) -> GpuRival:
    """The same on any device of PyTorch's."""
    import torch

    from verdiff.train.prediction import X0Denoiser

    net, config = torch_network(workload.bundle, training_run)
    layout: Any = torch.channels_last
    prior: Any = net.prior.to(device, memory_format=layout)
    step: Any = X0Denoiser.of(net, config.process).eval()
    step.to(device, memory_format=layout)
    half = precision == "fp16"
    if half:
        _store_in_half(prior)
        _store_in_half(step)
    if compiled:
        prior, step = (torch.compile(module, mode="reduce-overhead") for module in (prior, step))
    table, device_type = workload.table, device.partition(":")[0]
    finish: Callable[[], object] = torch.cuda.synchronize if device_type == "cuda" else (lambda: None)
    ids = torch.tensor(workload.bundle.manifest.mask_ids, device=device)

    def on_device(maps: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(maps)).to(device)

    drawn = [0, *(row + 1 for row in range(len(table)) if table.needs_noise(row))]
    noises = [{n: on_device(workload.noise(sample, n)) for n in drawn} for sample in range(workload.samples)]
    timesteps = [torch.full((workload.slices,), float(t), device=device) for t in table.timesteps.tolist()]

    def conditions(images: Any) -> tuple[Any, ...]:
        output = prior(images)
        found = (2 * torch.sigmoid(output.logits.float()) - 1, *output.features)
        # A compiled network gives its outputs in the same memory every time.
        return tuple(each.clone() for each in found) if compiled else found

    def sample(given: tuple[Any, ...], noise: dict[int, Any]) -> Any:
        return torch_loop(step, table, given, timesteps, noise.__getitem__, reuses_outputs=compiled)

    @contextmanager
    def settings() -> Iterator[None]:
        # fp32 is fp32: by default convolutions round their inputs to TF32's 10 bits.
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
            torch.autocast(device_type, torch.float16, enabled=half),
        ):
            yield

    def volume() -> Mask:
        with settings():
            given = conditions(on_device(workload.images).contiguous(memory_format=layout))
            total = sum(sample(given, noise) for noise in noises[1:]) + sample(given, noises[0])
            most, structure = ((total / workload.samples + 1) / 2).max(dim=1)
            # The background's probability is what the largest structure leaves of 1.
            labels = torch.where(most > 0.5, ids[structure + 1], ids[0])
            mask: Mask = labels.cpu().numpy()
        return mask[:, : workload.plan.model_rows, : workload.plan.model_cols]

    @contextmanager
    def loop() -> Iterator[Callable[[], object]]:
        with settings():
            given = conditions(on_device(workload.images).contiguous(memory_format=layout))

            def call() -> None:
                sample(given, noises[0])
                finish()

            yield call

    def close() -> None:
        noises.clear()
        if device_type == "cuda":
            torch.cuda.empty_cache()

    return GpuRival(volume, loop, workload.slices, training_run is not None, close)


def _store_in_half(network: Any) -> None:
    """Weights in fp16, as a deployed network has them: autocast would cast each of them again at every use."""
    import torch

    from verdiff.train.networks.nsa import NSA

    # NSA's wide layer computes in fp32 whatever the autocast.
    kept = {module.wide for module in network.modules() if isinstance(module, NSA)}
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and module not in kept:
            module.half()
