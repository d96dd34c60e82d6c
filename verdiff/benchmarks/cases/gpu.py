"""The whole loop on a GPU: PyTorch eager and compiled, ONNX Runtime, TensorRT, side by side on one workload.

Not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

from verdiff.benchmarks.cases import Figure, Findings, Options
from verdiff.benchmarks.gpu.prepare import Say, build_missing, with_half_graphs
from verdiff.benchmarks.gpu.rivals import GpuRival, Mask, runtime_rival
from verdiff.benchmarks.gpu.table import RivalFigures, rivals_table
from verdiff.benchmarks.gpu.torch_rivals import torch_rival
from verdiff.benchmarks.gpu.trace import Trace, trace_loop
from verdiff.benchmarks.gpu.workload import Workload, mean_dice
from verdiff.benchmarks.harness import interleave
from verdiff.benchmarks.timing import Timing, speedup
from verdiff.bundle import open_bundle, resolve_model
from verdiff.errors import BackendError, VerdiffError
from verdiff.extras import install
from verdiff.nvidia import Gpu, InstalledDriver, require_gpu
from verdiff.runtime import Segmenter

Factory = Callable[[Workload], GpuRival]

EAGER_FP16 = "PyTorch eager fp16"
TORCH = {
    "PyTorch eager fp32": ("fp32", False),
    EAGER_FP16: ("fp16", False),
    "torch.compile fp32": ("fp32", True),
    "torch.compile fp16": ("fp16", True),
}
RUNTIME: dict[str, tuple[str, str, bool | None]] = {
    "ONNX Runtime CUDA fp32": ("onnxruntime", "fp32", False),
    "ONNX Runtime CUDA fp32, CUDA graphs": ("onnxruntime", "fp32", True),
    "ONNX Runtime CUDA fp16": ("onnxruntime", "fp16", False),
    "ONNX Runtime CUDA fp16, CUDA graphs": ("onnxruntime", "fp16", True),
    "TensorRT fp16": ("tensorrt", "fp16", None),
    "TensorRT-RTX fp16": ("tensorrt-rtx", "fp16", None),
}
VOLUME_AT_MOST_MS = 150.0
TIMES_FASTER_THAN_EAGER = 3.0
IDLE_AT_MOST_US = 5.0


def run(options: Options, require_gpu: Callable[[str], tuple[InstalledDriver, Gpu]] = require_gpu) -> Findings:
    """Time every rival that loads; those that do not are rows with the reason.

    Raises:
        BackendError: There is no GPU, or nothing that runs on it.
        BundleError: The bundle cannot be opened.
        DataError: It has no denoiser.
    """
    driver, gpu = require_gpu(options.device)
    asked = open_bundle(resolve_model(options.bundle))
    bundle, no_half = asked, None
    try:
        bundle = with_half_graphs(asked, options.say)
    except VerdiffError as error:
        no_half = error
    workload = Workload(bundle, size=options.size, seed=options.seed)
    reference = workload.planes_of(
        Segmenter.load(workload.bundle.path, device="cpu", threads=options.threads)
        .segment(workload.scan, steps=workload.steps, samples=workload.samples, seed=workload.seed, force=True)
        .labels
    )

    def free() -> int | None:
        return require_gpu(options.device)[1].free_bytes

    outcome = compare(workload, factories(options, no_half), reference, options, free=free)
    subject = {**outcome.subject, "GPU": f"{gpu.name}, SM {gpu.sm}", "driver": driver.version}
    subject["bundle_sha256"] = asked.manifest_sha256
    notes = outcome.notes
    if bundle is not asked:
        notes = (*notes, "The graphs in FP16 were converted here: those that passed the gate, by their SHA-256.")
    if options.training_run is None:
        notes = (*notes, "PyTorch's networks have random weights: no training run was given, so no Dice of theirs.")
    return Findings(**{**vars(outcome), "subject": subject, "notes": notes})


def factories(options: Options, no_half: VerdiffError | None = None) -> dict[str, Factory]:
    """How each rival is loaded, in the order of the table; ``no_half``: why the bundle has no graphs in FP16."""
    made: dict[str, Factory] = {
        name: partial(
            torch_rival,
            device=options.device,
            precision=precision,
            compiled=compiled,
            training_run=options.training_run,
        )
        for name, (precision, compiled) in TORCH.items()
    }
    for name, (backend, precision, graphs) in RUNTIME.items():
        if precision == "fp16" and no_half is not None:
            made[name] = partial(_refused, no_half)
            continue
        built = partial(_built_and_loaded, say=options.say, device=options.device)
        made[name] = partial(built, backend=backend, precision=precision, graphs=graphs)
    return made


def _refused(reason: VerdiffError, workload: Workload) -> GpuRival:
    raise reason


def _built_and_loaded(
    workload: Workload, *, say: Say, device: str, backend: str, precision: str, graphs: bool | None
) -> GpuRival:
    """The runtime with one backend; a TensorRT that is installed builds the engines it lacks first."""
    build_missing(workload.bundle, backend=backend, precision=precision, device=device, say=say)
    return runtime_rival(workload, device, backend=backend, precision=precision, graphs=graphs)


def compare(
    workload: Workload,
    factories: Mapping[str, Factory],
    reference: Mask,
    options: Options,
    *,
    free: Callable[[], int | None],
    trace: Callable[[Callable[[], object], int], Trace] = trace_loop,
) -> Findings:
    """Load, check, time and trace the rivals, and lay out what was found.

    Args:
        workload: What they run.
        factories: How each is loaded.
        reference: The FP32 mask they are compared with, [slices, rows, columns].
        options: Repeats, warm-up.
        free: The device's free memory in bytes now.
        trace: Listens to one loop.

    Raises:
        BackendError: None of them loads.
    """
    reasons: dict[str, str] = {}
    rivals: dict[str, GpuRival] = {}
    memory: dict[str, int | None] = {}
    dice: dict[str, float | None] = {}
    ids = list(workload.bundle.manifest.label_ids.values())
    with ExitStack() as held:
        for name, factory in factories.items():
            before = free()
            try:
                rival = factory(workload)
                held.callback(rival.close)
                mask = rival.volume()
            except VerdiffError as error:
                reasons[name] = f"{error.found}; {error.remedy}"
            except Exception as error:
                # Whatever a rival's library raises is a row of the table; the others still run.
                reasons[name] = (str(error).strip() or type(error).__name__).splitlines()[0]
            else:
                rivals[name] = rival
                memory[name] = _taken(before, free())
                dice[name] = mean_dice(mask, reference, ids) if rival.same_weights else None
        if not rivals:
            alike: dict[str, list[str]] = {}
            for name, reason in reasons.items():
                alike.setdefault(reason, []).append(name)
            listed = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in alike.items())
            raise BackendError(f"a GPU and nothing that runs on it ({listed})", "at least one rival", install("gpu"))
        timed = partial(interleave, repeats=options.repeats, warmup=options.warmup)
        volumes = timed({name: rival.volume for name, rival in rivals.items()}, on_round=options.say_round)
        loops = {name: held.enter_context(rival.loop()) for name, rival in rivals.items()}
        whole = timed(loops)
        traces, notes = _traces(loops, workload.steps, trace)
    steps = {name: Timing(tuple(s / workload.steps for s in timing.seconds)) for name, timing in whole.items()}
    rows = {
        name: RivalFigures(steps[name], volumes[name], traces.get(name), memory[name], dice[name]) for name in rivals
    }
    return Findings(
        timings=volumes,
        baseline=EAGER_FP16 if EAGER_FP16 in rivals else next(iter(rivals)),
        stages={name: {"loop": whole[name]} for name in rivals},
        figures=figures(rows),
        subject={
            "model": f"{workload.bundle.manifest.model_id} {workload.bundle.manifest.version}",
            "workload": f"{workload.slices} slices of {workload.size[0]} x {workload.size[1]} pixels, "
            f"{workload.samples} samples, {workload.steps} steps",
            "batches": ", ".join(f"{name}: {rival.batch}" for name, rival in rivals.items()),
        },
        left_out=reasons,
        notes=(
            "A volume is scan to mask; PyTorch's is slices to mask, its noise already on the device. A step is the "
            "loop of one batch over its steps, on a device that is waited for at the end.",
            *notes,
        ),
        results={name: row.to_dict() for name, row in rows.items()},
        page=rivals_table(list(factories), rows, reasons),
    )


def figures(rows: Mapping[str, RivalFigures]) -> tuple[Figure, ...]:
    """The aims of the runtime's rows: time of a volume, the loop against eager fp16, idle time a step."""
    found: list[Figure] = []
    for name, row in rows.items():
        if name in TORCH:
            continue
        found.append(Figure(f"volume, {name}", 1e3 * row.volume.median, "ms", at_most=VOLUME_AT_MOST_MS))
        if EAGER_FP16 in rows:
            faster = speedup(rows[EAGER_FP16].step, row.step).value
            found.append(
                Figure(f"loop, times faster than {EAGER_FP16}, {name}", faster, "", at_least=TIMES_FASTER_THAN_EAGER)
            )
        idle = None if row.trace is None else 1e6 * row.trace.idle_a_step_s
        found.append(Figure(f"idle a step, {name}", idle, "µs", at_most=IDLE_AT_MOST_US))
    return tuple(found)


def _traces(
    loops: Mapping[str, Callable[[], object]], steps: int, trace: Callable[[Callable[[], object], int], Trace]
) -> tuple[dict[str, Trace], tuple[str, ...]]:
    """A trace of each loop; none, and a note, where nothing can listen."""
    try:
        return {name: trace(loop, steps) for name, loop in loops.items()}, ()
    except BackendError as error:
        return {}, (f"GPU busy and idle are unknown: {error.found}; {error.remedy}.",)


def _taken(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(0, before - after)
