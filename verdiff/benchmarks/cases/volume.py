"""A whole scan from file to file: where the time goes, how soon the first answer is there, and how much memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from verdiff.benchmarks.cases import Figure, Findings, Options
from verdiff.benchmarks.cost import NETWORKS, CostCounter, Meter, NetworkCall, busy_seconds, metered
from verdiff.benchmarks.file_to_file import (
    FAST,
    SEGMENT_ONCE,
    LoadedBackends,
    file_to_file,
    load_backends,
    once_in_a_fresh_process,
    policies_of,
)
from verdiff.benchmarks.flops import matmul_gflops
from verdiff.benchmarks.fresh import run_fresh
from verdiff.benchmarks.harness import interleave
from verdiff.benchmarks.profile import Profile, profile_of, profile_table
from verdiff.benchmarks.timing import Timing, stage_timings
from verdiff.bundle import Bundle, Manifest, open_bundle, resolve_model
from verdiff.errors import InputError
from verdiff.evaluate import score_case
from verdiff.files import scratch_folder
from verdiff.imaging import SlicePlan, Volume, plan_slices, read_labels, read_volume
from verdiff.runtime import Segmenter

OUTSIDE_AT_MOST = {None: 0.20, FAST: 0.15}
OVERHEAD_AT_MOST = 0.02
PEAK_AT_MOST_GB = 1.5
FAST_AT_MOST_S = 3.0
FIRST_AT_MOST_S = 1.0
# What "a full-resolution lumbar MR volume" means where an aim is stated for one.
LUMBAR_PIXEL_MM = 0.6
LUMBAR_SLICES = 30


@dataclass
class Rival:
    """A backend with a setting, and what its runs were seen to do.

    Attributes:
        name: Backend and setting.
        backend: The backend's name in :data:`verdiff.benchmarks.file_to_file.BACKENDS`.
        policy: None for the model's default, or the fast setting.
        segmenter: The model, whose networks ``meter`` counts.
        meter: Their calls.
        mask: Where the mask is written.
        stages: Seconds of each stage of every run, warm-up included.
        busy: Seconds of each network of every run, warm-up included.
        calls: Calls of the networks in the last run.
    """

    name: str
    backend: str
    policy: str | None
    segmenter: Segmenter
    meter: Meter
    mask: Path
    stages: list[dict[str, float]] = field(default_factory=list)
    busy: list[dict[str, float]] = field(default_factory=list)
    calls: list[NetworkCall] = field(default_factory=list)

    def run(self, scan: Path) -> None:
        """One run from file to file."""
        self.meter.take()
        self.stages.append(file_to_file(self.segmenter, scan, self.mask, policy=self.policy))
        self.calls = self.meter.take()
        self.busy.append({name: busy_seconds(call for call in self.calls if call.network == name) for name in NETWORKS})

    def stage_timings(self, warmup: int) -> dict[str, Timing]:
        """Times of the stages that took any, of the runs after the first ``warmup``."""
        return {name: each for name, each in stage_timings(self.stages[warmup:]).items() if each.median > 0}

    def first_answer(self, volume: Volume) -> None:
        """Time from the call to the first answer of a stream, which is the prior's; then the call is given up."""
        next(self.segmenter.stream(volume, policy=self.policy))


