"""What ``verdiff build`` does: each engine that is asked for is built once, proven and put in the cache."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from verdiff.bundle import Bundle, Trust, model_argument, open_bundle, resolve_model
from verdiff.engines import (
    ENGINE_PRECISIONS,
    ENGINE_ROLES,
    FLAGS,
    FLAVOURS,
    TENSORRT,
    TENSORRT_RTX,
    Bucket,
    Sidecar,
    buckets,
    build_arguments,
    cache_folder,
    driver_too_old,
    engine_lock,
    engine_path,
    engine_precision,
    engine_roles,
    installed_flavours,
    read_plan,
    read_sidecar,
    require_package,
    write_engine,
)
from verdiff.engines.build.building import Target, build_plan, make_key
from verdiff.engines.build.graphs import EngineGraph, engine_graph, profile_of
from verdiff.engines.build.progress import Progress
from verdiff.engines.build.timings import TimingCache
from verdiff.engines.here import machine_of
from verdiff.engines.library import Library, load_library
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.nvidia import require_gpu
from verdiff.precisions import REFERENCE

# TensorRT-RTX compiles for Turing only by itself and without FP32 matrix products, so a list for all leaves it out.
TURING = "75"


@dataclass(frozen=True)
class BuildRequest:
    """The options of ``verdiff build``; empty is the computed default.

    Attributes:
        model: A shipped model's name or a bundle; None for the default model.
        precision: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"int8"``; the bundle must carry it.
        roles: Some of ``prior``, ``step``, ``pipeline``; by default what the runtime drives.
        flavour: ``"tensorrt"``, ``"tensorrt_rtx"`` or ``"auto"``.
        flags: Some of :data:`verdiff.engines.FLAGS`.
        sizes: (rows, columns) in pixels instead of the model's usual buckets.
        batch: The largest call instead of the buckets' own.
        sms: TensorRT-RTX: compute capabilities; the GPU's own, or without a GPU all but Turing.
        device: ``"cuda:N"``; without it the first GPU, or none where TensorRT-RTX needs none.
        cache: A cache, as ``$VERDIFF_CACHE`` names one: its folder ``engines`` is used. None is this user's cache.
        workspace_mb: The most device memory a layer may take.
        trust: What the bundle is held against.
    """

    model: str | None = None
    precision: str = REFERENCE
    roles: tuple[str, ...] = ()
    flavour: str = "auto"
    flags: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    batch: int | None = None
    sms: tuple[str, ...] = ()
    device: str | None = None
    cache: Path | None = None
    workspace_mb: int | None = None
    trust: Trust = field(default_factory=Trust)


@dataclass(frozen=True)
class Built:
    """An engine in the cache.

    Attributes:
        path: Path of the plan.
        sidecar: What is known of it.
        new: Whether this call built it; otherwise it was there.
    """

    path: Path
    sidecar: Sidecar
    new: bool


def build_engines(
    request: BuildRequest, *, progress: Progress | None = None, say: Callable[[str], None] = lambda line: None
) -> list[Built]:
    """Build the engines that a request asks for, unless the cache has them.

    Args:
        request: What to build.
        progress: Called while an engine is built, see :data:`verdiff.engines.build.progress.Progress`.
        say: Takes a line before and after each engine, and one for each proof of its precision.

    Raises:
        BundleError: The model cannot be opened.
        BackendError: TensorRT, the driver, the device or the precision is not there; the graph is refused; the
            engine is not of the precision asked for.
        OutputError: The cache cannot be written.
    """
    request = replace(request, precision=engine_precision(request.precision))
    _check(request)
    bundle = open_bundle(resolve_model(request.model), trust=request.trust)
    roles = request.roles or engine_roles(bundle)
    graphs = [engine_graph(bundle, role, request.precision) for role in roles]
    shapes = buckets(bundle.manifest, sizes=request.sizes or None, batch=request.batch)
    library = load_library(require_package(choose_flavour(request)))
    library.check_flags(request.flags)
    target = make_target(library, request)
    folder = cache_folder(request.cache)
    workshop = _Workshop(request, bundle, library, target, folder, progress, say)
    return [workshop.engine(graph, shapes) for graph in graphs]


def choose_flavour(request: BuildRequest) -> str:
    """The flavour to build with: the one asked for, else TensorRT where it and a GPU are there, else TensorRT-RTX.

    Raises:
        BackendError: It is not installed.
    """
    if request.flavour != "auto":
        return require_package(request.flavour).flavour
    there = installed_flavours()
    if not there:
        raise BackendError(
            "neither TensorRT nor TensorRT-RTX is installed",
            "one of them",
            f"for GeForce and RTX GPUs {install(TENSORRT_RTX.extra)}; for others with [{TENSORRT.extra}] in its place",
        )
    if len(there) == 2 and request.device is None and (request.sms or not _has_gpu()):
        return TENSORRT_RTX.name
    return there[0]


def make_target(library: Library, request: BuildRequest) -> Target:
    """Where the engines are to run, with the driver asked before TensorRT is started, which may crash without one.

    Raises:
        BackendError: There is no driver or device where one is needed, or the driver is too old.
    """
    workspace = None if request.workspace_mb is None else request.workspace_mb << 20
    if library.is_rtx and request.device is None and (request.sms or not _has_gpu()):
        sms = request.sms or tuple(sm for sm in library.sms() if sm != TURING)
        return Target(sms=tuple(sorted(set(sms), key=int)), flags=request.flags, workspace_bytes=workspace)
    if request.sms and not library.is_rtx:
        raise BackendError(
            f"--sm with {library.title}",
            "TensorRT-RTX, which compiles for GPUs that are not there; TensorRT builds on the GPU itself",
            "leave --sm out, or use --flavour tensorrt-rtx",
        )
    driver, gpu = require_gpu(request.device or "cuda")
    machine = machine_of(library.package, driver, gpu)
    if (old := driver_too_old(machine)) is not None:
        raise BackendError(
            old, f"a driver that runs CUDA {machine.cuda_version}", "update NVIDIA's driver, then build again"
        )
    sms = (request.sms or (gpu.sm,)) if library.is_rtx else ()
    return Target(driver, gpu, tuple(sorted(set(sms), key=int)), request.flags, workspace)


@dataclass(frozen=True)
class _Workshop:
    """What the engines of one request have in common."""

    request: BuildRequest
    bundle: Bundle
    library: Library
    target: Target
    folder: Path
    progress: Progress | None
    say: Callable[[str], None]

    def engine(self, graph: EngineGraph, shapes: tuple[Bucket, ...]) -> Built:
        """Find the engine of a graph in the cache, or build it, or wait for whoever is building it."""
        manifest, request = self.bundle.manifest, self.request
        profiles = tuple(profile_of(graph, bucket, manifest) for bucket in shapes)
        key = make_key(manifest.model_id, graph, request.precision, self.library, self.target, profiles)
        path = engine_path(key, self.folder)
        what = f"{manifest.model_id} {graph.role} {request.precision} for {self.library.title}, SM {key.sm}"
        with engine_lock(key, self.folder, lambda: self.say(f"{what}: somebody else is building it; waiting")):
            there = _finished(path)
            if there is not None:
                self.say(f"{what}: there already, {path}")
                return Built(path, there, new=False)
            self.say(f"{what}: building for {', '.join(bucket.size for bucket in shapes)}")
            plan, sidecar = build_plan(
                self.library,
                graph,
                key,
                self.target,
                arguments=self._arguments(graph.role),
                timings=TimingCache(self.folder, self.library, self.target.gpu),
                progress=self.progress,
            )
            write_engine(key, plan, sidecar, self.folder)
        self.say(f"{what}: {len(plan) / 1e6:.1f} MB in {sidecar.build_seconds:.1f} s, {path}")
        for sentence in sidecar.proof:
            self.say(f"  {sentence}")
        return Built(path, sidecar, new=True)

    def _arguments(self, role: str) -> tuple[str, ...]:
        """Words of the command that builds this engine again."""
        request = self.request
        return build_arguments(
            model_argument(self.bundle.path),
            precision=request.precision,
            role=role,
            flags=request.flags,
            sizes=(f"{rows}x{cols}" for rows, cols in request.sizes),
            batch=request.batch,
            workspace_mb=request.workspace_mb,
            device=request.device,
        )


def _finished(path: Path) -> Sidecar | None:
    """The engine at ``path`` if it is there whole; a damaged one is built again."""
    with suppress(BackendError):
        sidecar = read_sidecar(path)
        read_plan(path, sidecar)
        return sidecar
    return None


def _has_gpu() -> bool:
    with suppress(BackendError):
        require_gpu("cuda")
        return True
    return False


def _check(request: BuildRequest) -> None:
    """Refuse words that are none of the lists."""
    for sm in request.sms:
        if not sm.isdecimal():
            raise BackendError(f"--sm {sm}", "a compute capability without its dot", "for example --sm 89")
    if request.device == "cpu":
        raise BackendError(
            "an engine for the cpu", "a GPU: cuda or cuda:N", "leave --device out; on processors nothing is built"
        )
    for word, allowed in (
        (request.precision, ENGINE_PRECISIONS),
        (request.flavour, ("auto", *FLAVOURS)),
        *((role, ENGINE_ROLES) for role in request.roles),
        *((flag, FLAGS) for flag in request.flags),
    ):
        if word not in allowed:
            raise BackendError(f"{word!r}", f"one of {', '.join(allowed)}", "choose one of them")
