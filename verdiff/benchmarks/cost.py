"""What a run asked of the networks: how many images, of how many pixels, for how long, at how many GFLOP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from verdiff.benchmarks.flops import graph_gflop
from verdiff.errors import BackendError
from verdiff.runtime.host_executor import HostExecutor

if TYPE_CHECKING:
    from verdiff.bundle import Bundle
    from verdiff.runtime import Segmenter
    from verdiff.runtime.backends import Backend, Maps

NETWORKS = ("prior", "denoiser")


@dataclass(frozen=True)
class NetworkCall:
    """One call of a network.

    Attributes:
        network: ``"prior"`` or ``"denoiser"``.
        images: How many it was given.
        rows: Rows of each image.
        cols: Columns of each image.
        begun: Seconds of the clock when it began.
        ended: Seconds of the clock when it ended.
    """

    network: str
    images: int
    rows: int
    cols: int
    begun: float
    ended: float


class Meter:
    """A backend that keeps a record of its calls, whatever threads they come from; all else is the backend's own.

    Args:
        backend: The networks.
        calls: Where the record is kept; by default a new list.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, backend: Any, calls: list[NetworkCall] | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._backend, self._clock = backend, clock
        self.calls: list[NetworkCall] = [] if calls is None else calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    @property
    def lane(self) -> Meter:
        """The backend's form for several calls at once, with the same record."""
        return Meter(self._backend.lane, self.calls, self._clock)

    def prior(self, image: Maps) -> tuple[Maps, tuple[Maps, ...]]:
        """See :meth:`verdiff.runtime.backends.Backend.prior`."""
        begun = self._clock()
        answer: tuple[Maps, tuple[Maps, ...]] = self._backend.prior(image)
        self._keep("prior", image, begun)
        return answer

    def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[Maps, ...]) -> Maps:
        """See :meth:`verdiff.runtime.backends.Backend.denoise`."""
        begun = self._clock()
        x0hat: Maps = self._backend.denoise(x, timestep, prior, features)
        self._keep("denoiser", x, begun)
        return x0hat

    def take(self) -> list[NetworkCall]:
        """The calls since this was asked last."""
        taken, self.calls[:] = list(self.calls), []
        return taken

    def _keep(self, network: str, maps: Maps, begun: float) -> None:
        images, _, rows, cols = maps.shape
        self.calls.append(NetworkCall(network, images, rows, cols, begun, self._clock()))


def metered(segmenter: Segmenter) -> tuple[Segmenter, Meter]:
    """The same Segmenter with a meter on its networks; on the CPU alone."""
    meter = Meter(segmenter.loaded.executor.networks)
    executor = HostExecutor(cast("Backend", meter))
    return replace(segmenter, loaded=replace(segmenter.loaded, executor=executor)), meter


def busy_seconds(calls: Iterable[NetworkCall]) -> float:
    """Seconds during which at least one of the calls was under way."""
    total, until = 0.0, -float("inf")
    for call in sorted(calls, key=lambda call: call.begun):
        total += max(0.0, call.ended - max(call.begun, until))
        until = max(until, call.ended)
    return total


@dataclass(frozen=True)
class RunCost:
    """What one run of a rival asked for; the same in every repeat.

    Attributes:
        slices: Slices of the scan.
        images: Network -> images it was given.
        gflop: Network -> GFLOP of them all; empty where the onnx package is missing.
    """

    slices: int
    images: dict[str, int]
    gflop: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"slices": self.slices, "images": dict(self.images), "gflop": dict(self.gflop)}


class CostCounter:
    """Adds up the work behind the calls of one bundle's networks; a size is looked up in the graph once."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._known: dict[tuple[str, int, int], float] = {}

    def count(self, calls: Sequence[NetworkCall], slices: int) -> RunCost:
        """The work of one run over a scan of so many slices."""
        images = {network: sum(call.images for call in calls if call.network == network) for network in NETWORKS}
        gflop = dict.fromkeys(NETWORKS, 0.0)
        try:
            for call in calls:
                gflop[call.network] += call.images * self._gflop(call.network, call.rows, call.cols)
        except BackendError:
            # Without onnx nothing can be counted; times and images stand for themselves.
            gflop = {}
        return RunCost(slices, images, gflop)

    def _gflop(self, network: str, rows: int, cols: int) -> float:
        key = network, rows, cols
        if key not in self._known:
            self._known[key] = graph_gflop(self._bundle.graph(network, "fp32"), rows, cols)
        return self._known[key]