def run(options: Options) -> Findings:
    """Segment the scan with every backend and setting that is there, round by round; peak memory in a fresh process.

    Raises:
        InputError: No scan was given, or it or the reference cannot be read.
        UnsuitableScanError: The scan is not what the model was trained on.
        BundleError: The bundle cannot be opened.
        BackendError: No backend can run it.
    """
    if options.scan is None:
        raise InputError("no scan", "a scan to segment", "name one, for example examples/mr_t2.nii.gz")
    model, scan = resolve_model(options.bundle), options.scan
    bundle, volume = open_bundle(model), read_volume(scan)
    loaded = load_backends(model, options.threads)
    with scratch_folder() as folder:
        rivals = _rivals(loaded, bundle.manifest, Path(folder))
        timings = interleave(
            {rival.name: _whole(rival, scan) for rival in rivals}
            | {first_name(rival.name): _first(rival, volume) for rival in rivals if bundle.has("denoiser")},
            repeats=options.repeats,
            warmup=options.warmup,
            on_round=options.say_round,
        )
        dice = {rival.name: _dice(rival, options.reference, bundle.manifest) for rival in rivals}
    stages = {rival.name: rival.stage_timings(options.warmup) for rival in rivals}
    networks = {rival.name: stage_timings(rival.busy[options.warmup :]) for rival in rivals}
    counter, plan = CostCounter(bundle), _plan(volume, bundle.manifest)
    work = {rival.name: counter.count(rival.calls, plan.slices) for rival in rivals}
    limit = matmul_gflops(options.threads)
    profiles = {
        name: profile_of(name, timings[name], stages[name], networks[name], work[name], limit, dice[name])
        for name in stages
    }
    figures = [Figure(f"loading the model, once, {name}", s, "s") for name, s in loaded.seconds.items()]
    lumbar = full_resolution_lumbar(volume, bundle.manifest)
    for rival in rivals:
        figures += figures_of(rival, timings, stages[rival.name], networks[rival.name], lumbar=lumbar)
        figures.append(_peak_memory(rival, model, scan, options.threads))
        if dice[rival.name] is not None:
            figures.append(Figure(f"mean Dice, {rival.name}", dice[rival.name], ""))
    return Findings(
        timings=timings,
        baseline=rivals[0].name,
        stages=stages,
        networks=networks,
        work=work,
        figures=tuple(figures),
        subject=_subject(bundle, scan, volume, options.threads),
        left_out=loaded.left_out,
        notes=(
            "From file to file: read, segment, write the mask; the model is loaded. A first answer is the prior's, "
            "from the call of a stream on a scan that was read before. 'Within' is the time in which at least one call "
            "of that network was under way; what the loop takes beside it is its own overhead.",
            *short_of_aim(figures, profiles),
        ),
        results={name: profile.to_dict() for name, profile in profiles.items()},
        page=profile_table(list(profiles.values())),
    )


def figures_of(
    rival: Rival,
    timings: Mapping[str, Timing],
    stages: Mapping[str, Timing],
    networks: Mapping[str, Timing],
    *,
    lumbar: bool,
) -> list[Figure]:
    """The aims of a rival's times; those stated for a full-resolution lumbar volume hold only for one."""
    name, whole = rival.name, timings[rival.name]
    share, overhead = outside_share(networks, whole), loop_overhead(stages, networks)
    found = [Figure(f"share outside the networks, {name}", share, "", OUTSIDE_AT_MOST[rival.policy])]
    if overhead is not None:
        found.append(Figure(f"the loop's own overhead over the networks' time, {name}", overhead, "", OVERHEAD_AT_MOST))
    if rival.policy == FAST:
        found.append(Figure(f"file to file, {name}", whole.median, "s", FAST_AT_MOST_S if lumbar else None))
    if first_name(name) in timings:
        # Where there is a fast setting, whoever waits for a first mask asks for that one.
        soonest = lumbar and rival.policy == policies_of(rival.segmenter.manifest)[-1]
        first, limit = timings[first_name(name)].median, FIRST_AT_MOST_S if soonest else None
        found.append(Figure(f"first prior mask after the call, {name}", first, "s", limit))
    return found


def outside_share(networks: Mapping[str, Timing], whole: Timing) -> float:
    """Share of the whole in which neither network is at work: the median over repeats."""
    inside = np.sum([timing.seconds for timing in networks.values()], axis=0)
    return float(np.median(1 - inside / np.asarray(whole.seconds)))


