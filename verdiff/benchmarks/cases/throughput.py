"""Many scans known in advance, on one machine: how many a second, by one Segmenter or by several side by side.

MLPerf calls it the offline scenario: all inputs are there at the start, any order will do, and what counts is when the
last mask is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from queue import Empty, SimpleQueue

from verdiff.benchmarks.cases import Figure, Findings, Options
from verdiff.benchmarks.file_to_file import file_to_file
from verdiff.benchmarks.fresh import run_fresh
from verdiff.benchmarks.harness import interleave
from verdiff.benchmarks.inputs import suitable_scan
from verdiff.benchmarks.timing import Timing
from verdiff.bundle import Manifest, open_bundle, resolve_model
from verdiff.errors import InputError, VerdiffError
from verdiff.evaluate.cases import validation_cases
from verdiff.files import scratch_folder
from verdiff.imaging import read_labels
from verdiff.runtime import Segmenter

STARTED_BY = f"{__name__}:segment_all_once"
SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
# One scan is segmented so many times a Segmenter; with fewer, the last to finish would decide.
SCANS_A_WORKER = 3
PEAK_AT_MOST_GB = 2.0


@dataclass(frozen=True)
class Way:
    """How the threads are shared out: so many Segmenters, each with so many threads, in one process."""

    segmenters: int
    threads: int

    @property
    def name(self) -> str:
        """The name, in words."""
        return f"{self.segmenters} Segmenter{'s' if self.segmenters > 1 else ''} x {self.threads} thread" + (
            "s" if self.threads > 1 else ""
        )


@dataclass(frozen=True)
class SizedScan:
    """A scan to segment, and how much of it the model sees: slices, and pixels of them all."""

    scan: Path
    slices: int
    pixels: int


def run(options: Options) -> Findings:
    """Segment all scans in each way of sharing the threads, round by round; the masks have to be the same.

    The scans are those of ``options.data``'s fold, or of the folder ``options.scan``, or that one scan several times.

    Raises:
        InputError: Neither was given, or nothing there can be segmented.
        BundleError: The bundle cannot be opened.
        BackendError: No backend can run it.
    """
    model = resolve_model(options.bundle)
    manifest = open_bundle(model).manifest
    ways = ways_of(options.threads)
    jobs, left_out = jobs_of(options, manifest, most_workers=ways[-1].segmenters)
    masks: dict[str, str] = {}
    with scratch_folder() as folder, ExitStack() as held:
        groups = {way.name: _load(model, way) for way in ways}
        for group in groups.values():
            for segmenter in group:
                held.enter_context(segmenter)
        out = Path(folder)

        def rival(name: str) -> Callable[[], object]:
            return lambda: segment_all(groups[name], jobs, out)

        for name in groups:
            segment_all(groups[name], jobs, out)
            masks[name] = _digest(out, len(jobs))
        timings = interleave(
            {name: rival(name) for name in groups},
            repeats=options.repeats,
            # The run that the masks were compared on has warmed every way up.
            warmup=max(0, options.warmup - 1),
            on_round=options.say_round,
        )
    slices = sum(job.slices for job in jobs)
    figures: list[Figure] = []
    for way in ways:
        figures += _figures(way, timings[way.name], len(jobs), slices, _peak(model, way, jobs))
    same = len(set(masks.values())) == 1
    return Findings(
        timings=timings,
        baseline=ways[0].name,
        figures=tuple(figures),
        subject={
            "model": f"{manifest.model_id} {manifest.version}",
            "scans": f"{len(jobs)} ({len({job.scan for job in jobs})} different), {slices} slices in all",
            "threads": options.threads,
        },
        left_out=left_out,
        notes=(
            "A duration is that of all scans, from the first file read to the last mask written; the largest go first.",
            "Every way wrote the same masks." if same else "The ways wrote different masks: that is a defect.",
        ),
        results={"masks_sha256": masks, "scans": len(jobs), "slices": slices},
    )


def ways_of(threads: int) -> list[Way]:
    """One Segmenter with every thread, then twice as many with half, down to a thread each."""
    ways, segmenters = [], 1
    while segmenters < threads:
        ways.append(Way(segmenters, threads // segmenters))
        segmenters *= 2
    return [*ways, Way(threads, 1)]


def jobs_of(options: Options, manifest: Manifest, *, most_workers: int) -> tuple[list[SizedScan], dict[str, str]]:
    """What is to be segmented, the largest first; and what was left out, with the reason."""
    left_out: dict[str, str] = {}
    if options.data is not None:
        names = validation_cases(options.data / "splits_final.json", options.fold)
        scans = [path for name in names for path in sorted((options.data / "imagesTr").glob(f"{name}_0000.*"))]
    elif options.scan is not None and options.scan.is_dir():
        scans = sorted(path for path in options.scan.iterdir() if path.name.endswith(SUFFIXES))
    elif options.scan is not None:
        scans = [options.scan] * (SCANS_A_WORKER * most_workers)
    else:
        raise InputError(
            "no scans", "a data set's fold, a folder of scans, or one scan", "name it with --data or --scan"
        )
    jobs, known = [], dict[Path, SizedScan]()
    for scan in scans:
        if scan.name in left_out:
            continue
        try:
            known[scan] = known.get(scan) or _job(scan, manifest)
        except VerdiffError as error:
            left_out[scan.name] = error.found
        else:
            jobs.append(known[scan])
    if not jobs:
        raise InputError(
            "; ".join(f"{name}: {why}" for name, why in left_out.items()) or "an empty folder",
            "at least one scan that the model can segment",
            "check --scan or --data, and the model",
        )
    return sorted(jobs, key=lambda job: -job.pixels), left_out


def segment_all(segmenters: Sequence[Segmenter], jobs: Sequence[SizedScan], folder: Path) -> None:
    """Every job from file to file, to ``0.nii.gz`` and so on; a Segmenter that is free takes the next one."""
    waiting: SimpleQueue[int] = SimpleQueue()
    for number in range(len(jobs)):
        waiting.put(number)

    def work(segmenter: Segmenter) -> None:
        while True:
            try:
                number = waiting.get_nowait()
            except Empty:
                return
            file_to_file(segmenter, jobs[number].scan, folder / f"{number}.nii.gz")

    if len(segmenters) == 1:
        work(segmenters[0])
        return
    with ThreadPoolExecutor(len(segmenters)) as pool:
        for done in [pool.submit(work, segmenter) for segmenter in segmenters]:
            done.result()


def segment_all_once(model: str, scans: list[str], segmenters: int, threads: int) -> None:
    """What a fresh process runs to have its memory measured: every Segmenter with a scan in work."""
    with scratch_folder() as folder:
        jobs = [SizedScan(Path(scan), 0, 0) for scan in scans]
        segment_all(_load(Path(model), Way(segmenters, threads)), jobs, Path(folder))


def _load(model: Path, way: Way) -> list[Segmenter]:
    return [Segmenter.load(model, threads=way.threads) for _ in range(way.segmenters)]


def _job(scan: Path, manifest: Manifest) -> SizedScan:
    """Raises what a call would, before the clock starts."""
    _, plan = suitable_scan(scan, manifest)
    return SizedScan(scan, plan.slices, plan.slices * plan.padded_rows * plan.padded_cols)


def _figures(way: Way, timing: Timing, scans: int, slices: int, peak: float | None) -> list[Figure]:
    return [
        Figure(f"scans a second, {way.name}", scans / timing.median, "1/s"),
        Figure(f"slices a second, {way.name}", slices / timing.median, "1/s"),
        Figure(f"peak memory of the process, {way.name}", peak, "GB", PEAK_AT_MOST_GB),
    ]


def _peak(model: Path, way: Way, jobs: Sequence[SizedScan]) -> float | None:
    scans = [str(job.scan) for job in jobs[: way.segmenters]]
    task = {"model": str(model), "scans": scans, "segmenters": way.segmenters, "threads": way.threads}
    fresh = run_fresh(STARTED_BY, task)
    return None if fresh.peak_bytes is None else fresh.peak_bytes / 1e9


def _digest(folder: Path, count: int) -> str:
    """A hash of the voxels of every mask; the files also hold when they were written."""
    digest = sha256()
    for number in range(count):
        digest.update(read_labels(folder / f"{number}.nii.gz").array.tobytes())
    return digest.hexdigest()
