"""ONNX Runtime: the CPU provider, and CUDA where ``onnxruntime-gpu`` and a device are there."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from verdiff.errors import BackendError
from verdiff.runtime.backends import Maps, graph_bytes

if TYPE_CHECKING:
    from verdiff.bundle import Bundle

CUDA_BATCH = 8
ERRORS_ONLY = 3


class OnnxRuntimeBackend:
    """The prior and the denoiser as two sessions; one image a call on the CPU, ``CUDA_BATCH`` on CUDA.

    On the CPU a batch buys no speed (the convolutions already fill the cores) and costs memory.
    """

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, *, device: str, precision: str, threads: int) -> None:
        onnxruntime: Any = import_module("onnxruntime")
        self.version: str = onnxruntime.__version__
        self.precision, self.threads = precision, threads
        self.device = "cuda:0" if device == "cuda" else device
        self.batch = 1 if device == "cpu" else CUDA_BATCH
        self._feature_names = tuple(feature.name for feature in bundle.manifest.features)
        self._prior = self._session(onnxruntime, graph_bytes(bundle, "prior", precision), "prior")
        self._denoiser = None
        if bundle.has("denoiser"):
            self._denoiser = self._session(onnxruntime, graph_bytes(bundle, "denoiser", precision), "denoiser")

    def _session(self, onnxruntime: Any, graph: bytes, role: str) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Between calls the host works with its own threads (BLAS); spinning workers would take their cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = ERRORS_ONLY
        providers: list[Any] = ["CPUExecutionProvider"]
        if self.device != "cpu":
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise BackendError(
                    f"device {self.device}, and onnxruntime {self.version} has no CUDA provider",
                    "onnxruntime-gpu",
                    "pip uninstall onnxruntime, then pip install 'verdiff[gpu]' (the two overwrite each other)",
                )
            providers = [("CUDAExecutionProvider", {"device_id": int(self.device.partition(":")[2])}), *providers]
        try:
            session = onnxruntime.InferenceSession(graph, options, providers=providers)
        except Exception as error:
            raise BackendError(
                f"onnxruntime {self.version} cannot load the {role} graph on {self.device}: {_first_line(error)}",
                "a graph and a device this version can run",
                "run 'verdiff doctor', or update onnxruntime",
            ) from error
        if self.device != "cpu" and session.get_providers()[0] != "CUDAExecutionProvider":
            raise BackendError(
                f"device {self.device} was asked for and onnxruntime gave {session.get_providers()[0]}",
                "an NVIDIA driver, a CUDA device of that number and the CUDA libraries onnxruntime-gpu needs",
                "run nvidia-smi and 'verdiff doctor', or pass --device cpu",
            )
        return session

    def prior(self, image: Maps) -> tuple[Maps, tuple[Maps, ...]]:
        """``image`` [N, 1, H, W] -> prior [N, K, H, W] in [-1, 1] and the features of every stride."""
        prior, *features = self._prior.run(["prior", *self._feature_names], {"image": image})
        return prior, tuple(features)

    def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[Maps, ...]) -> Maps:
        """``x`` [N, K, H, W] at ``timestep`` -> x0hat [N, K, H, W]."""
        if self._denoiser is None:
            raise BackendError("a model without a denoiser", "a diffusion model", "use the prior's answer alone")
        feed = {"x": x, "timestep": np.full(len(x), timestep, np.float32), "prior": prior}
        feed.update(zip(self._feature_names, features, strict=True))
        x0hat: Maps = self._denoiser.run(["x0hat"], feed)[0]
        return x0hat


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
