"""What ``verdiff build`` does: each engine that is asked for is built once, proven and put in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from verdiff.bundle import Bundle, Trust, model_argument, open_bundle, resolve_model
from verdiff.choices import AUTO
from verdiff.engines import (
    FLAGS,
    HARDWARE_COMPATIBLE,
    TENSORRT,
    TENSORRT_RTX,
    VERSION_COMPATIBLE,
    Bucket,
    Sidecar,
    buckets,
    build_arguments,
    cache_folder,
    driver_too_old,
    engine_lock,
    engine_path,
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
from verdiff.options import BuildOptions
from verdiff.precisions import engine_precision
from verdiff.rehearsal import rehearse
from verdiff.settings import check_options

# TensorRT-RTX compiles for Turing only by itself and without FP32 matrix products, so a list for all leaves it out.
TURING = "75"


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
    options: BuildOptions, *, progress: Progress | None = None, say: Callable[[str], None] = lambda line: None
) -> list[Built]:
    """Build the engines that are asked for, unless the cache has them.

    Args:
        options: What to build.
        progress: Called while an engine is built, see :data:`verdiff.engines.build.progress.Progress`.
        say: Takes a line before and after each engine, and one for each proof of its precision.

    Raises:
        BundleError: The model cannot be opened.
        BackendError: TensorRT, the driver, the device or the precision is not there; the graph is refused; the
            engine is not of the precision asked for.
        OutputError: The cache cannot be written.
    """
    check_options(options, BackendError)
    options = replace(options, precision=engine_precision(options.precision))
    bundle = open_bundle(resolve_model(options.model), trust=Trust(options.sha256, options.trusted_key))
    roles = options.roles or engine_roles(bundle)
    graphs = [engine_graph(bundle, role, options.precision) for role in roles]
    shapes = buckets(bundle.manifest, sizes=options.pixels or None, batch=options.batch)
    library = load_library(require_package(choose_flavour(options)))
    library.check_flags(_flags(options))
    target = make_target(library, options)
    folder = cache_folder(options.cache)
    _rehearse(options, bundle, graphs, shapes, target, library, folder)
    workshop = _Workshop(options, bundle, library, target, folder, progress, say)
    return [workshop.engine(graph, shapes) for graph in graphs]


def _rehearse(
    options: BuildOptions,
    bundle: Bundle,
    graphs: Sequence[EngineGraph],
    shapes: tuple[Bucket, ...],
    target: Target,
    library: Library,
    folder: Path,
) -> None:
    sizes = ", ".join(bucket.size for bucket in shapes)
    engines = ", ".join(f"{graph.role} {options.precision}" for graph in graphs)
    keys = [
        make_key(
            bundle.manifest.model_id,
            graph,
            options.precision,
            library,
            target,
            tuple(profile_of(graph, bucket, bundle.manifest) for bucket in shapes),
        )
        for graph in graphs
    ]
    rehearse(
        {"bundle": bundle.path},
        [f"build {engines} with {library.title} for {sizes}, SM {keys[0].sm}"],
        [engine_path(key, folder) for key in keys],
    )


def choose_flavour(options: BuildOptions) -> str:
    """The flavour to build with: the one asked for, else TensorRT where it and a GPU are there, else TensorRT-RTX.

    Raises:
        BackendError: It is not installed.
    """
    if options.flavour != AUTO:
        return require_package(options.flavour.replace("-", "_")).flavour
    there = installed_flavours()
    if not there:
        raise BackendError(
            "neither TensorRT nor TensorRT-RTX is installed",
            "one of them",
            f"for GeForce and RTX GPUs {install(TENSORRT_RTX.extra)}; for others with [{TENSORRT.extra}] in its place",
        )
    if len(there) == 2 and options.device is None and (options.sms or not _has_gpu()):
        return TENSORRT_RTX.name
    return there[0]


def make_target(library: Library, options: BuildOptions) -> Target:
    """Where the engines are to run, with the driver asked before TensorRT is started, which may crash without one.

    Raises:
        BackendError: There is no driver or device where one is needed, or the driver is too old.
    """
    workspace = None if options.workspace_mb is None else options.workspace_mb << 20
    if library.is_rtx and options.device is None and (options.sms or not _has_gpu()):
        sms = options.sms or tuple(sm for sm in library.sms() if sm != TURING)
        return Target(sms=tuple(sorted(set(sms), key=int)), flags=_flags(options), workspace_bytes=workspace)
    if options.sms and not library.is_rtx:
        raise BackendError(
            f"--sm with {library.title}",
            "TensorRT-RTX, which compiles for GPUs that are not there; TensorRT builds on the GPU itself",
            "leave --sm out, or use --flavour tensorrt-rtx",
        )
    driver, gpu = require_gpu(options.device or "cuda")
    machine = machine_of(library.package, driver, gpu)
    if (old := driver_too_old(machine)) is not None:
        raise BackendError(
            old, f"a driver that runs CUDA {machine.cuda_version}", "update NVIDIA's driver, then build again"
        )
    sms = (options.sms or (gpu.sm,)) if library.is_rtx else ()
    return Target(driver, gpu, tuple(sorted(set(sms), key=int)), _flags(options), workspace)


@dataclass(frozen=True)
class _Workshop:
    """What the engines of one call have in common."""

    options: BuildOptions
    bundle: Bundle
    library: Library
    target: Target
    folder: Path
    progress: Progress | None
    say: Callable[[str], None]

    def engine(self, graph: EngineGraph, shapes: tuple[Bucket, ...]) -> Built:
        """Find the engine of a graph in the cache, or build it, or wait for whoever is building it."""
        manifest, options = self.bundle.manifest, self.options
        profiles = tuple(profile_of(graph, bucket, manifest) for bucket in shapes)
        key = make_key(manifest.model_id, graph, options.precision, self.library, self.target, profiles)
        path = engine_path(key, self.folder)
        what = f"{manifest.model_id} {graph.role} {options.precision} for {self.library.title}, SM {key.sm}"
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
        made_again = replace(
            self.options,
            model=model_argument(self.bundle.path),
            roles=(role,),
            # rebuild_command adds these, for the machine and the cache that it is asked for.
            flavour=AUTO,
            sms=(),
            cache=None,
            sha256=None,
            trusted_key=None,
        )
        return build_arguments(made_again)


def _flags(options: BuildOptions) -> tuple[str, ...]:
    """What the engines are to be compatible with, as their keys spell it."""
    wanted = {VERSION_COMPATIBLE: options.version_compatible, HARDWARE_COMPATIBLE: options.hardware_compatible}
    return tuple(flag for flag in FLAGS if wanted[flag])


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
