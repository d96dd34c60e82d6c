"""Dice against time: the prior alone, then steps x samples x policy, per patient, in the scan's own grid.

It also asks whether the diffusion works or copies its prior: with the prior damaged the result has to beat that
prior, and with another patient's image it has to fall apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from verdiff.benchmarks.cases import Options, Outcome
from verdiff.benchmarks.frontier_page import draw_frontier, markdown_page
from verdiff.benchmarks.timing import Timing
from verdiff.diffusion import (
    SamplerTable,
    background_and_labels,
    fuse_mean,
    noise_source,
    run_loop,
)
from verdiff.errors import InputError
from verdiff.evaluate.fold import labelled_scans
from verdiff.evaluate.metrics import score_case
from verdiff.export.frontier import Measured, fast_of, measure_efforts, worth_choosing
from verdiff.imaging import IntensityRule, SlicePlan, intensity_bounds, normalise, plan_slices
from verdiff.runtime import Segmenter
from verdiff.runtime.backends import loops_on_device

Array = NDArray[np.float32]

SHIFT_PIXELS = 8
ERODE_PIXELS = 3


@dataclass(frozen=True)
class Patient:
    """One case on the model's grid, with the true mask in the scan's own slices [S, rows, cols]."""

    name: str
    plan: SlicePlan
    image: Array
    truth: NDArray[np.uint8]


def run(options: Options) -> Outcome:
    """Score the prior alone, then steps x samples x policy, on a fold's validation cases; check that nothing is copied.

    Raises:
        InputError: No data set was given, or a case cannot be read.
        DataError: The data set has no such fold.
        BundleError: The bundle cannot be opened.
        BackendError: ONNX Runtime or OpenVINO is needed.
    """
    if options.data is None:
        raise InputError("no data set", "an nnU-Net raw data set to score on", "name one with --data")
    segmenter = Segmenter.load(options.bundle, threads=options.threads)
    manifest = segmenter.manifest
    scans = list(labelled_scans(options.data, options.fold, modality=manifest.modality))
    measured = measure_efforts(segmenter, scans, every=options.every, say=print)
    patients = load_patients(segmenter, options.data, options.fold, every=options.every)
    result = {
        "structures": [label.name for label in manifest.labels],
        "settings": rows_of(measured),
        "copy_checks": run_copy_checks(segmenter, patients),
    }
    return Outcome(
        timings={m.effort.title: Timing(tuple(m.seconds.values())) for m in measured},
        baseline=None,
        subject={
            "model": f"{manifest.model_id} {manifest.version}",
            "data": f"{options.data.name}, validation cases of fold {options.fold}",
            "slices": f"{sum(len(patient.image) for patient in patients)} (every {options.every})",
            "backend": f"{segmenter.backend.name}, {segmenter.backend.precision}, {options.threads} threads",
            "sampler": f"{manifest.defaults.sampler}, eta {manifest.defaults.eta:g}, start {manifest.defaults.start}",
        },
        notes=("Durations are seconds a slice of the whole call, model loaded and scan read, one value a patient.",),
        results=result,
        page=markdown_page(result),
        draw=lambda path: draw_frontier(result, path),
    )


def load_patients(
    segmenter: Segmenter, data: Path, fold: int, *, every: int = 1, say: Callable[[str], None] = print
) -> list[Patient]:
    """The validation cases of ``fold`` of an nnU-Net raw data set; every ``every``-th slice of each."""
    manifest = segmenter.manifest
    patients = []
    for scan in labelled_scans(data, fold, modality=manifest.modality):
        plan = plan_slices(
            scan.volume.geometry,
            view=manifest.view,  # type: ignore[arg-type]
            spacing_mm=manifest.spacing_mm,
            multiple=manifest.multiple,
        )
        bounds = intensity_bounds(scan.volume.array, IntensityRule.from_dict(manifest.intensity))
        chosen = np.arange(plan.slices)[every // 2 :: every]
        image = plan.to_model(normalise(plan.extract(scan.volume.array)[chosen], *bounds))
        patients.append(Patient(scan.name, plan, image, plan.extract(scan.truth)[chosen].astype(np.uint8)))
        say(f"{scan.name}: {len(image)} slices")
    return patients


class Frontier:
    """Runs tables of one's own on patients, slice by slice through the segmenter's own backend, and scores them.

    Times are of the networks, the loop and the noise, without resampling to the scan, which all of them share.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        # Slice by slice is the host's way; the case loads its model on the CPU.
        assert not loops_on_device(segmenter.backend)
        self.segmenter, self.backend = segmenter, segmenter.backend
        self.names = [label.name for label in segmenter.manifest.labels]
        self.ids = np.array([0, *(label.id for label in segmenter.manifest.labels)], np.uint8)
        self.seed = segmenter.manifest.defaults.seed

    def prior(self, patient: Patient) -> tuple[list[tuple[Array, tuple[Array, ...]]], float]:
        """Prior and features of each slice, and the seconds that took."""
        begun = time.perf_counter()
        conditions = [self.backend.prior(image[None]) for image in patient.image]
        return conditions, time.perf_counter() - begun

    def sample(
        self, conditions: list[tuple[Array, tuple[Array, ...]]], table: SamplerTable, samples: int
    ) -> tuple[Array, list[float]]:
        """x0hat [samples, S, K, H, W] of every sample, and the seconds of each sample over all slices."""
        drawn, seconds = [], []
        for sample in range(samples):
            begun = time.perf_counter()
            rows = []
            for index, (prior, features) in enumerate(conditions):
                noise = noise_source(self.seed, slices=[index], samples=[sample], shape=prior.shape[1:])

                def denoise(x: Array, timestep: int, given: tuple[Any, ...] = (prior, features)) -> Array:
                    return self.backend.denoise(x, timestep, *given)

                rows.append(run_loop(denoise, table, prior, noise)[0])
            drawn.append(np.stack(rows))
            seconds.append(time.perf_counter() - begun)
        return np.stack(drawn), seconds

    def dice(self, patient: Patient, probabilities: Array) -> dict[str, float]:
        """Dice of each structure in the scan's pixels; ``probabilities`` [S, K, H, W] on the model's grid."""
        labels = np.concatenate(
            [self.ids[background_and_labels(patient.plan.from_model(p[None]))] for p in probabilities]
        )
        scores = score_case(
            labels,
            patient.truth,
            spacing_mm=(patient.plan.slice_spacing_mm, *patient.plan.pixel_spacing_mm),
            label_ids=self.segmenter.manifest.label_ids,
            distances=False,
        )
        return {name: score.dice for name, score in scores.items()}


