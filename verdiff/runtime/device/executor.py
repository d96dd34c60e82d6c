"""A model on a device: the questions of :class:`verdiff.runtime.loaded.Executor`, answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BackendError
from verdiff.runtime.backends import default_threads
from verdiff.runtime.device.golden import device_outputs
from verdiff.runtime.device.runner import DeviceRunner, open_runner
from verdiff.runtime.device.session import DeviceSession
from verdiff.runtime.device.streams import stream_handle
from verdiff.runtime.lanes import Lanes, lane_count

if TYPE_CHECKING:
    from verdiff.bundle import Bundle, Manifest
    from verdiff.diffusion import SamplerTable
    from verdiff.runtime.backends.protocol import Backend
    from verdiff.runtime.clock import Clock
    from verdiff.runtime.device.backend import DeviceBackend
    from verdiff.runtime.sampling import Sampling


@dataclass(frozen=True)
class DeviceExecutor:
    """Networks and loop on one device; the host reads the scan, resamples and restores.

    Attributes:
        backend: The model on its device.
    """

    backend: DeviceBackend
    # Graphs and memory are made for one size.
    windows: ClassVar[bool] = False

    @property
    def networks(self) -> Backend:
        """Refuse: the networks are called by the device's loop."""
        raise BackendError(
            f"the networks of {self.backend.name} on {self.backend.device} called one by one",
            "a model on the host's processors",
            "load the Segmenter with device='cpu'",
        )

    @contextmanager
    def call(self, manifest: Manifest, clock: Clock, memory_mb: int | None) -> Iterator[tuple[Lanes, DeviceRunner]]:
        """See :meth:`verdiff.runtime.loaded.Executor.call`; the memory's limit is that of the load."""
        with Lanes(lane_count(default_threads())) as lanes, open_runner(self.backend) as runner:
            yield lanes, runner

    def golden_outputs(
        self, golden: Mapping[str, NDArray[Any]], table: SamplerTable | None
    ) -> dict[str, NDArray[np.float32]]:
        """See :meth:`verdiff.runtime.loaded.Executor.golden_outputs`."""
        return device_outputs(self.backend, golden, table)

    def pace(self, bundle: Bundle) -> None:
        """None: a pass of the loop is one piece of work on the device."""
        return None

    def session(
        self,
        manifest: Manifest,
        sampling: Sampling,
        shape: tuple[int, int, int],
        spacing_mm: tuple[float, float],
        stream: Any,
    ) -> DeviceSession:
        """See :meth:`verdiff.runtime.loaded.Executor.session`."""
        return DeviceSession(self.backend, manifest, sampling, shape, spacing_mm, stream_handle(stream), keep=stream)

    def close(self) -> None:
        """See :meth:`verdiff.runtime.loaded.Executor.close`."""
        self.backend.close()
