"""TensorRT's Python module as far as the runtime uses it, on the null device: plans are names, engines the tiny model.

As strict as the library: shapes within the profile and all of them set, addresses aligned, memory given and large
enough, no run of a context that lacks any of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.runtime.device.null_driver import NullDriver
from tests.runtime.device.tiny_networks import CLASSES, TinyNetworks
from verdiff.engines import EngineKey, ProfileShape, Sidecar, TensorInfo, TensorRange, write_engine
from verdiff.engines.sidecar import RECIPE
from verdiff.runtime.device.network import CallShape

MAPS = (-1, CLASSES, -1, -1)
TENSORS = {
    "prior": {"image": (-1, 1, -1, -1), "prior": MAPS, "feature_0": (-1, 1, -1, -1)},
    "step": {
        **{"x": MAPS, "timestep": (-1,), "prior": MAPS, "feature_0": (-1, 1, -1, -1), "row": (5,), "noise": MAPS},
        **{"previous": MAPS, "x_next": MAPS, "x0hat": MAPS},
    },
}
INPUTS = {"prior": ["image"], "step": ["x", "timestep", "prior", "feature_0", "row", "noise", "previous"]}
MEMORY_A_PIXEL = 3
# Of TensorRT's severities.
ERROR = 1


@dataclass
class NullContext:
    """An execution context."""

    engine: NullEngine
    profile: int | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    memory: tuple[int, int] | None = None
    laid_out_for: dict[str, tuple[int, ...]] | None = None

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile, self.shapes = index, {}
        return index < len(self.engine.profiles)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None
        allowed = {each.name: each for each in self.engine.profiles[self.profile].ranges}
        self.shapes[name] = tuple(shape)
        return allowed[name].holds(tuple(shape))

    def infer_shapes(self) -> list[str]:
        assert self.profile is not None
        return [each.name for each in self.engine.profiles[self.profile].ranges if each.name not in self.shapes]

    def update_device_memory_size_for_shapes(self) -> int:
        assert not self.infer_shapes()
        if not self.engine.lays_out:
            self.engine.logger.log(ERROR, "Error Code 7: shape mismatch ")
            return 0
        self.laid_out_for = dict(self.shapes)
        return self._bytes()

    def _bytes(self) -> int:
        batch, _, rows, cols = self.shapes["image" if self.engine.role == "prior" else "x"]
        grown = 2 if self.engine.grows and self.engine.contexts_made > 1 else 1
        return grown * MEMORY_A_PIXEL * batch * rows * cols

    def set_device_memory(self, memory: int, size: int) -> None:
        # Laid out for the largest shapes until it is told to do so for these.
        assert self.laid_out_for == self.shapes, "memory for other shapes than the tensors are laid out for"
        assert memory % 256 == 0 and size >= self._bytes()
        self.memory = memory, size

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return name in TENSORS[self.engine.role]

    def execute_async_v3(self, stream: int) -> bool:
        if self.engine.refuses:
            self.engine.logger.log(ERROR, "Cask convolution execution failed ")
            return False
        assert self.memory is not None and self.laid_out_for == self.shapes
        self.engine.driver.view(self.memory[0], np.uint8, (self.memory[1],))
        batch, _, rows, cols = self.shapes["image" if self.engine.role == "prior" else "x"]
        roles = ("prior", "step") if self.engine.diffusion else ("prior",)
        networks = TinyNetworks(self.engine.driver, batch=batch, half=self.engine.half, roles=roles)
        network = networks.open(self.engine.role, CallShape(batch, rows, cols), (0, 1024 * batch), stream)
        network.enqueue(self.addresses, stream)
        return True


class NullKernels:
    """TensorRT-RTX's runtime cache: a context compiles a kernel, unless it is here."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.known = b""

    def deserialize(self, blob: bytes) -> bool:
        self.known = blob if blob.startswith(b"kernels of ") else b""
        return bool(self.known)

    def serialize(self) -> bytes:
        return b"kernels of " + ",".join(sorted(set(self.made))).encode()


class RtxContext(NullContext):
    """TensorRT-RTX's, which says whether it can be captured."""

    def is_stream_capturable(self, stream: int) -> bool:
        return self.engine.capturable