def loop_overhead(stages: Mapping[str, Timing], networks: Mapping[str, Timing]) -> float | None:
    """What the loop takes beside its network and its noise, as a share of both networks' time.

    That is the table's update, checks and copies; the median over repeats, None without a loop.
    """
    denoiser = np.asarray(networks["denoiser"].seconds)
    if not denoiser.any():
        return None
    inside = np.sum([timing.seconds for timing in networks.values()], axis=0)
    return float(np.median((np.asarray(stages["loop"].seconds) - denoiser) / inside))


def full_resolution_lumbar(volume: Volume, manifest: Manifest) -> bool:
    """Whether the scan is what the aims of 3 s and 1 s were stated for."""
    plan = _plan(volume, manifest)
    sagittal_mr = (manifest.modality, manifest.view) == ("MR", "sagittal")
    return sagittal_mr and plan.slices <= LUMBAR_SLICES and max(plan.pixel_spacing_mm) <= LUMBAR_PIXEL_MM


def short_of_aim(figures: list[Figure], profiles: Mapping[str, Profile]) -> list[str]:
    """For every figure that misses its aim, which; and once a rival, where its time goes."""
    notes = []
    for name, profile in profiles.items():
        missed = [figure.name.removesuffix(f", {name}") for figure in figures if _misses(figure, name)]
        if missed:
            notes.append(f"Short of its aim ({', '.join(missed)}): {profile.said()}.")
    return notes


def _rivals(loaded: LoadedBackends, manifest: Manifest, folder: Path) -> list[Rival]:
    """Every backend with every setting; their masks go to ``folder``."""
    return [
        Rival(_name(backend, policy), backend, policy, *metered(segmenter), folder / f"{backend}-{policy}.nii.gz")
        for backend, segmenter in loaded.segmenters.items()
        for policy in policies_of(manifest)
    ]


def _peak_memory(rival: Rival, model: Path, scan: Path, threads: int) -> Figure:
    """Peak memory of a fresh process that loads the model and segments the scan once."""
    fresh = run_fresh(SEGMENT_ONCE, once_in_a_fresh_process(model, scan, rival.backend, threads, rival.policy))
    peak = None if fresh.peak_bytes is None else fresh.peak_bytes / 1e9
    return Figure(f"peak memory of the process, {rival.name}", peak, "GB", PEAK_AT_MOST_GB)


def _subject(bundle: Bundle, scan: Path, volume: Volume, threads: int) -> dict[str, object]:
    """What was timed, for the record."""
    manifest = bundle.manifest
    return {
        "model": f"{manifest.model_id} {manifest.version}",
        "bundle_sha256": bundle.manifest_sha256,
        "scan": scan.name,
        "size": list(volume.geometry.size),
        "spacing_mm": [round(spacing, 4) for spacing in volume.geometry.spacing_mm],
        "steps": manifest.defaults.steps,
        "samples": manifest.defaults.samples,
        "threads": threads,
    }


def _plan(volume: Volume, manifest: Manifest) -> SlicePlan:
    return plan_slices(volume.geometry, view=manifest.view, spacing_mm=manifest.spacing_mm)  # type: ignore[arg-type]


def first_name(name: str) -> str:
    """What the first answer of a rival is called."""
    return f"{name}, first answer"


def _misses(figure: Figure, name: str) -> bool:
    return figure.met is False and figure.name.endswith(f", {name}")


def _name(backend: str, policy: str | None) -> str:
    return backend if policy is None else f"{backend}, {policy}"


def _whole(rival: Rival, scan: Path) -> Callable[[], object]:
    return lambda: rival.run(scan)


def _first(rival: Rival, volume: Volume) -> Callable[[], object]:
    return lambda: rival.first_answer(volume)


def _dice(rival: Rival, reference: Path | None, manifest: Manifest) -> float | None:
    """Mean over the structures of the mask that was written, in the scan's own grid; None without a reference."""
    if reference is None:
        return None
    truth, mask = read_labels(reference), read_labels(rival.mask)
    x, y, z = truth.geometry.spacing_mm
    scores = score_case(mask.array, truth.array, spacing_mm=(z, y, x), label_ids=manifest.label_ids, distances=False)
    return float(np.mean([each.dice for each in scores.values()]))