def run_copy_checks(
    segmenter: Segmenter, patients: list[Patient], *, say: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """The default sampling from damaged priors, and with another patient's image.

    Returns:
        A row a damage: mean Dice of the prior the denoiser was given, and of its result.
    """
    frontier, manifest = Frontier(segmenter), segmenter.manifest
    table = SamplerTable.from_dict(manifest.table)
    damages: dict[str, Callable[[Array], Array]] = {
        "prior as it is": lambda f: f,
        f"prior eroded by {ERODE_PIXELS} pixels": lambda f: _eroded(f, ERODE_PIXELS),
        f"prior shifted by {SHIFT_PIXELS} pixels": lambda f: _shifted(f, SHIFT_PIXELS),
        "prior empty": lambda f: np.full_like(f, -1.0),
        "prior without information (0)": np.zeros_like,
    }
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in damages}
    swapped: list[tuple[float, float]] = []
    cached = [frontier.prior(patient)[0] for patient in patients]
    for number, (patient, conditions) in enumerate(zip(patients, cached, strict=True)):
        for name, damage in damages.items():
            given = [(damage(f).astype(np.float32), features) for f, features in conditions]
            scores[name].append(_before_and_after(frontier, patient, given, table))
        other = cached[(number + 1) % len(cached)]
        shapes = {f.shape for f, _ in (*conditions, *other)}
        if len(patients) > 1 and len(shapes) == 1:
            pairs = [(f, other[index % len(other)][1]) for index, (f, _) in enumerate(conditions)]
            swapped.append(_before_and_after(frontier, patient, pairs, table))
    scores["own prior, another patient's image"] = swapped
    rows = []
    for name, pairs_of_scores in scores.items():
        if pairs_of_scores:
            before, after = np.mean(pairs_of_scores, axis=0)
            rows.append({"given": name, "dice_of_that_prior": float(before), "dice_of_the_result": float(after)})
            say(f"{name}: prior {before:.4f} -> result {after:.4f}")
    return rows


def rows_of(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """What was measured as plain values, a row an effort."""
    chosen = worth_choosing(measured)
    fast = fast_of(chosen)
    return [
        {
            "setting": each.effort.title,
            "steps": each.effort.steps,
            "samples": each.effort.samples,
            "policy": each.effort.policy,
            "patients": each.dice,
            "seconds_per_slice": each.seconds,
            "window_share": each.window,
            "dice": each.by_structure(),
            "mean": each.mean,
            "worst": min(each.patient_means),
            "milliseconds": each.milliseconds,
            "worth_choosing": each in chosen,
            "fast": each is fast,
        }
        for each in measured
    ]


def as_probability(mask: Array) -> Array:
    """[-1, 1] -> [0, 1]."""
    probability: Array = np.multiply(mask + 1, 0.5, dtype=np.float32)
    return probability


def _mean(scores: Mapping[str, float]) -> float:
    return float(np.mean(list(scores.values())))


def _before_and_after(
    frontier: Frontier, patient: Patient, given: list[tuple[Array, tuple[Array, ...]]], table: SamplerTable
) -> tuple[float, float]:
    prior = np.concatenate([f for f, _ in given])
    drawn, _ = frontier.sample(given, table, 1)
    return (
        _mean(frontier.dice(patient, as_probability(prior))),
        _mean(frontier.dice(patient, fuse_mean(drawn).probabilities)),
    )


def _eroded(f: Array, pixels: int) -> Array:
    return ndimage.grey_erosion(f, size=(1, 1, 2 * pixels + 1, 2 * pixels + 1))


def _shifted(f: Array, pixels: int) -> Array:
    return ndimage.shift(f, (0, 0, pixels, pixels), order=0, cval=-1.0)
