"""TensorRT and TensorRT-RTX: loaded engines as the networks of the device path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from verdiff.engines import FLAVOURS, Machine, ProfileShape, Sidecar, rebuild_command
from verdiff.errors import BackendError
from verdiff.runtime.device.layout import DeviceFeature
from verdiff.runtime.device.network import CallShape

if TYPE_CHECKING:
    import tensorrt as trt

    from verdiff.engines.library import Library
    from verdiff.engines.run.kernels import KernelCache
    from verdiff.runtime.device.driver import Pointer, Stream

# Features are carried from one engine to the other and never looked into; numpy has no bfloat16.
TYPES: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),
}
STEP_MAPS = ("x", "timestep", "prior", "row", "noise", "previous", "x_next", "x0hat")


@dataclass(frozen=True)
class Engine:
    """A deserialised engine, what its builder said of it, and the runtime that must outlive it.

    ``kernels`` are those that TensorRT-RTX compiles here; TensorRT's engines have theirs in them.
    """

    sidecar: Sidecar
    engine: trt.ICudaEngine
    runtime: trt.Runtime
    kernels: KernelCache | None = None

    def profile(self, shape: CallShape, strides: Mapping[str, int]) -> int:
        """Number of the first profile that holds this shape.

        Raises:
            BackendError: None does; names the command that builds one.
        """
        for index, profile in enumerate(self.sidecar.key.profiles):
            if profile.holds(_shapes(profile, shape, strides)):
                return index
        built = ", ".join(
            f"{_sizes(profile)} in batches of {profile.bucket.batch_min} to {profile.bucket.batch_max}"
            for profile in self.sidecar.key.profiles
        )
        sizes = [profile.bucket.size for profile in self.sidecar.key.profiles]
        asked = " ".join(f"--size {size}" for size in dict.fromkeys([*sizes, f"{shape.rows}x{shape.cols}"]))
        raise BackendError(
            f"slices of {shape.rows} x {shape.cols} pixels in batches of {shape.batch}",
            f"what the {self.sidecar.key.role} engine was built for: {built}",
            f"{rebuild_command(self.sidecar, sizes=False)} {asked}",
        )


class TensorRtNetworks:
    """The engines of one model; see :class:`verdiff.runtime.device.network.Networks`.

    Args:
        library: TensorRT.
        machine: The machine that runs them.
        precision: What the engines compute in.
        engines: Engines by role.
        strides: Stride of each condition feature.
    """

    capturable = True

    def __init__(
        self,
        library: Library,
        machine: Machine,
        precision: str,
        engines: Mapping[str, Engine],
        strides: Mapping[str, int],
    ) -> None:
        self.name, self.version = FLAVOURS[machine.flavour].option, machine.trt_version
        self.precision, self.roles = precision, tuple(engines)
        self._library, self._engines, self._strides = library, dict(engines), dict(strides)
        self._measuring: dict[str, trt.IExecutionContext] = {}
        for role, engine in engines.items():
            self._check_tensors(role, engine)
        self.features = tuple(self._feature(name) for name in strides)
        found = [profile.bucket for each in engines.values() for profile in each.sidecar.key.profiles]
        self.sizes = tuple(sorted({(bucket.rows, bucket.cols) for bucket in found}))

    def batches(self, rows: int, cols: int) -> tuple[int, int]:
        """See :meth:`verdiff.runtime.device.network.Networks.batches`."""
        usual, most = [], []
        for engine in self._engines.values():
            index = engine.profile(CallShape(1, rows, cols), self._strides)
            bucket = engine.sidecar.key.profiles[index].bucket
            usual.append(bucket.batch_opt)
            most.append(bucket.batch_max)
        return min(usual), min(most)

    def activations(self, shape: CallShape) -> int:
        """See :meth:`verdiff.runtime.device.network.Networks.activations`."""
        sizes = []
        for role in self.roles:
            if role not in self._measuring:
                self._measuring[role] = self._context(role)
            self._set_shape(role, self._measuring[role], shape, 0)
            sizes.append(self._lay_out(role, self._measuring[role], shape))
        return max(sizes)

    def open(self, role: str, shape: CallShape, memory: tuple[Pointer, int], stream: Stream) -> EngineNetwork:
        """See :meth:`verdiff.runtime.device.network.Networks.open`."""
        context = self._context(role)
        self._set_shape(role, context, shape, stream)
        wanted = self._lay_out(role, context, shape)
        if wanted > memory[1]:
            raise self.refused(f"the {role} engine wants {wanted:,} bytes to work in, where it had said {memory[1]:,}")
        context.set_device_memory(*memory)
        capturable = getattr(context, "is_stream_capturable", None)
        if capturable is not None and not capturable(stream):
            raise BackendError(
                f"the {role} engine {self._engines[role].sidecar.key.stem} cannot be captured in a CUDA graph",
                "an engine without control flow and without work on the host",
                f"build it again: {rebuild_command(self._engines[role].sidecar)}",
            )
        return EngineNetwork(role, context, self)

    def close(self) -> None:
        """Give back the engines; TensorRT does so when the last reference goes."""
        for engine in self._engines.values():
            if engine.kernels is not None:
                engine.kernels.keep()
        self._measuring.clear()
        self._engines.clear()

    def refused(self, what: str) -> BackendError:
        """The error for a call that TensorRT answered with no, with what it said."""
        return BackendError(
            f"{self.name} {self.version}: {what} ({self._library.messages.take_reason()})",
            "an engine and a device that work together",
            "run 'verdiff doctor'; if it finds nothing, build the engines again with 'verdiff build' and report this",
        )

    def _context(self, role: str) -> trt.IExecutionContext:
        """An execution context that works in memory it is given, and leaves CUDA graphs to us."""
        engine, kernels = self._engines[role].engine, self._engines[role].kernels
        # Not all of this is in every flavour's stubs.
        api: Any = self._library.api
        managed = api.ExecutionContextAllocationStrategy.USER_MANAGED
        if hasattr(api, "CudaGraphStrategy"):
            config: Any = engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(managed)
            config.cuda_graph_strategy = api.CudaGraphStrategy.DISABLED
            # Kernels for a new shape are compiled before its first run ends: the captured ones are the final ones.
            config.dynamic_shapes_kernel_specialization_strategy = api.DynamicShapesKernelSpecializationStrategy.EAGER
            if kernels is not None:
                kernels.lend(config)
            context = engine.create_execution_context(config)
        else:
            context = engine.create_execution_context(managed)
        if context is None:
            raise self.refused(f"the {role} engine gives no execution context")
        return context

    def _set_shape(self, role: str, context: trt.IExecutionContext, shape: CallShape, stream: Stream) -> None:
        engine = self._engines[role]
        index = engine.profile(shape, self._strides)
        if not context.set_optimization_profile_async(index, stream):
            raise self.refused(f"the {role} engine does not take its profile {index}")
        for name, wanted in _shapes(engine.sidecar.key.profiles[index], shape, self._strides).items():
            if not context.set_input_shape(name, wanted):
                raise self.refused(f"the {role} engine does not take {name} of shape {wanted}")
        missing = context.infer_shapes()
        if missing:
            raise self.refused(f"the {role} engine wants the shape of {', '.join(missing)} too")

    def _lay_out(self, role: str, context: trt.IExecutionContext, shape: CallShape) -> int:
        """Lay the context's tensors out for its shapes; the bytes that this takes.

        Without it the context would write where the largest shapes of the profile have their tensors.
        """
        engine = self._engines[role]
        wanted = context.update_device_memory_size_for_shapes()
        # TensorRT's word for a failure is 0, as for a network that needs no memory at any shape.
        if wanted == 0 and engine.engine.get_device_memory_size_for_profile_v2(engine.profile(shape, self._strides)):
            raise self.refused(
                f"the {role} engine does not say what memory slices of {shape.rows}x{shape.cols} pixels in batches of "
                f"{shape.batch} need"
            )
        return wanted

    def _feature(self, name: str) -> DeviceFeature:
        made = self._type("prior", name)
        if "step" in self._engines and self._type("step", name) != made:
            raise BackendError(
                f"{name} is {made} from the prior's engine and {self._type('step', name)} to the step's",
                "two engines of one export",
                f"build both again: {rebuild_command(self._engines['step'].sidecar)}",
            )
        if made not in TYPES:
            raise self.refused(f"{name} is {made}, not {' or '.join(TYPES)}")
        channels = self._engines["prior"].engine.get_tensor_shape(name)[1]
        return DeviceFeature(name, int(channels), self._strides[name], TYPES[made])

    def _type(self, role: str, name: str) -> str:
        kind: str = self._engines[role].engine.get_tensor_dtype(name).name
        return kind

    def _check_tensors(self, role: str, engine: Engine) -> None:
        """What the loop binds is what the engine has, in the types it has: never assumed."""
        there = {engine.engine.get_tensor_name(i) for i in range(engine.engine.num_io_tensors)}
        maps = {"image", "prior"} if role == "prior" else set(STEP_MAPS)
        if there != maps | set(self._strides):
            raise self.refused(f"the {role} engine has the tensors {', '.join(sorted(there))}")
        wrong = [f"{name} is {self._type(role, name)}" for name in sorted(maps) if self._type(role, name) != "FLOAT"]
        if wrong:
            raise self.refused(f"the {role} engine's {', '.join(wrong)}, not FLOAT")


class EngineNetwork:
    """One execution context at one shape; see :class:`verdiff.runtime.device.network.Network`."""

    def __init__(self, role: str, context: trt.IExecutionContext, networks: TensorRtNetworks) -> None:
        self._role, self._context, self._networks = role, context, networks

    def enqueue(self, addresses: Mapping[str, Pointer], stream: Stream) -> None:
        """See :meth:`verdiff.runtime.device.network.Network.enqueue`."""
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise self._networks.refused(f"the {self._role} engine does not take the address of {name}")
        if not self._context.execute_async_v3(stream):
            raise self._networks.refused(f"the {self._role} engine did not run")

    def close(self) -> None:
        """Give back the context; TensorRT does so when the last reference goes."""
        del self._context


def _shapes(profile: ProfileShape, shape: CallShape, strides: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shape of every dynamic input of a profile: [N], or [N, C, H / stride, W / stride]."""
    shapes: dict[str, tuple[int, ...]] = {}
    for each in profile.ranges:
        stride = strides.get(each.name, 1)
        plane = (each.maximum[1], shape.rows // stride, shape.cols // stride) if len(each.maximum) == 4 else ()
        shapes[each.name] = (shape.batch, *plane)
    return shapes


def _sizes(profile: ProfileShape) -> str:
    """The sizes of a profile: ``16x16 to 320x256``."""
    sized = max(profile.ranges, key=lambda each: each.maximum[-2:] if len(each.maximum) == 4 else (0, 0))
    least, most = ("x".join(map(str, size[-2:])) for size in (sized.minimum, sized.maximum))
    return most if least == most else f"{least} to {most}"
