"""One engine: the network, its profiles and settings, the plan, and the proof of its precision."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, cast

from verdiff import __version__
from verdiff.engines import HARDWARE_COMPATIBLE, VERSION_COMPATIBLE, EngineKey, ProfileShape, Sidecar
from verdiff.engines.build.graphs import EngineGraph
from verdiff.engines.build.network import ParsedNetwork, parse, plain_reason
from verdiff.engines.build.plan_weights import look_into
from verdiff.engines.build.progress import PhaseTree, Progress, interrupts_end
from verdiff.engines.build.proof import prove_engine, prove_network, prove_weights, weight_bytes
from verdiff.engines.build.timings import TimingCache
from verdiff.engines.library import Library
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.nvidia import Gpu, InstalledDriver

if TYPE_CHECKING:
    import tensorrt as trt

WEIGHTS_SAID, ACTIVATIONS_SAID = "Total Weights Memory:", "Total Activation Memory:"


@dataclass(frozen=True)
class Target:
    """Where an engine is to run.

    Attributes:
        driver: Driver of this machine; None where TensorRT-RTX builds without one.
        gpu: GPU to build on; None where TensorRT-RTX builds without one.
        sms: Compute capabilities for TensorRT-RTX; TensorRT builds for ``gpu``.
        flags: Some of :data:`verdiff.engines.FLAGS`.
        workspace_bytes: The most device memory a layer may take; None leaves it to TensorRT.
    """

    driver: InstalledDriver | None = None
    gpu: Gpu | None = None
    sms: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    workspace_bytes: int | None = None

    @property
    def sm(self) -> str:
        """Compute capabilities, spelled as in the engine's key."""
        if self.sms:
            return ",".join(self.sms)
        assert self.gpu is not None
        return "80+" if HARDWARE_COMPATIBLE in self.flags else self.gpu.sm

    @property
    def builds_for_its_gpu(self) -> bool:
        """Whether the GPU at hand can load what is built."""
        return self.gpu is not None and (not self.sms or self.gpu.sm in self.sms)

    @property
    def gpu_name(self) -> str:
        """The one GPU that the engine is tuned for; ``""`` if it runs on others too."""
        return "" if self.sms or self.gpu is None or HARDWARE_COMPATIBLE in self.flags else self.gpu.name


def make_key(
    model_id: str,
    graph: EngineGraph,
    precision: str,
    library: Library,
    target: Target,
    profiles: Iterable[ProfileShape],
) -> EngineKey:
    """The key of the engine that :func:`build_plan` would make."""
    return EngineKey(
        model_id=model_id,
        role=graph.role,
        precision=precision,
        graph_sha256=graph.sha256,
        flavour=library.flavour.name,
        trt_version=library.version,
        cuda_version=library.package.cuda,
        profiles=tuple(profiles),
        flags=tuple(sorted(target.flags)),
        sm=target.sm,
        gpu_name=target.gpu_name,
        workspace_bytes=target.workspace_bytes,
    )


def build_plan(
    library: Library,
    graph: EngineGraph,
    key: EngineKey,
    target: Target,
    *,
    arguments: tuple[str, ...],
    timings: TimingCache,
    progress: Progress | None = None,
) -> tuple[bytes, Sidecar]:
    """Build one engine.

    Args:
        library: Library to build with.
        graph: What to build.
        key: Key that :func:`make_key` gives for the same graph and target.
        target: Where it is to run.
        arguments: Arguments of the ``verdiff build`` that makes it again, for the sidecar.
        timings: What earlier builds measured, and what this one adds.
        progress: Called while it builds.

    Returns:
        The plan and its sidecar.

    Raises:
        BackendError: The graph is refused, the build fails, or its precision is not the one asked for.
    """
    begun = perf_counter()
    with library.listening() as messages:
        if target.gpu is not None:
            _use(target.gpu)
        network = parse(library, graph)
        proof = prove_network(library, network, graph, key.precision)
        config = configure(library, network, key.profiles, target, timings)
        tree = PhaseTree(progress)
        config.progress_monitor = library.monitor(tree.started, tree.stepped, tree.finished)
        with interrupts_end(tree):
            # The stubs leave out that this, as loading and setting below, can fail and say so by its result.
            made = cast("trt.IHostMemory | None", network.builder.build_serialized_network(network.definition, config))
        if tree.error is not None:
            raise tree.error
        if made is None:
            raise _failed(library, graph.role, messages.errors(), given_up=tree.given_up, target=target)
        plan = bytes(memoryview(made))
        timings.keep(config)
        in_plan = look_into(library, graph, plan)
        proof.append(str(in_plan))
        weights, source = max(messages.numbers(WEIGHTS_SAID), default=None), "builder"
        memory = max(messages.numbers(ACTIVATIONS_SAID), default=None)
        engine = _deserialise(library, plan, target) if target.builds_for_its_gpu else None
        layers: Counter[str] = Counter()
        if engine is not None:
            told, layers, memory = prove_engine(library, engine, graph)
            proof += told
            if (asked := weight_bytes(engine)) is not None:
                weights, source = asked, "engine"
        proof += prove_weights(graph, weights, source, key.precision, layers, in_plan)
    return plan, Sidecar(
        key=key,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        io=network.tensors(),
        weight_bytes=weights,
        device_memory_bytes=memory,
        proof=tuple(proof),
        driver_version="" if target.driver is None else target.driver.version,
        gpu_name="" if target.gpu is None else target.gpu.name,
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        build_seconds=round(perf_counter() - begun, 2),
        verdiff=__version__,
        arguments=arguments,
    )


