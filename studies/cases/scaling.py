"""Time and memory against the size of a scan, up to a 512 x 512 x 800 CT: each generated scan in a fresh process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from studies.library.phantom import write_phantom
from studies.options import StudyOptions
from studies.pages.scaling import draw_scaling, markdown_page
from verdiff.benchmarks.cases import Figure, Findings
from verdiff.benchmarks.cost import NETWORKS, CostCounter, NetworkCall, RunCost, busy_seconds, metered
from verdiff.benchmarks.file_to_file import file_to_file
from verdiff.benchmarks.flops import matmul_gflops
from verdiff.benchmarks.fresh import FreshRun, run_fresh
from verdiff.benchmarks.timing import Timing, stage_timings
from verdiff.bundle import open_bundle, resolve_model
from verdiff.errors import InputError
from verdiff.files import scratch_folder
from verdiff.runtime import Segmenter

Size = tuple[int, int, int]

# Voxels from right to left (the slices of a sagittal model), from front to back, from feet to head.
MORE_SLICES: tuple[Size, ...] = ((64, 256, 400), (128, 256, 400), (256, 256, 400))
MORE_PIXELS: tuple[Size, ...] = ((64, 128, 200), (64, 256, 400), (64, 512, 800))
LARGEST: Size = (512, 512, 800)
LEAST_LENGTH = 8
SLOPE_AT_MOST = 1.1
PEAK_AT_MOST_GB = 2.0
SEGMENT_ONCE = f"{__name__}:segment_once"


@dataclass(frozen=True)
class MeasuredSize:
    """One size of scan.

    Attributes:
        size: Voxels along x, y, z.
        timing: Time from file to file, the model loaded.
        stages: Seconds of each stage of each repeat.
        networks: Network -> seconds of each repeat in which it was at work.
        work: What was asked of the networks.
        pixels: Pixels of one slice as a network takes it.
        peak_bytes: The most any of the repeats' processes held; None where the system does not tell.
    """

    size: Size
    timing: Timing
    stages: tuple[dict[str, float], ...]
    networks: dict[str, Timing]
    work: RunCost
    pixels: int
    peak_bytes: int | None

    @property
    def name(self) -> str:
        """The size as it is written."""
        return " x ".join(map(str, self.size))

    def row(self) -> dict[str, Any]:
        """Plain values of the page's table."""
        seconds, gflop = self.timing.median, sum(self.work.gflop.values())
        inside = sum(timing.median for timing in self.networks.values())
        megapixels = self.work.slices * self.pixels / 1e6
        return {
            "size": list(self.size),
            "voxels": int(np.prod(self.size)),
            "slices": self.work.slices,
            "pixels_a_slice": self.pixels,
            "seconds": seconds,
            "seconds_a_megapixel": seconds / megapixels,
            "outside_share": 1 - inside / seconds,
            "gflop": gflop or None,
            "gflops": gflop / inside if gflop else None,
            "peak_gb": None if self.peak_bytes is None else self.peak_bytes / 1e9,
        }


def run(options: StudyOptions) -> Findings:
    """Segment scans that grow in slices, in pixels and in both; ``--every n`` divides their lengths by n.

    Raises:
        InputError: No length is left.
        DataError: The model takes no volumes.
        BundleError: The bundle cannot be opened.
        BackendError: No backend can run it, or a process was killed for its memory.
    """
    model = resolve_model(options.bundle)
    bundle = open_bundle(model)
    sizes = list(dict.fromkeys(_divided(size, options.every) for size in (*MORE_SLICES, *MORE_PIXELS, LARGEST)))
    counter = CostCounter(bundle)
    runs: dict[Size, list[FreshRun]] = {size: [] for size in sizes}
    with scratch_folder() as folder:
        for size in sizes:
            write_phantom(_scan(folder, size), bundle.manifest, size, seed=options.seed)
        for number in range(options.repeats):
            for size in sizes:
                task = {"model": str(model), "scan": str(_scan(folder, size)), "threads": options.threads}
                runs[size].append(run_fresh(SEGMENT_ONCE, task))
            options.say_round(number + 1)
    measured = {size: measured_size(size, found, counter) for size, found in runs.items()}
    limit = matmul_gflops(options.threads)
    largest = measured[sizes[-1]]
    rows = {each.name: each.row() for each in measured.values()}
    slices, pixels = ([measured[_divided(size, options.every)] for size in of] for of in (MORE_SLICES, MORE_PIXELS))
    slopes = _slopes(slices, pixels, list(measured.values()))
    results: dict[str, Any] = {"sizes": rows, "limit_gflops": limit, "slopes": slopes}
    return Findings(
        timings={each.name: each.timing for each in measured.values()},
        baseline=None,
        stages={largest.name: stage_timings(largest.stages)},
        networks={each.name: each.networks for each in measured.values()},
        work={each.name: each.work for each in measured.values()},
        figures=(
            *(Figure(f"log-log slope, {name}", slope, "", SLOPE_AT_MOST) for name, slope in slopes.items()),
            Figure(f"peak memory of the process, {largest.name}", rows[largest.name]["peak_gb"], "GB", PEAK_AT_MOST_GB),
            Figure(f"GFLOP of the networks, {largest.name}", rows[largest.name]["gflop"], "GFLOP"),
            Figure(f"GFLOP/s while they are at work, {largest.name}", rows[largest.name]["gflops"], "GFLOP/s"),
            Figure("GFLOP/s of the machine in a large matrix product", limit, "GFLOP/s"),
        ),
        subject={
            "model": f"{bundle.manifest.model_id} {bundle.manifest.version}",
            "bundle_sha256": bundle.manifest_sha256,
            "scan": "generated",
            "steps": bundle.manifest.defaults.steps,
            "samples": bundle.manifest.defaults.samples,
            "threads": options.threads,
        },
        notes=(
            "From file to file in a fresh process each, the model loaded before; whole slices, the default setting.",
            "A megapixel is one of the model's pixels, padding included. Peak memory is the whole process's, with the "
            "scan, the libraries and the networks.",
        ),
        results=results,
        page=markdown_page(results),
        draw=partial(draw_scaling, results),
    )