@dataclass
class NullEngine:
    """A deserialised engine."""

    driver: NullDriver
    logger: Any
    role: str
    profiles: tuple[ProfileShape, ...]
    rtx: bool
    half: Any = np.float32
    types: dict[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    refuses: bool = False
    capturable: bool = True
    contexts: bool = True
    lays_out: bool = True
    grows: bool = False
    contexts_made: int = 0
    diffusion: bool = True

    @property
    def num_io_tensors(self) -> int:
        return len(self._names())

    def get_tensor_name(self, index: int) -> str:
        return self._names()[index]

    def _names(self) -> list[str]:
        return [*(name for name in TENSORS[self.role] if self.diffusion or name != "feature_0"), *self.extra]

    def get_tensor_dtype(self, name: str) -> Any:
        usual = "HALF" if name == "feature_0" and self.half is np.float16 else "FLOAT"
        return SimpleNamespace(name=self.types.get(name, usual))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return TENSORS[self.role][name]

    def get_device_memory_size_for_profile_v2(self, index: int) -> int:
        inputs = {each.name: each.maximum for each in self.profiles[index].ranges}
        batch, _, rows, cols = inputs["image" if self.role == "prior" else "x"]
        return MEMORY_A_PIXEL * batch * rows * cols

    def create_runtime_config(self) -> Any:
        config = SimpleNamespace(strategy=None, kernels=None)
        config.create_runtime_cache = NullKernels
        config.set_runtime_cache = lambda kernels: setattr(config, "kernels", kernels)
        config.set_execution_context_allocation_strategy = lambda strategy: setattr(config, "strategy", strategy)
        return config

    def create_execution_context(self, given: Any) -> NullContext | None:
        self.contexts_made += 1
        if self.rtx:
            given.kernels.made.append(self.role)
            asked = given.strategy, given.cuda_graph_strategy, given.dynamic_shapes_kernel_specialization_strategy
            assert asked == ("USER_MANAGED", "DISABLED", "EAGER")
            return RtxContext(self)
        assert given == "USER_MANAGED"
        return NullContext(self) if self.contexts else None


def null_tensorrt(driver: NullDriver, *, rtx: bool = False, **engine: Any) -> ModuleType:
    """The module; ``engine`` changes the engines it deserialises."""
    profiles = profile_shapes()

    class ILogger:
        pass

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> NullEngine | None:
            role = plan.decode().split(" ")[1]
            if engine.get("broken") == role:
                self.logger.log(ERROR, "Magic tag does not match")
                return None
            given = {key: value for key, value in engine.items() if key != "broken"}
            return NullEngine(driver, self.logger, role, profiles[role], rtx, **given)

    api = ModuleType("null_tensorrt")
    api.__dict__.update(
        ILogger=ILogger,
        Runtime=Runtime,
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="USER_MANAGED"),
    )
    if rtx:
        api.__dict__.update(
            CudaGraphStrategy=SimpleNamespace(DISABLED="DISABLED"),
            DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER="EAGER"),
        )
    return api


def profile_shapes(sizes: tuple[tuple[int, int], ...] = ((32, 32), (64, 64)), batch: int = 4) -> dict[str, Any]:
    """By role: one profile a size, from 4 x 4 pixels and a batch of 1 up."""

    def span(name: str, shape: tuple[int, ...], rows: int, cols: int) -> TensorRange:
        if len(shape) == 1:
            return TensorRange(name, (1,), (batch,), (batch,))
        most = (batch, shape[1], rows, cols)
        return TensorRange(name, (1, shape[1], 4, 4), most, most)

    dynamic = {role: [name for name in INPUTS[role] if -1 in TENSORS[role][name]] for role in INPUTS}
    return {
        role: tuple(ProfileShape(tuple(span(name, TENSORS[role][name], *size) for name in names)) for size in sizes)
        for role, names in dynamic.items()
    }


def write_plan(role: str, graph_sha256: str, *, rtx: bool = False, **changes: Any) -> EngineKey:
    """An engine of the tiny model in the cache, built for the null GPU."""
    plan = f"plan {role}".encode()
    values: dict[str, Any] = {
        **{"model_id": "tiny-mr", "role": role, "precision": "fp32", "graph_sha256": graph_sha256},
        **{
            "flavour": "tensorrt_rtx" if rtx else "tensorrt",
            "trt_version": "10.13.0.35",
            "cuda_version": "13",
            "flags": (),
            "sm": "90",
        },
        **{"profiles": profile_shapes()[role], "gpu_name": "", "recipe": RECIPE},
    }
    key = EngineKey(**{**values, **changes})
    io = tuple(TensorInfo(name, "float32", "input", shape) for name, shape in TENSORS[role].items())
    sidecar = Sidecar(
        key=key,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        io=io,
        weight_bytes=None,
        device_memory_bytes=None,
        proof=(),
        driver_version="580.65",
        gpu_name="Null GPU",
        built_at="2026-11-21T08:00:00+00:00",
        build_seconds=0.1,
        verdiff="0.0",
        arguments=("tiny-mr", "--precision", "fp32", "--role", role),
    )
    write_engine(key, plan, sidecar)
    return key
