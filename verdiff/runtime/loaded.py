"""A loaded model: a record of what a call needs of it, and the questions that whatever computes it answers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from verdiff.bundle import Bundle, Manifest
    from verdiff.diffusion import SamplerTable
    from verdiff.runtime.backends.protocol import Backend, Described
    from verdiff.runtime.clock import Clock
    from verdiff.runtime.device.session import DeviceSession
    from verdiff.runtime.frontier import Pace
    from verdiff.runtime.lanes import Lanes
    from verdiff.runtime.runner import Runner
    from verdiff.runtime.sampling import Sampling


class Executor(Protocol):
    """What computes a loaded model, on the host's processors or on a device.

    Attributes:
        windows: Whether it computes in a window of any size, and so can follow the policy ``locate``.
    """

    windows: ClassVar[bool]

    @property
    def backend(self) -> Described:
        """What runs the networks."""
        ...

    @property
    def networks(self) -> Backend:
        """The networks for calls one by one from the host.

        Raises:
            BackendError: They run as part of a device's own loop.
        """
        ...

    def call(
        self, manifest: Manifest, clock: Clock, memory_mb: int | None
    ) -> AbstractContextManager[tuple[Lanes, Runner]]:
        """Hold what computes for the length of one call: workers of the host, and the networks with their loop.

        Raises:
            BackendError: The device was lost, what computes was closed, or this thread is in a call of it already.
        """
        ...

    def golden_outputs(
        self, golden: Mapping[str, NDArray[Any]], table: SamplerTable | None
    ) -> dict[str, NDArray[np.float32]]:
        """The bundle's golden image: ``prior``, and with a table ``denoiser`` and ``probabilities``."""
        ...

    def pace(self, bundle: Bundle) -> Pace | None:
        """What the networks need here, timed now; None where a deadline is not judged by it."""
        ...

    def session(
        self,
        manifest: Manifest,
        sampling: Sampling,
        shape: tuple[int, int, int],
        spacing_mm: tuple[float, float],
        stream: Any,
    ) -> DeviceSession:
        """A session for slices that are on the device; see :meth:`verdiff.runtime.Segmenter.on_device`.

        Raises:
            BackendError: There is no device, or it refuses.
        """
        ...

    def close(self) -> None:
        """Give back what is held on a device; twice does no harm."""
        ...


@dataclass(frozen=True)
class LoadedModel:
    """What a call needs of a loaded model.

    Attributes:
        manifest: What the bundle says about its model.
        executor: What computes it.
        diffusion: Whether the model has a denoiser; without one the prior's answer is the result.
        identity: Identity of the model, for the provenance.
        memory_mb: The most a call may take in MiB, or None for what the machine has free.
        chunk: Slices worked on at once, or None for the backend's batch. It never changes the mask.
        differences: Mean difference from the bundle's golden outputs of each stage; empty without self-test.
        pace: What the networks were seen to need at load; None on a device and without self-test.
        chosen: What ``precision="auto"`` chose from, and why; empty with another precision.
    """

    manifest: Manifest
    executor: Executor
    diffusion: bool
    identity: dict[str, Any]
    memory_mb: int | None = None
    chunk: int | None = None
    differences: dict[str, float] = field(default_factory=dict)
    pace: Pace | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
