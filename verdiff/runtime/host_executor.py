"""A model on the host's processors: the questions of :class:`verdiff.runtime.loaded.Executor`, answered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion import SamplerTable, StepState, fuse_mean, run_loop
from verdiff.errors import BackendError
from verdiff.runtime.batching import Batcher
from verdiff.runtime.frontier import Pace
from verdiff.runtime.host import HostRunner
from verdiff.runtime.lanes import Lanes
from verdiff.runtime.memory import window_lanes

if TYPE_CHECKING:
    from verdiff.bundle import Bundle, Manifest
    from verdiff.runtime.backends.protocol import Backend
    from verdiff.runtime.clock import Clock
    from verdiff.runtime.device.session import DeviceSession
    from verdiff.runtime.sampling import Sampling

Maps = NDArray[np.float32]

# Of the networks' pace, and the seconds after which no further one begins.
TRIES, TRYING_S = 3, 0.15


@dataclass(frozen=True)
class HostExecutor:
    """The networks of a host backend, and the loop in numpy between their calls.

    Attributes:
        backend: The networks.
    """

    backend: Backend
    windows: ClassVar[bool] = True

    @property
    def networks(self) -> Backend:
        """See :attr:`verdiff.runtime.loaded.Executor.networks`."""
        return self.backend

    @contextmanager
    def call(self, manifest: Manifest, clock: Clock, memory_mb: int | None) -> Iterator[tuple[Lanes, HostRunner]]:
        """See :meth:`verdiff.runtime.loaded.Executor.call`."""
        limit = None if memory_mb is None else memory_mb << 20
        with Lanes(self.backend.lanes) as lanes:
            yield lanes, HostRunner(self.backend, manifest, clock, lanes, limit)

    def golden_outputs(self, golden: Mapping[str, NDArray[Any]], table: SamplerTable | None) -> dict[str, Maps]:
        """See :meth:`verdiff.runtime.loaded.Executor.golden_outputs`."""
        batcher = Batcher(self.backend.lane)
        prior, features = batcher.prior(golden["image"])
        found = {"prior": prior}
        owner = np.arange(len(prior))

        def denoise(x: Maps, timestep: int) -> Maps:
            return batcher.denoise(x, timestep, prior, features, owner)

        def first(state: StepState) -> None:
            found.setdefault("denoiser", state.x0hat)

        # A table that adds noise at every step would need more noise than the goldens keep.
        if table is not None and table.deterministic:
            x0hat = run_loop(denoise, table, prior, lambda _: golden["noise"][0], on_step=first)
            found["probabilities"] = fuse_mean(x0hat[None]).probabilities
        elif table is not None:
            found["denoiser"] = denoise(np.ascontiguousarray(golden["x_start"], np.float32), int(table.timesteps[0]))
        return found

    def pace(self, bundle: Bundle) -> Pace:
        """See :meth:`verdiff.runtime.loaded.Executor.pace`."""
        return time_networks(self.backend, bundle)

    def session(
        self,
        manifest: Manifest,
        sampling: Sampling,
        shape: tuple[int, int, int],
        spacing_mm: tuple[float, float],
        stream: Any,
    ) -> DeviceSession:
        """Refuse: there is no device."""
        raise BackendError(
            f"a session on the device with the {self.backend.name} backend",
            "a model on a GPU",
            "load the Segmenter with device='cuda:0'",
        )

    def close(self) -> None:
        """Nothing is held."""


def time_networks(backend: Backend, bundle: Bundle) -> Pace:
    """What a pass takes here a pixel of a slice, or a voxel of a window, from the golden image, every lane at work.

    After the self-test, when all is warm; the quickest of a few tries, unless one alone takes long. The first try of
    every lane at once is half as slow again as the next, and a budget is judged by this. Large windows go through one
    at a time on every thread, as they do in a call: memory for one a lane may not be there.
    """
    golden, manifest = bundle.golden(), bundle.manifest
    count = backend.lanes if manifest.volume is None else window_lanes(manifest, backend.name, backend.lanes)
    with Lanes(count) as lanes:
        batcher = Batcher(backend.lane if count == backend.lanes else backend, lanes)
        image = np.repeat(golden["image"][:1], count * backend.batch, axis=0)
        if count < backend.lanes:
            # The self-test warmed the lanes. This form is opened by its first call.
            batcher.prior(image)
        tries: list[tuple[float, float]] = []
        while len(tries) < TRIES and sum(map(sum, tries)) < TRYING_S:
            begun = perf_counter()
            prior, features = batcher.prior(image)
            after = perf_counter()
            if bundle.has("denoiser"):
                batcher.denoise(prior, 1, prior, features, np.arange(len(prior)))
            tries.append((after - begun, perf_counter() - after))
    pixels = len(image) * math.prod(image.shape[2:])
    prior_s, denoiser_s = (min(seconds) for seconds in zip(*tries, strict=True))
    return Pace(prior_s / pixels, denoiser_s / pixels if bundle.has("denoiser") else 0.0)