def configure(
    library: Library, network: ParsedNetwork, profiles: Iterable[ProfileShape], target: Target, timings: TimingCache
) -> trt.IBuilderConfig:
    api, config = library.api, network.builder.create_builder_config()
    for profile in profiles:
        network.add_profile(config, profile)
    # FP32 means FP32: TensorRT would round the inputs of its matrix products to ten bits.
    config.clear_flag(api.BuilderFlag.TF32)
    config.profiling_verbosity = api.ProfilingVerbosity.DETAILED
    if target.workspace_bytes is not None:
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, target.workspace_bytes)
    # One stream: the caller's, at the caller's priority. TensorRT's auxiliary ones have none but the default one.
    config.max_aux_streams = 0
    if VERSION_COMPATIBLE in target.flags:
        config.set_flag(api.BuilderFlag.VERSION_COMPATIBLE)
        # A plan that carries its own runtime is host code: verdiff never runs such a plan.
        config.set_flag(api.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
    if HARDWARE_COMPATIBLE in target.flags:
        config.hardware_compatibility_level = api.HardwareCompatibilityLevel.AMPERE_PLUS
    library.target(config, target.sms)
    library.require_capturable(config)
    timings.lend(config)
    return config


def _deserialise(library: Library, plan: bytes, target: Target) -> trt.ICudaEngine | None:
    """The engine, to look into; None where this runtime cannot load its own build on this GPU."""
    runtime = library.api.Runtime(library.logger)
    engine = cast("trt.ICudaEngine | None", runtime.deserialize_cuda_engine(plan))
    if engine is None and VERSION_COMPATIBLE not in target.flags:
        reason = "; ".join(library.messages.errors()) or "no reason given"
        raise BackendError(
            f"{library.title} does not load the engine it has just built ({reason})",
            "an engine that loads where it was built",
            "run 'verdiff doctor'; update the driver",
        )
    return engine


def _use(gpu: Gpu) -> None:
    """Make ``gpu`` the device that TensorRT builds on; the first one is without asking."""
    try:
        import_module("cuda.core").Device(gpu.index).set_current()
    except ImportError as error:
        if gpu.index == 0:
            return
        raise BackendError(
            f"cuda:{gpu.index} without cuda-core",
            "cuda-core, to build on another GPU than the first",
            f"{install('tensorrt')}; or set CUDA_VISIBLE_DEVICES",
        ) from error
    except Exception as error:
        # cuda-core's errors are of kinds of its own, and of none that is public.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackendError(
            f"cuda:{gpu.index} ({gpu.name}) cannot be used ({reason})",
            "a GPU to build on",
            f"run 'verdiff doctor --device cuda:{gpu.index}'",
        ) from error


def _failed(library: Library, role: str, errors: list[str], *, given_up: bool, target: Target) -> BackendError:
    if given_up:
        return BackendError(f"the build of the {role} engine was given up", "a build to its end", "build it again")
    reason = "; ".join(map(plain_reason, errors)) or "no reason given"
    remedy = "run 'verdiff doctor'; report this message if it finds nothing"
    if re.search("memory|workspace", reason, re.IGNORECASE):
        remedy = "allow more with --workspace-mb, or build for smaller calls with --batch"
    elif "Turing" in reason:
        remedy = "leave SM 75 out of --sm; on such a GPU build with --flavour tensorrt"
    return BackendError(
        f"{library.title} cannot build the {role} engine: {reason}", f"an engine for SM {target.sm}", remedy
    )
