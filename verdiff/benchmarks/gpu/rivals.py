"""The rivals that are verdiff's own runtime: one model on one backend of the device path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verdiff.benchmarks.gpu.workload import Workload
from verdiff.options import LoadOptions, SampleOptions
from verdiff.runtime import Segmenter
from verdiff.runtime.device.backend import DeviceBackend
from verdiff.runtime.device.executor import DeviceExecutor
from verdiff.runtime.device.runner import open_runner
from verdiff.runtime.loaded import LoadedModel
from verdiff.runtime.provenance import describe_model
from verdiff.runtime.sampling import resolve_sampling

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class GpuRival:
    """Something that can do the whole workload, and its loop alone.

    Attributes:
        volume: Scan in, mask out: [slices, rows, columns], on the host.
        loop: A context that gives the call to time: all steps of one batch, finished on the device.
        batch: Pairs of slice and sample in that batch.
        same_weights: Whether its mask can be compared.
        close: Gives back what it holds.
    """

    volume: Callable[[], Mask]
    loop: Callable[[], AbstractContextManager[Callable[[], object]]]
    batch: int
    same_weights: bool
    close: Callable[[], object]


def runtime_rival(
    workload: Workload, device: str, *, backend: str, precision: str, graphs: bool | None = None
) -> GpuRival:
    """The runtime with one backend.

    Args:
        workload: What to run.
        device: ``"cuda:N"``.
        backend: A backend that ``verdiff infer`` takes.
        precision: A precision that ``verdiff infer`` takes.
        graphs: Whether ONNX Runtime replays CUDA graphs.

    Raises:
        VerdiffError: The backend, an engine or the precision is not there.
    """
    from verdiff.runtime.device.opening import open_device

    loaded = open_device(workload.bundle, backend, LoadOptions(device=device, precision=precision, graphs=graphs))
    return rival_of(segmenter_of(workload, loaded), workload)


def segmenter_of(workload: Workload, backend: DeviceBackend) -> Segmenter:
    """The workload's model on an opened device."""
    bundle = workload.bundle
    executor = DeviceExecutor(backend)
    return Segmenter(LoadedModel(bundle.manifest, executor, bundle.has("denoiser"), describe_model(bundle)))


def rival_of(segmenter: Segmenter, workload: Workload) -> GpuRival:
    """A loaded Segmenter of a device as a rival."""
    backend = segmenter.backend
    assert isinstance(backend, DeviceBackend)
    choices = SampleOptions(steps=workload.steps, samples=workload.samples, seed=workload.seed)

    def volume() -> Mask:
        result = segmenter.segment(
            workload.scan, steps=workload.steps, samples=workload.samples, seed=workload.seed, force=True
        )
        return workload.planes_of(result.labels)

    @contextmanager
    def loop() -> Iterator[Callable[[], object]]:
        sampling = resolve_sampling(workload.bundle.manifest, choices, denoiser=True)
        with open_runner(backend) as runner:
            runner.begin(workload.plan, sampling, chunk=None, anytime=False)
            slices = min(runner.space.need.batch, workload.slices)
            slot = runner.prior(workload.images[:slices], slice(0, slices))
            with backend.working():
                runner.enqueue_inputs(slot, runner.groups(0, slices, range(workload.samples))[0])
                backend.driver.synchronise(backend.stream)

                def call() -> None:
                    runner.enqueue_loop()
                    backend.driver.synchronise(backend.stream)

                yield call

    usual, _ = backend.networks.batches(*workload.size)
    return GpuRival(volume, loop, usual, True, segmenter.close)
