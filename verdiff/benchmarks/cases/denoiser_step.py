"""One denoiser step, which a scan pays for slices x steps x samples times: the backends against PyTorch eager."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from verdiff.benchmarks.cases import Figure, Findings, Options
from verdiff.benchmarks.flops import graph_gflop, matmul_gflops
from verdiff.benchmarks.harness import interleave
from verdiff.benchmarks.inputs import require_denoiser
from verdiff.benchmarks.timing import Timing
from verdiff.benchmarks.torch_rival import Maps, StepInputs, TorchRival, torch_step_factory
from verdiff.bundle import Bundle, open_bundle, resolve_model
from verdiff.diffusion.noise import philox_normal
from verdiff.errors import BackendError, VerdiffError
from verdiff.extras import install
from verdiff.runtime.backends import Backend, open_backend
from verdiff.runtime.lanes import Lanes

EAGER = "PyTorch eager fp32"
CHANNELS_LAST = "PyTorch eager fp32, channels last"
BACKENDS = {
    "ONNX Runtime fp32": ("onnxruntime", "fp32"),
    "OpenVINO fp32": ("openvino", "fp32"),
    "OpenVINO bf16": ("openvino", "bf16"),
    "OpenVINO int8": ("openvino", "int8"),
    "ONNX Runtime int8": ("onnxruntime", "int8"),
}
AIMS = {"ONNX Runtime fp32": 1.8, "OpenVINO bf16": 3.0, "OpenVINO int8": 3.0}
# Largest difference in fp32, mean difference in fewer bits: there single values near a border may go either way.
AGREEMENT_FP32, AGREEMENT_REDUCED = 1e-3, 0.05
LANES_NOTE = "Of several slices at once the time is divided by their number; a scan is segmented that way."
REDUCED = ("bf16", "int8")

TorchFactory = Callable[[Bundle, Path | None, int], TorchRival]


def run(options: Options, torch_factory: TorchFactory = torch_step_factory) -> Findings:
    """Time one step of one slice in every backend that is there; the same inputs go to all.

    Raises:
        BundleError: The bundle cannot be opened.
        BackendError: No backend can run it.
        DataError: It has no denoiser.
    """
    bundle = open_bundle(resolve_model(options.bundle))
    manifest = bundle.manifest
    require_denoiser(bundle)
    backends, left_out = _backends(bundle, options.threads)
    inputs = step_inputs(next(iter(backends.values())), manifest.multiple, len(manifest.labels), options)
    rivals: dict[str, Callable[[], Maps]] = {}
    compared: set[str] = set()
    try:
        torch_rival = torch_factory(bundle, options.training_run, options.threads)
        rivals = {EAGER: torch_rival.step(inputs, False), CHANNELS_LAST: torch_rival.step(inputs, True)}
        compared = set(rivals) if torch_rival.same_weights else set()
    except VerdiffError as error:
        left_out |= dict.fromkeys((EAGER, CHANNELS_LAST), f"{error.found}; {error.remedy}")
    rivals |= {name: _call(backend, inputs) for name, backend in backends.items()}
    at_once = {f"{name}, {backend.lanes} slices at once": backend for name, backend in backends.items()}
    at_once = {name: backend for name, backend in at_once.items() if backend.lanes > 1}
    with ExitStack() as held:
        for name, backend in at_once.items():
            rivals[name] = _call_lanes(backend, inputs, held.enter_context(Lanes(backend.lanes)))
        compared |= {*backends, *at_once}
        outputs = {name: rivals[name]() for name in rivals if name in compared}
        timings = interleave(rivals, repeats=options.repeats, warmup=options.warmup, on_round=options.say_round)
    for name, backend in at_once.items():
        timings[name] = Timing(tuple(seconds / backend.lanes for seconds in timings[name].seconds))
    figures, notes = agreement(outputs)
    speeds = _speeds(bundle, inputs, timings, options.threads)
    if EAGER in rivals and EAGER not in compared:
        notes = (*notes, "PyTorch runs the same network with random weights: no training run was given.")
    rows, columns = inputs.x.shape[2:]
    return Findings(
        timings=timings,
        baseline=next(iter(rivals)),
        figures=(*figures, *speeds),
        aims={name: aim for name, aim in AIMS.items() if name in rivals and EAGER in rivals},
        subject={
            "model": f"{manifest.model_id} {manifest.version}",
            "bundle_sha256": bundle.manifest_sha256,
            "input": f"1 slice of {rows} x {columns} pixels, {len(manifest.labels)} structures",
            "timestep": inputs.timestep,
            "threads": options.threads,
        },
        left_out=left_out,
        notes=notes if not at_once else (*notes, LANES_NOTE),
    )


def step_inputs(backend: Backend, multiple: int, classes: int, options: Options) -> StepInputs:
    """Inputs of one step: a random image's prior and features from the backend, and x_t of noise.

    Arithmetic takes as long on noise as on a scan. Rows and columns are rounded up to the network's multiple.
    """
    rows, columns = (multiple * math.ceil(length / multiple) for length in options.size)
    image = philox_normal(options.seed, slice_index=0, sample=0, step=0, shape=(1, 1, rows, columns))
    prior, features = backend.prior(np.clip(image / 3, -1, 1).astype(np.float32))
    x = philox_normal(options.seed, slice_index=0, sample=0, step=1, shape=(1, classes, rows, columns))
    return StepInputs(x, timestep=500, prior=prior, features=features)


def agreement(outputs: dict[str, Maps]) -> tuple[tuple[Figure, ...], tuple[str, ...]]:
    """How far each output is from the first one's, and a note for each that is not the same computation.

    In fp32 that is the largest difference, in fewer bits the mean one.
    """
    reference, *others = outputs
    figures, notes = [], []
    for name in others:
        apart, exact = np.abs(outputs[name] - outputs[reference]), not any(bits in name for bits in REDUCED)
        difference = float(apart.max() if exact else apart.mean())
        kind = "largest" if exact else "mean"
        figures.append(Figure(f"{kind} difference of x0hat, {name} from {reference}", difference, ""))
        if not difference <= (AGREEMENT_FP32 if exact else AGREEMENT_REDUCED):
            notes.append(f"{name} differs from {reference} by {difference:.3g}: they do not compute the same step.")
    return tuple(figures), tuple(notes)


def _speeds(bundle: Bundle, inputs: StepInputs, timings: Mapping[str, Timing], threads: int) -> list[Figure]:
    """GFLOP of the step, GFLOP/s of each rival, and of a large matrix product: the machine's limit in float32."""
    rows, cols = inputs.x.shape[2:]
    gflop = graph_gflop(bundle.graph("denoiser", "fp32"), rows, cols)
    found = [Figure("GFLOP of the step", gflop, "GFLOP")]
    found += [Figure(f"GFLOP/s, {name}", gflop / timing.median, "GFLOP/s") for name, timing in timings.items()]
    return [*found, Figure("GFLOP/s, the machine's limit", matmul_gflops(threads), "GFLOP/s")]


def _backends(bundle: Bundle, threads: int) -> tuple[dict[str, Backend], dict[str, str]]:
    there: dict[str, Backend] = {}
    left_out: dict[str, str] = {}
    for name, (backend, precision) in BACKENDS.items():
        try:
            there[name] = open_backend(bundle, backend=backend, precision=precision, threads=threads)
        except BackendError as error:
            left_out[name] = error.found
    if not there:
        raise BackendError("; ".join(left_out.values()), "at least one backend", install("cpu", "openvino"))
    return there, left_out


def _call(backend: Backend, inputs: StepInputs) -> Callable[[], Maps]:
    return lambda: backend.denoise(inputs.x, inputs.timestep, inputs.prior, inputs.features)


def _call_lanes(backend: Backend, inputs: StepInputs, lanes: Lanes) -> Callable[[], Maps]:
    """A step of as many slices at once as there are lanes; the first one's output."""

    def step(_: int) -> Maps:
        return backend.lane.denoise(inputs.x, inputs.timestep, inputs.prior, inputs.features)

    return lambda: lanes.map(step, range(lanes.count))[0]
