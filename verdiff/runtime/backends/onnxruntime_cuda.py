"""ONNX Runtime's GPU providers as the networks of the device path: the graphs of a bundle, with nothing to build.

Inputs and outputs are bound to the addresses of the device's one block, so nothing passes through the host between the
prior and the last step. A session works on a stream of its own, which waits for the caller's and is waited for. Where
the provider can, each binding is replayed as a CUDA graph of ONNX Runtime's own: one a step, since each step has its
own addresses. A capture around a session is not allowed: ONNX Runtime up to 1.31 ends the process then
(github.com/microsoft/onnxruntime/pull/32081).

Not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from verdiff.bundle.engines.shapes import MAX_BATCH, PIXELS_A_CALL, buckets
from verdiff.errors import BackendError
from verdiff.runtime.backends import graph_bytes
from verdiff.runtime.backends.onnxruntime import first_line, open_session, tensor_types
from verdiff.runtime.backends.providers import (
    GPU_PROVIDERS,
    TENSORRT,
    provider_options,
    require_placement,
    require_provider,
)
from verdiff.runtime.backends.step_graph import COEFFICIENTS, step_graph
from verdiff.runtime.device.block import quietly
from verdiff.runtime.device.layout import Feature
from verdiff.runtime.nvidia import device_index

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


class OnnxNetworks:
    """The prior and the step of one bundle on one GPU provider.

    Args:
        bundle: Whose graphs run.
        driver: The device.
        backend: A key of :data:`~verdiff.runtime.backends.providers.GPU_PROVIDERS`.
        precision: ``"fp32"`` or ``"fp16"``.
        threads: Of the processor, for what a session does there: working out shapes.
        graphs: Replay steps as CUDA graphs; None is where the provider can.
        folder: Where TensorRT's providers keep what they build; None keeps nothing.

    Raises:
        BackendError: The provider, a library, the driver or the precision is not there, or a graph cannot be loaded.
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
    ) -> None:
        onnxruntime: Any = import_module("onnxruntime")
        self.name, self.version, self.precision = backend, str(onnxruntime.__version__), precision
        self._provider, self._device = GPU_PROVIDERS[backend], f"cuda:{driver.gpu.index}"
        require_precision(backend, precision)
        require_provider(onnxruntime, self._provider, self._device)
        self._onnxruntime, self._driver, self._manifest = onnxruntime, driver, bundle.manifest
        self._threads, self._folder = threads, folder
        self.graphs = True if graphs is None else graphs
        self._ids = count(1)
        with ExitStack() as undo:
            undo.enter_context(driver.active())
            self._stream = driver.open_stream(None)
            undo.callback(quietly, driver.close_stream, self._stream)
            self._events: list[Event] = []
            for _ in range(2):
                self._events.append(driver.open_event())
                undo.callback(quietly, driver.close_event, self._events[-1])
            may_do_without = graphs is None
            self._sessions = {"prior": self._session(graph_bytes(bundle, "prior", precision), "prior", may_do_without)}
            if bundle.has("denoiser"):
                step = step_graph(graph_bytes(bundle, "denoiser", precision))
                self._sessions["step"] = self._session(step, "step", may_do_without)
            undo.pop_all()
        self.roles = tuple(self._sessions)
        self.sizes = tuple((bucket.rows, bucket.cols) for bucket in buckets(bundle.manifest))
        types = tensor_types(self._sessions["prior"].get_outputs())
        self.features = tuple(
            Feature(each.name, each.channels, each.stride, np.dtype(types[each.name]))
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
        return BoundNetwork(self, self._sessions[role], self.shapes(role, shape))

    def close(self) -> None:
        """Give back sessions, stream and events."""
        self._sessions.clear()
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

    def bind(self, session: Any, shapes: Shapes, addresses: Mapping[str, Pointer]) -> tuple[Any, Any]:
        """A binding of ``session`` to ``addresses``, and the options of its runs."""
        binding = session.io_binding()
        number = device_index(self._device)
        for tensors, bind in (
            (session.get_inputs(), binding.bind_input),
            (session.get_outputs(), binding.bind_output),
        ):
            for name, kind in tensor_types(tensors).items():
                bind(name, "cuda", number, kind, shapes[name], addresses[name])
        options = self._onnxruntime.RunOptions()
        # The stream keeps the order; the host waits once, for the answer.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        if self.graphs:
            number = next(self._ids)
            options.add_run_config_entry("gpu_graph_id", str(number if number <= MOST_GRAPHS else NO_GRAPH))
        return binding, options

    def run(self, session: Any, binding: Any, options: Any, stream: Stream) -> None:
        """One run in the order of ``stream``.

        Raises:
            BackendError: ONNX Runtime or the device refused.
        """
        begun, done = self._events
        self._driver.record(begun, stream)
        self._driver.wait(self._stream, begun)
        try:
            session.run_with_iobinding(binding, options)
        except Exception as error:
            memory = "memory" in str(error).lower()
            raise BackendError(
                f"onnxruntime {self.version} failed on {self._device}: {first_line(error)}",
                "enough free device memory" if memory else "a run without errors",
                "free device memory (nvidia-smi shows who holds it), or lower the samples or the scan"
                if memory
                else "run 'verdiff doctor --device "
                f"{self._device}'; look at nvidia-smi and the system log for Xid errors, and load the Segmenter again",
            ) from error
        self._driver.record(done, self._stream)
        self._driver.wait(stream, done)

    def _session(self, graph: bytes, role: str, may_do_without: bool) -> Any:
        try:
            return self._opened(graph, role)
        except BackendError as error:
            refused = any(words in error.found for words in CAPTURE_REFUSED)
            if not (self.graphs and may_do_without and refused):
                raise
        self.graphs = False
        return self._opened(graph, role)

    def _opened(self, graph: bytes, role: str) -> Any:
        listed = provider_options(
            self._provider, self._device, graphs=self.graphs, stream=self._stream, folder=self._folder
        )
        session = open_session(self._onnxruntime, graph, role, self._device, listed, threads=self._threads)
        require_placement(session, self._provider, role, self._device, self.version)
        return session


class BoundNetwork:
    """One network at one shape; each set of addresses is bound once and replayed after."""

    def __init__(self, networks: OnnxNetworks, session: Any, shapes: Shapes) -> None:
        self._networks, self._session, self._shapes = networks, session, shapes
        self._bound: dict[tuple[Pointer, ...], tuple[Any, Any]] = {}

    def enqueue(self, addresses: Mapping[str, Pointer], stream: Stream) -> None:
        """One run in the order of ``stream``, which must not be capturing.

        Raises:
            BackendError: ONNX Runtime or the device refused.
        """
        key = tuple(addresses[name] for name in sorted(addresses))
        if key not in self._bound:
            self._bound[key] = self._networks.bind(self._session, self._shapes, addresses)
        self._networks.run(self._session, *self._bound[key], stream)

    def close(self) -> None:
        """Forget the bindings."""
        self._bound.clear()


def require_precision(backend: str, precision: str) -> None:
    """Refuse what a provider would not compute as asked.

    Raises:
        BackendError: fp16 on TensorRT's provider, which is free to compute a graph's FP32 islands in FP16 too.
    """
    if GPU_PROVIDERS[backend] is TENSORRT and precision != "fp32":
        raise BackendError(
            f"precision {precision} with ONNX Runtime's TensorRT provider",
            "a precision that is held: this provider may compute the layers that must stay fp32 in fp16",
            "use --backend tensorrt (strongly typed engines) or --backend onnxruntime",
        )
