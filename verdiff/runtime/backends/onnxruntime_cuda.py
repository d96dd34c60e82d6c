"""ONNX Runtime's GPU providers as the networks of the device path: the graphs of a bundle, with nothing to build.

Inputs and outputs are bound to the addresses of the device's one block, so nothing passes through the host between the
prior and the last step. A session works on a stream of its own, which waits for the caller's and is waited for. Where
the provider can, each binding is replayed as a CUDA graph of ONNX Runtime's own: one a step, since each step has its
own addresses. A capture around a session is not allowed: ONNX Runtime up to 1.31 ends the process then
(github.com/microsoft/onnxruntime/pull/32081).

Its captures forbid every other thread to take memory (:mod:`~verdiff.runtime.backends.capturing`), and with graphs on
it keeps library handles and graphs for every thread that ever ran a session, until the session is closed. So the first
runs of a binding hold the process's lock, and with graphs all runs are one thread's.

Not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from verdiff.diffusion.step_graph import COEFFICIENTS, step_graph
from verdiff.engines.shapes import MAX_BATCH, PIXELS_A_CALL, buckets
from verdiff.errors import BackendError
from verdiff.nvidia import device_index
from verdiff.runtime import silent
from verdiff.runtime.backends.capturing import capture_lock
from verdiff.runtime.backends.onnxruntime import first_line, open_session, tensor_types
from verdiff.runtime.backends.protocol import graph_bytes
from verdiff.runtime.backends.providers import (
    GPU_PROVIDERS,
    provider_options,
    require_fp32,
    require_placement,
    require_provider,
)
from verdiff.runtime.backends.refusals import (
    capture_failed,
    of_a_capture,
    replays,
    require_precision,
    require_primary,
    run_failed,
)
from verdiff.runtime.backends.run_thread import RunThread
from verdiff.runtime.device.block import quietly
from verdiff.runtime.device.layout import DeviceFeature

if TYPE_CHECKING:
    from verdiff.bundle import Bundle
    from verdiff.runtime.device.driver import Driver, Event, Pointer, Stream
    from verdiff.runtime.device.network import CallShape

# What ONNX Runtime says when a graph's nodes or its control flow forbid a capture; anything else is no such refusal.
CAPTURE_REFUSED = ("graph capture feature", "CUDA Graph feature")
# A captured graph keeps its nodes on the device for as long as its session lives.
MOST_GRAPHS = 512
NO_GRAPH = -1
Shapes = Mapping[str, tuple[int, ...]]
Result = TypeVar("Result")


@dataclass
class Binding:
    """A session's inputs and outputs at their addresses.

    Attributes:
        binding: ONNX Runtime's.
        options: Options of its runs.
        graph: Whether they become a CUDA graph.
        runs: How many there were.
    """

    binding: Any
    options: Any
    graph: bool
    runs: int = 0


class OnnxNetworks:
    """The prior and the step of one bundle on one GPU provider.

    Args:
        bundle: Whose graphs run.
        driver: The device.
        backend: A key of :data:`~verdiff.runtime.backends.providers.GPU_PROVIDERS`.
        precision: ``"fp32"`` or ``"fp16"``.
        threads: Threads of the processor, for what a session does there: working out shapes.
        graphs: Replay steps as CUDA graphs; None is where the provider can.
        folder: Where TensorRT's providers keep what they build; None keeps nothing.
        priority: Priority of the stream that the sessions work on: lower numbers go first; None is the default.

    Raises:
        BackendError: The provider, a library, the driver or the precision is not there, the context is not the
            device's primary one, or a graph cannot be loaded.
    """

    capturable = False

    def __init__(
        self,
        bundle: Bundle,
        driver: Driver,
        *,
        backend: str,
        precision: str,
        threads: int,
        graphs: bool | None = None,
        folder: Path | None = None,
        priority: int | None = None,
    ) -> None:
        onnxruntime: Any = silent.onnxruntime()
        self.name, self.version, self.precision = backend, str(onnxruntime.__version__), precision
        self._provider, self._device = GPU_PROVIDERS[backend], f"cuda:{driver.gpu.index}"
        require_precision(self._provider, precision)
        require_primary(driver, self._device)
        require_provider(onnxruntime, self._provider, self._device)
        require_fp32(self._provider, driver.gpu, self.version)
        self._onnxruntime, self._driver, self._manifest = onnxruntime, driver, bundle.manifest
        self._threads, self._folder = threads, folder
        self.graphs, self._may_do_without = replays(self._provider, graphs), graphs is None
        self._ids, self._spoilt = count(1), ""
        self._thread = RunThread("verdiff-onnxruntime") if self.graphs else None
        with driver.active(), ExitStack() as undo:
            undo.callback(self._end_thread)
            self._stream = driver.open_stream(priority)
            undo.callback(quietly, driver.close_stream, self._stream)
            self._events: list[Event] = []
            for _ in range(2):
                self._events.append(driver.open_event())
                undo.callback(quietly, driver.close_event, self._events[-1])
            networks = {"prior": graph_bytes(bundle, "prior", precision)}
            if bundle.has("denoiser"):
                networks["step"] = step_graph(graph_bytes(bundle, "denoiser", precision))
            self._sessions = self._open(networks)
            undo.pop_all()
        self.roles = tuple(self._sessions)
        self.sizes = tuple((bucket.rows, bucket.cols) for bucket in buckets(bundle.manifest))
        types = tensor_types(self._sessions["prior"].get_outputs())
        self.features = tuple(
            DeviceFeature(each.name, each.channels, each.stride, np.dtype(types[each.name]))
            for each in bundle.manifest.features
        )

    def batches(self, rows: int, cols: int) -> tuple[int, int]:
        """The batch to begin with and the largest; sessions take any, so both are what fills a call's pixels."""
        batch = min(MAX_BATCH, max(1, PIXELS_A_CALL // (rows * cols)))
        return batch, batch

    def activations(self, shape: CallShape) -> int:
        """0: sessions take what they work in from an arena of their own, which a cap on the block does not cover."""
        return 0

    def open(self, role: str, shape: CallShape, memory: tuple[Pointer, int], stream: Stream) -> BoundNetwork:
        """The network of ``role`` for one shape."""
        return BoundNetwork(self, role, self.shapes(role, shape))

    def close(self) -> None:
        """Give back sessions, stream and events."""
        with suppress(BackendError):
            # A session is closed in the thread that kept handles for it; giving back memory spoils captures as well.
            self._in_thread(self._sessions.clear, alone=True)
        self._end_thread()
        for event in self._events:
            quietly(self._driver.close_event, event)
        quietly(self._driver.close_stream, self._stream)

    def shapes(self, role: str, shape: CallShape) -> Shapes:
        """The shape of every input and output of a network at ``shape``."""
        batch, rows, cols = shape.batch, shape.rows, shape.cols
        maps = (batch, len(self._manifest.labels), rows, cols)
        found: dict[str, tuple[int, ...]] = {
            each.name: (batch, each.channels, rows // each.stride, cols // each.stride) for each in self.features
        }
        if role == "prior":
            return {**found, "image": (batch, 1, rows, cols), "prior": maps}
        full = dict.fromkeys(("x", "prior", "noise", "previous", "x_next", "x0hat"), maps)
        return {**found, **full, "timestep": (batch,), "row": (COEFFICIENTS,)}

    def bind(self, role: str, shapes: Shapes, addresses: Mapping[str, Pointer]) -> Binding:
        """The session of ``role`` bound to ``addresses``, with the options of its runs."""
        session = self._sessions[role]
        binding, device = session.io_binding(), device_index(self._device)
        for tensors, bind in (
            (session.get_inputs(), binding.bind_input),
            (session.get_outputs(), binding.bind_output),
        ):
            for name, kind in tensor_types(tensors).items():
                bind(name, "cuda", device, kind, shapes[name], addresses[name])
        options = self._onnxruntime.RunOptions()
        # The stream keeps the order; the host waits once, for the answer.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        number = NO_GRAPH
        if self.graphs:
            number = next(self._ids)
            number = number if number <= MOST_GRAPHS else NO_GRAPH
            options.add_run_config_entry("gpu_graph_id", str(number))
        return Binding(binding, options, number != NO_GRAPH)

    def run(self, role: str, bound: Binding, stream: Stream) -> None:
        """One run in the order of ``stream``.

        Raises:
            BackendError: ONNX Runtime or the device refused, or a capture failed, now or before.
        """
        if self._spoilt:
            raise capture_failed(self.version, self._device, self._spoilt)
        begun, done = self._events
        self._driver.record(begun, stream)
        self._driver.wait(self._stream, begun)
        # The first run takes memory in any case, which another session's capture would forbid.
        first = bound.runs < max(1, self._provider.captured_within if bound.graph else 1)
        try:
            # The session is looked up inside, and an error lets go of its binding: whoever holds the error holds this
            # frame, and must keep no session by it.
            self._in_thread(lambda: self._sessions[role].run_with_iobinding(bound.binding, bound.options), alone=first)
        except Exception as error:
            said = first_line(error)
            bound.binding = None
            if first and bound.graph and of_a_capture(said):
                # The stream may still be capturing, and nothing tells: what is put on it now might never run.
                self._spoilt = said
                raise capture_failed(self.version, self._device, said) from error
            raise run_failed(self.version, self._device, said) from error
        bound.runs += 1
        self._driver.record(done, self._stream)
        self._driver.wait(stream, done)

    def _in_thread(self, call: Callable[[], Result], *, alone: bool) -> Result:
        """``call`` in the thread of the runs where there is one; ``alone``: while no other thread captures."""
        if self._thread is None:
            with capture_lock() if alone else nullcontext():
                return call()

        def work() -> Result:
            # A replay does not make a context current itself.
            with self._driver.active(), capture_lock() if alone else nullcontext():
                return call()

        return self._thread.run(work)

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    def _open(self, graphs: Mapping[str, bytes]) -> dict[str, Any]:
        """Sessions by role; all of them replay CUDA graphs, or none does."""
        try:
            return self._in_thread(partial(self._opened, graphs), alone=True)
        except BackendError as error:
            refused = any(words in error.found for words in CAPTURE_REFUSED)
            if not (self.graphs and self._may_do_without and refused):
                raise
        self.graphs = False
        self._end_thread()
        return self._in_thread(partial(self._opened, graphs), alone=True)

    def _opened(self, graphs: Mapping[str, bytes]) -> dict[str, Any]:
        listed = provider_options(
            self._provider, self._device, graphs=self.graphs, stream=self._stream, folder=self._folder
        )
        sessions: dict[str, Any] = {}
        try:
            for role, graph in graphs.items():
                sessions[role] = open_session(
                    self._onnxruntime, graph, role, self._device, listed, threads=self._threads
                )
                require_placement(sessions[role], self._provider, role, self._device, self.version)
        except BaseException:
            # The error keeps this frame, and with it what was opened before: here it is given back under the lock.
            sessions.clear()
            raise
        return sessions


class BoundNetwork:
    """One network at one shape; each set of addresses is bound once and replayed after."""

    def __init__(self, networks: OnnxNetworks, role: str, shapes: Shapes) -> None:
        self._networks, self._role, self._shapes = networks, role, shapes
        self._bound: dict[tuple[Pointer, ...], Binding] = {}

    def enqueue(self, addresses: Mapping[str, Pointer], stream: Stream) -> None:
        """One run in the order of ``stream``, which must not be capturing.

        Raises:
            BackendError: ONNX Runtime or the device refused.
        """
        key = tuple(addresses[name] for name in sorted(addresses))
        if key not in self._bound:
            self._bound[key] = self._networks.bind(self._role, self._shapes, addresses)
        try:
            self._networks.run(self._role, self._bound[key], stream)
        except BackendError:
            # ONNX Runtime ends a capture also after an error: under this number half a graph may be kept.
            del self._bound[key]
            raise

    def close(self) -> None:
        """Forget the bindings."""
        self._bound.clear()
