"""One denoiser step, which a scan pays for slices x steps x samples times: the backends against PyTorch eager."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from verdiff.benchmarks.cases import Figure, Options, Outcome
from verdiff.benchmarks.harness import interleave
from verdiff.benchmarks.torch_rival import Maps, StepInputs, TorchRival, torch_step_factory
from verdiff.bundle import Bundle, open_bundle, resolve_model
from verdiff.diffusion.noise import philox_normal
from verdiff.errors import BackendError, DataError, VerdiffError
from verdiff.runtime.backends import Backend, open_backend

EAGER = "PyTorch eager fp32"
CHANNELS_LAST = "PyTorch eager fp32, channels last"
BACKENDS = {
    "ONNX Runtime fp32": ("onnxruntime", "fp32"),
    "OpenVINO fp32": ("openvino", "fp32"),
    "OpenVINO bf16": ("openvino", "bf16"),
}
AIMS = {"ONNX Runtime fp32": 1.8, "OpenVINO bf16": 3.0}
AGREEMENT = {"fp32": 1e-3, "bf16": 1.0}

TorchFactory = Callable[[Bundle, Path | None, int], TorchRival]


def run(options: Options, torch_factory: TorchFactory = torch_step_factory) -> Outcome:
    """Time one step of one slice in every backend that is there; the same inputs go to all.

    Raises:
        BundleError: The bundle cannot be opened.
        BackendError: No backend can run it.
        DataError: It has no denoiser.
    """
    bundle = open_bundle(resolve_model(options.bundle))
    manifest = bundle.manifest
    if not bundle.has("denoiser"):
        raise DataError(f"{manifest.model_id} has no denoiser", "a diffusion model", "time the case 'volume' instead")
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
    compared |= set(backends)
    outputs = {name: rivals[name]() for name in rivals if name in compared}
    timings = interleave(rivals, repeats=options.repeats, warmup=options.warmup, on_round=options.on_round)
    differences, notes = agreement(outputs)
    if EAGER in rivals and EAGER not in compared:
        notes = (*notes, "PyTorch runs the same network with random weights: no training run was given.")
    rows, columns = inputs.x.shape[2:]
    return Outcome(
        timings=timings,
        baseline=next(iter(rivals)),
        figures=differences,
        aims={name: aim for name, aim in AIMS.items() if name in rivals and EAGER in rivals},
        subject={
            "model": f"{manifest.model_id} {manifest.version}",
            "bundle_sha256": bundle.manifest_sha256,
            "input": f"1 slice of {rows} x {columns} pixels, {len(manifest.labels)} structures",
            "timestep": inputs.timestep,
            "threads": options.threads,
        },
        left_out=left_out,
        notes=notes,
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
    """Largest difference of each output from the first one's, and a note for each that is not the same computation."""
    reference, *others = outputs
    figures, notes = [], []
    for name in others:
        difference = float(np.abs(outputs[name] - outputs[reference]).max())
        figures.append(Figure(f"largest difference of x0hat, {name} from {reference}", difference, ""))
        if not difference <= AGREEMENT["bf16" if "bf16" in name else "fp32"]:
            notes.append(f"{name} differs from {reference} by {difference:.3g}: they do not compute the same step.")
    return tuple(figures), tuple(notes)


def _backends(bundle: Bundle, threads: int) -> tuple[dict[str, Backend], dict[str, str]]:
    there: dict[str, Backend] = {}
    left_out: dict[str, str] = {}
    for name, (backend, precision) in BACKENDS.items():
        try:
            there[name] = open_backend(bundle, backend=backend, precision=precision, threads=threads)
        except BackendError as error:
            left_out[name] = error.found
    if not there:
        raise BackendError(
            "; ".join(left_out.values()), "at least one backend", "pip install 'verdiff[cpu]' or 'verdiff[openvino]'"
        )
    return there, left_out


def _call(backend: Backend, inputs: StepInputs) -> Callable[[], Maps]:
    return lambda: backend.denoise(inputs.x, inputs.timestep, inputs.prior, inputs.features)
