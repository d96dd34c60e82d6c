"""OpenVINO on the CPU: fp32 and fp16 graphs, and bf16 where the processor computes in it."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BackendError
from verdiff.runtime import silent
from verdiff.runtime.backends.openvino_graphs import SizedNetwork, computes_bf16
from verdiff.runtime.backends.protocol import Maps, graph_bytes
from verdiff.runtime.processes import never_freed_in_a_fork

if TYPE_CHECKING:
    from verdiff.bundle import Bundle


class OpenVinoBackend:
    """The prior and the denoiser, compiled from the bundle's ONNX graphs as they are.

    Args:
        bundle: The model.
        lanes: Calls that may run at once.
        precision: ``"fp32"``, ``"bf16"``, or another that the bundle carries.
        threads: Threads of all lanes together.
    """

    name = "openvino"
    device = "cpu"
    batch = 1

    def __init__(self, bundle: Bundle, lanes: int = 1, *, precision: str, threads: int) -> None:
        openvino: Any = silent.openvino()
        self.version: str = openvino.__version__
        self.precision, self.threads, self.lanes = precision, threads, lanes
        never_freed_in_a_fork(self)
        if precision == "bf16" and not computes_bf16():
            raise BackendError(
                "precision bf16 on a processor without bf16 instructions",
                "a processor with avx512_bf16 or amx_bf16",
                "use --precision fp32, which is the faster one here",
            )
        # Without a hint the CPU plugin takes bf16 on its own where the processor has it: masks would differ by machine.
        self._settings = {
            "NUM_STREAMS": lanes,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        self._feature_names = tuple(feature.name for feature in bundle.manifest.features)
        self._prior = self._network(graph_bytes(bundle, "prior", precision), "prior")
        self._denoiser = None
        if bundle.has("denoiser"):
            self._denoiser = self._network(graph_bytes(bundle, "denoiser", precision), "denoiser")

    @property
    def lane(self) -> OpenVinoBackend:
        """This backend, which takes calls from :attr:`lanes` threads at once."""
        return self

    def waits_s(self, rows: int, cols: int, *, denoiser: bool) -> float:
        """Seconds of compiling before the prior, or with ``denoiser`` both networks, can take slices of a size."""
        waits = self._prior.sized.waits_s(rows, cols)
        return waits + (self._denoiser.sized.waits_s(rows, cols) if denoiser and self._denoiser is not None else 0.0)

    def _network(self, graph: bytes, role: str) -> _LaneRequests:
        return _LaneRequests(SizedNetwork(graph, role, self._settings), self.lanes)

    def prior(self, image: Maps) -> tuple[Maps, tuple[NDArray[Any], ...]]:
        """``image`` [N, 1, H, W] -> prior [N, K, H, W] in [-1, 1] and the features, in the type the graph has them."""
        prior, *features = self._prior.run({"image": image}, ("prior", *self._feature_names))
        return prior.astype(np.float32, copy=False), tuple(features)

    def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[NDArray[Any], ...]) -> Maps:
        """``x`` [N, K, H, W] at ``timestep`` -> x0hat [N, K, H, W]."""
        if self._denoiser is None:
            raise BackendError("a model without a denoiser", "a diffusion model", "use the prior's answer alone")
        feed = {"x": x, "timestep": np.full(len(x), timestep, np.float32), "prior": prior}
        feed.update(zip(self._feature_names, features, strict=True))
        return self._denoiser.run(feed, ("x0hat",))[0].astype(np.float32, copy=False)


class _LaneRequests:
    """One network with a request a lane, given arrays in whatever type its inputs have.

    A request serves one input shape, because its input tensors cannot grow later.
    """

    def __init__(self, sized: SizedNetwork, lanes: int) -> None:
        self.sized = sized
        self._free: SimpleQueue[tuple[Any, tuple[int, ...]]] = SimpleQueue()
        for _ in range(lanes):
            self._free.put((None, ()))

    def run(self, feed: dict[str, NDArray[Any]], outputs: tuple[str, ...]) -> list[NDArray[Any]]:
        shape = next(iter(feed.values())).shape
        feed = self.sized.accepted(feed)
        request, served = self._free.get()
        try:
            if request is None or shape != served:
                compiled = self.sized.compiled({name: array.shape for name, array in feed.items()})
                request, served = compiled.create_infer_request(), shape
            results = request.infer(feed, share_inputs=True)
            return [np.array(results[name]) for name in outputs]
        finally:
            self._free.put((request, served))
