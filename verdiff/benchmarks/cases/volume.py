"""A whole scan from file to file: where the time goes, and how much memory it takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from verdiff.benchmarks.cases import Figure, Options, Outcome
from verdiff.benchmarks.fresh import run_fresh
from verdiff.benchmarks.harness import Clock, interleave
from verdiff.benchmarks.timing import Timing, stage_timings
from verdiff.bundle import open_bundle, resolve_model
from verdiff.errors import BackendError, InputError
from verdiff.imaging import read_volume, write_array
from verdiff.runtime import Segmenter

RIVALS = {
    "ONNX Runtime fp32": ("onnxruntime", "fp32"),
    "OpenVINO fp32": ("openvino", "fp32"),
    "OpenVINO bf16": ("openvino", "bf16"),
}
NETWORK_STAGES = ("prior", "denoiser")
OUTSIDE_AT_MOST = 0.20
PEAK_AT_MOST_GB = 1.5
STARTED_BY = "verdiff.benchmarks.cases.volume:segment_once"


def run(options: Options) -> Outcome:
    """Segment the scan with every backend that is there, round by round; peak memory in a fresh process for each.

    Raises:
        InputError: No scan was given, or it cannot be read.
        UnsuitableScanError: The scan is not what the model was trained on.
        BundleError: The bundle cannot be opened.
        BackendError: No backend can run it.
    """
    if options.scan is None:
        raise InputError("no scan", "a scan to segment", "name one, for example examples/mr_t2.nii.gz")
    model = resolve_model(options.bundle)
    bundle = open_bundle(model)
    segmenters, load_s, left_out = _load(model, options.threads)
    stages: dict[str, list[dict[str, float]]] = {name: [] for name in segmenters}
    scan = options.scan
    with tempfile.TemporaryDirectory() as folder:

        def rival(name: str) -> Callable[[], object]:
            return lambda: stages[name].append(file_to_file(segmenters[name], scan, Path(folder) / "mask.nii.gz"))

        timings = interleave(
            {name: rival(name) for name in segmenters},
            repeats=options.repeats,
            warmup=options.warmup,
            on_round=options.on_round,
        )
    timed = {name: stage_timings(found[options.warmup :]) for name, found in stages.items()}
    figures: list[Figure] = []
    for name in segmenters:
        fresh = run_fresh(STARTED_BY, _task(model, options.scan, name, options.threads))
        peak = None if fresh.peak_bytes is None else fresh.peak_bytes / 1e9
        figures += [
            Figure(
                f"share outside the networks, {name}", outside_share(timed[name], timings[name]), "", OUTSIDE_AT_MOST
            ),
            Figure(f"peak memory of the process, {name}", peak, "GB", PEAK_AT_MOST_GB),
            Figure(f"loading the model, once, {name}", load_s[name], "s"),
        ]
    volume = read_volume(options.scan)
    return Outcome(
        timings=timings,
        baseline=next(iter(segmenters)),
        stages=timed,
        figures=tuple(figures),
        subject={
            "model": f"{bundle.manifest.model_id} {bundle.manifest.version}",
            "bundle_sha256": bundle.manifest_sha256,
            "scan": options.scan.name,
            "size": list(volume.geometry.size),
            "spacing_mm": [round(spacing, 4) for spacing in volume.geometry.spacing_mm],
            "steps": bundle.manifest.defaults.steps,
            "samples": bundle.manifest.defaults.samples,
            "threads": options.threads,
        },
        left_out=left_out,
        notes=(
            "From file to file: read, segment, write the mask. 'denoiser' is the part of 'loop' inside the network.",
        ),
    )


def file_to_file(segmenter: Segmenter, scan: Path, mask: Path, clock: Clock = time.perf_counter) -> dict[str, float]:
    """Read a scan, segment it, write the mask; the seconds of each stage, those of the runtime under its own names."""
    begun = clock()
    volume = read_volume(scan)
    read = clock()
    result = segmenter.segment(volume)
    segmented = clock()
    write_array(result.labels, volume, mask)
    inner = {name: seconds for name, seconds in result.timings.items() if name != "total"}
    return {"read": read - begun, **inner, "write": clock() - segmented}


def outside_share(stages: dict[str, Timing], whole: Timing) -> float:
    """Share of the whole that is spent outside the two networks: the median over repeats."""
    inside = [
        sum(stages[name].seconds[repeat] for name in NETWORK_STAGES if name in stages)
        for repeat in range(len(whole.seconds))
    ]
    shares = (1 - network / total for network, total in zip(inside, whole.seconds, strict=True))
    return Timing(tuple(shares)).median


def segment_once(model: str, scan: str, backend: str, precision: str, threads: int) -> dict[str, float]:
    """What the fresh process runs to have its memory measured: load, read, segment, write, once."""
    segmenter = Segmenter.load(model, backend=backend, precision=precision, threads=threads)
    with tempfile.TemporaryDirectory() as folder:
        return file_to_file(segmenter, Path(scan), Path(folder) / "mask.nii.gz")


def _task(model: Path, scan: Path, name: str, threads: int) -> dict[str, Any]:
    backend, precision = RIVALS[name]
    return {"model": str(model), "scan": str(scan), "backend": backend, "precision": precision, "threads": threads}


def _load(model: Path, threads: int) -> tuple[dict[str, Segmenter], dict[str, float], dict[str, str]]:
    there: dict[str, Segmenter] = {}
    load_s: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for name, (backend, precision) in RIVALS.items():
        begun = time.perf_counter()
        try:
            there[name] = Segmenter.load(model, backend=backend, precision=precision, threads=threads)
        except BackendError as error:
            left_out[name] = error.found
        load_s[name] = time.perf_counter() - begun
    if not there:
        raise BackendError(
            "; ".join(left_out.values()), "at least one backend", "pip install 'verdiff[cpu]' or 'verdiff[openvino]'"
        )
    return there, load_s, left_out