def measured_size(size: Size, runs: Sequence[FreshRun], counter: CostCounter) -> MeasuredSize:
    """What the runs of :func:`segment_once` on a scan of this size say."""
    found = [each.result for each in runs]
    peaks = [each.peak_bytes for each in runs if each.peak_bytes is not None]
    calls = [NetworkCall(name, images, rows, cols, 0.0, 0.0) for name, images, rows, cols in found[0]["calls"]]
    return MeasuredSize(
        size,
        Timing(tuple(sum(each["stages"].values()) for each in found)),
        tuple(each["stages"] for each in found),
        {name: Timing(tuple(each["busy"][name] for each in found)) for name in NETWORKS},
        counter.count(calls, found[0]["slices"]),
        max(call.rows * call.cols for call in calls),
        max(peaks, default=None),
    )


def _scan(folder: Path, size: Size) -> Path:
    return folder / f"{'x'.join(map(str, size))}.nii"


def segment_once(model: str, scan: str, threads: int) -> dict[str, Any]:
    """What each fresh process runs: load, then read, segment and write, once."""
    segmenter, meter = metered(Segmenter.load(model, threads=threads))
    with scratch_folder() as folder:
        stages = file_to_file(segmenter, Path(scan), Path(folder) / "mask.nii.gz")
    calls = meter.take()
    return {
        "stages": stages,
        "busy": {name: busy_seconds(call for call in calls if call.network == name) for name in NETWORKS},
        "calls": [(call.network, call.images, call.rows, call.cols) for call in calls],
        "slices": sum(call.images for call in calls if call.network == "prior"),
    }


def log_slope(amounts: Sequence[float], values: Sequence[float]) -> float:
    """The power of ``amounts`` that ``values`` grow with: 1 is in proportion; least squares of the logarithms."""
    return float(np.polyfit(np.log(amounts), np.log(values), 1)[0])


def _slopes(
    slices: list[MeasuredSize], pixels: list[MeasuredSize], every: list[MeasuredSize]
) -> dict[str, float | None]:
    def seconds(of: list[MeasuredSize]) -> list[float]:
        return [each.timing.median for each in of]

    voxels = [float(np.prod(each.size)) for each in every]
    peaks = [float(each.peak_bytes) for each in every if each.peak_bytes is not None]
    return {
        "time against slices": log_slope([each.work.slices for each in slices], seconds(slices)),
        "time against pixels of a slice": log_slope([each.pixels for each in pixels], seconds(pixels)),
        "time against voxels of all": log_slope(voxels, seconds(every)),
        "peak memory against voxels of all": log_slope(voxels, peaks) if len(peaks) == len(every) else None,
    }


def _divided(size: Size, by: int) -> Size:
    most = min(*MORE_PIXELS[0], *MORE_SLICES[0]) // LEAST_LENGTH
    if not 1 <= by <= most:
        raise InputError(f"every = {by}", f"1 to {most}, what each length is divided by", "choose a number in between")
    return size[0] // by, size[1] // by, size[2] // by
