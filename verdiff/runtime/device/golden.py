"""The bundle's golden image on a device: both captures, on the golden noise."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.runtime.answer import chunks_of
from verdiff.runtime.device.kernels import Pairs
from verdiff.runtime.device.runner import DeviceRunner, open_runner
from verdiff.runtime.sampling import Sampling

if TYPE_CHECKING:
    from verdiff.diffusion import SamplerTable
    from verdiff.runtime.device.backend import DeviceBackend

Maps = NDArray[np.float32]


def device_outputs(
    backend: DeviceBackend, golden: Mapping[str, NDArray[Any]], table: SamplerTable | None
) -> dict[str, Maps]:
    """``prior`` [n, K, H, W]; with a table ``denoiser``, x0hat of the first step, from the first of the graphs a step;
    and ``probabilities``: of a table without step noise from the graph of all steps, without a table from the prior.

    Args:
        backend: The model on its device.
        golden: The bundle's, with ``image`` [n, 1, H, W] and ``noise`` [1, n, K, H, W] of the start.
        table: Sampler table of the model's defaults.

    Raises:
        BackendError: See :class:`verdiff.runtime.runner.Runner`.
    """
    image = np.asarray(golden["image"], np.float32)
    rows, cols = image.shape[-2:]
    sampling = Sampling(table, 0 if table is None else 1, 0, "mean", {})
    parts: dict[str, list[Maps]] = {}
    with open_runner(backend) as runner:
        usual, _ = backend.networks.batches(rows, cols)
        with backend.working():
            need = backend.spaces.fit(partial(runner.need_at, rows, cols, sampling), usual)
        runner.open(need, sampling)
        for chunk in chunks_of(len(image), need.batch):
            noise = None if table is None else np.asarray(golden["noise"][0][chunk], np.float32)
            for stage, values in _chunk(runner, image[chunk], noise, table).items():
                parts.setdefault(stage, []).append(values)
    return {stage: np.concatenate(values) for stage, values in parts.items()}


def _chunk(runner: DeviceRunner, image: Maps, noise: Maps | None, table: SamplerTable | None) -> dict[str, Maps]:
    slot = runner.prior(image, slice(0, len(image)))
    space, count = runner.space, len(image)
    with runner.backend.working():
        found = {"prior": _download(runner, space.address("prior", slot.index), count)}
        if table is None or noise is None:
            runner.enqueue_prior_answer(slot)
            found["probabilities"] = runner.download(count).probabilities.copy()
            return found
        pairs = Pairs(0, count, 0, 1)
        runner.enqueue_inputs(slot, pairs)
        _upload(runner, noise)
        runner.loop.step(0, runner.stream)
        found["denoiser"] = _download(runner, runner.loop.x0hat(0), count)
        if table.deterministic:
            runner.enqueue_loop()
            runner.enqueue_keeping(slot, pairs, len(table))
            runner.enqueue_fusion(slot, 1, len(table))
            found["probabilities"] = runner.download(count).probabilities.copy()
    return found


def _upload(runner: DeviceRunner, noise: Maps) -> None:
    """The start noise, through the page-locked memory of the answer, which has room for it."""
    transit = _transit(runner, noise.shape)
    transit[:] = noise
    runner.driver.upload(runner.space.address("noise"), transit, runner.stream)
    runner.driver.synchronise(runner.stream)


def _download(runner: DeviceRunner, source: int, slices: int) -> Maps:
    need = runner.space.need
    transit = _transit(runner, (slices, need.classes, need.rows, need.cols))
    runner.driver.download(transit, source, runner.stream)
    runner.driver.synchronise(runner.stream)
    return transit.copy()


def _transit(runner: DeviceRunner, shape: tuple[int, ...]) -> Maps:
    values: Maps = runner.space.staged["answer"].values.reshape(-1)[: int(np.prod(shape))].reshape(shape)
    return values
