"""ONNX Runtime on the CPU: the networks as sessions that take and give arrays; and how any session is opened."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BackendError
from verdiff.runtime import silent
from verdiff.runtime.backends.protocol import Maps, graph_bytes
from verdiff.runtime.processes import never_freed_in_a_fork

if TYPE_CHECKING:
    from verdiff.bundle import Bundle

CPU = "CPUExecutionProvider"
# Its warnings are about speed: a constant not folded, a node on another provider. They would litter a host's terminal.
ERRORS_ONLY = 3
TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


class OnnxRuntimeBackend:
    """The prior and the denoiser as sessions on the CPU; one image a call.

    A batch would buy no speed there (the convolutions already fill the cores) and cost memory.

    Args:
        bundle: The model.
        lanes: Calls that may run at once.
        precision: ``"fp32"``, or another that the bundle carries.
        threads: Threads of all lanes together.
    """

    name = "onnxruntime"
    device = "cpu"
    batch = 1

    def __init__(self, bundle: Bundle, lanes: int = 1, *, precision: str, threads: int) -> None:
        onnxruntime: Any = silent.onnxruntime()
        self.version: str = onnxruntime.__version__
        self.precision, self.threads, self.lanes = precision, threads, lanes
        never_freed_in_a_fork(self)
        self._feature_names = tuple(feature.name for feature in bundle.manifest.features)
        self._prior = self._network(onnxruntime, graph_bytes(bundle, "prior", precision), "prior")
        self._denoiser = None
        if bundle.has("denoiser"):
            self._denoiser = self._network(onnxruntime, graph_bytes(bundle, "denoiser", precision), "denoiser")

    @property
    def lane(self) -> OnnxRuntimeBackend:
        """This backend, which takes calls from :attr:`lanes` threads at once."""
        return self

    def _network(self, onnxruntime: Any, graph: bytes, role: str) -> LaneSessions:
        share = max(1, self.threads // self.lanes)

        def session() -> Any:
            return open_session(onnxruntime, graph, role, self.device, [CPU], threads=share)

        # A session without threads of its own runs on its callers'; else they would share its few.
        return LaneSessions([session()] * self.lanes if share == 1 else [session() for _ in range(self.lanes)])

    def prior(self, image: Maps) -> tuple[Maps, tuple[NDArray[Any], ...]]:
        """``image`` [N, 1, H, W] -> prior [N, K, H, W] in [-1, 1] and the features, in the type the graph has them."""
        prior, *features = self._prior.run({"image": image}, ["prior", *self._feature_names])
        return prior.astype(np.float32, copy=False), tuple(features)

    def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[NDArray[Any], ...]) -> Maps:
        """``x`` [N, K, H, W] at ``timestep`` -> x0hat [N, K, H, W]."""
        if self._denoiser is None:
            raise BackendError("a model without a denoiser", "a diffusion model", "use the prior's answer alone")
        feed = {"x": x, "timestep": np.full(len(x), timestep, np.float32), "prior": prior}
        feed.update(zip(self._feature_names, features, strict=True))
        x0hat = self._denoiser.run(feed, ["x0hat"])[0]
        return x0hat.astype(np.float32, copy=False)


class LaneSessions:
    """Sessions of one network, one a lane, given arrays in whatever type its inputs have."""

    def __init__(self, sessions: list[Any]) -> None:
        self._free: SimpleQueue[Any] = SimpleQueue()
        for session in sessions:
            self._free.put(session)
        self._types = tensor_types(sessions[0].get_inputs())

    def run(self, feed: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        given = {name: array.astype(self._types[name], copy=False) for name, array in feed.items()}
        session = self._free.get()
        try:
            results: list[NDArray[Any]] = session.run(outputs, given)
        finally:
            self._free.put(session)
        return results


def open_session(
    onnxruntime: Any,
    graph: bytes,
    role: str,
    device: str,
    providers: list[Any],
    *,
    threads: int,
) -> Any:
    """A session on ``providers`` and no other.

    Raises:
        BackendError: The graph cannot be loaded, or the first provider is not the one that was asked for.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Between calls the host works with its own threads (BLAS); spinning workers would take their cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Where each node was put, which is asked after loading on a GPU.
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.log_severity_level = ERRORS_ONLY
    try:
        # By default a provider that fails is replaced by the CPU's, with no more than a print.
        session = onnxruntime.InferenceSession(graph, options, providers=providers, enable_fallback=0)
    except Exception as error:
        raise BackendError(
            f"onnxruntime {onnxruntime.__version__} cannot load the {role} graph on {device}: {first_line(error)}",
            "a graph and a device this version can run",
            "run 'verdiff doctor', or update onnxruntime",
        ) from error
    first = providers[0] if isinstance(providers[0], str) else providers[0][0]
    granted = session.get_providers()[0]
    if granted != first:
        raise BackendError(
            f"device {device} was asked for and onnxruntime {onnxruntime.__version__} gave {granted} for the {role} "
            "graph",
            f"{first} on {device}",
            "run 'verdiff doctor', or pass --device cpu",
        )
    return session


def tensor_types(tensors: Any) -> dict[str, type[np.generic]]:
    """The numpy type of each of a session's inputs or outputs, by name.

    Raises:
        BackendError: numpy has no such type.
    """
    types = {}
    for tensor in tensors:
        if tensor.type not in TYPES:
            raise BackendError(
                f"{tensor.name} is a {tensor.type}",
                f"one of {', '.join(TYPES)} between the networks",
                "choose another precision, or --backend tensorrt",
            )
        types[tensor.name] = TYPES[tensor.type]
    return types


def first_line(error: Exception) -> str:
    """What went wrong, in a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
