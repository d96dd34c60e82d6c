"""Dice against sampling effort: the prior alone, then steps x samples, per patient, in the scan's own grid.

It also asks whether the diffusion works or copies its prior: with the prior damaged the result has to beat that
prior, and with another patient's image it has to fall apart.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from verdiff.benchmarks.cases import Options, Outcome
from verdiff.benchmarks.frontier_page import draw_frontier, markdown_page, setting_name
from verdiff.benchmarks.timing import Timing
from verdiff.diffusion import (
    Process,
    SamplerTable,
    background_and_labels,
    fuse_mean,
    make_table,
    noise_source,
    run_loop,
)
from verdiff.errors import DataError, InputError
from verdiff.evaluate.cases import validation_cases
from verdiff.evaluate.metrics import score_case
from verdiff.imaging import IntensityRule, SlicePlan, intensity_bounds, normalise, plan_slices, read_labels, read_volume
from verdiff.runtime import Segmenter
from verdiff.runtime.device.backend import DeviceBackend

Array = NDArray[np.float32]

STEPS_TRIED = (1, 2, 5, 10, 20)
SAMPLES_TRIED = (1, 4)
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
    """Score the prior alone, then steps x samples, on a fold's validation cases, and check that nothing is copied.

    Raises:
        InputError: No data set was given, or a case cannot be read.
        DataError: The data set has no such fold.
        BundleError: The bundle cannot be opened.
        BackendError: ONNX Runtime or OpenVINO is needed.
    """
    if options.data is None:
        raise InputError("no data set", "an nnU-Net raw data set to score on", "name one with --data")
    segmenter = Segmenter.load(options.bundle, threads=options.threads)
    patients = load_patients(segmenter, options.data, options.fold, every=options.every)
    result = run_frontier(segmenter, patients)
    result["copy_checks"] = run_copy_checks(segmenter, patients)
    manifest = segmenter.manifest
    return Outcome(
        timings={setting_name(row): Timing(tuple(row["seconds_per_slice"].values())) for row in result["settings"]},
        baseline=None,
        subject={
            "model": f"{manifest.model_id} {manifest.version}",
            "data": f"{options.data.name}, validation cases of fold {options.fold}",
            "slices": f"{sum(len(patient.image) for patient in patients)} (every {options.every})",
            "backend": f"{segmenter.backend.name}, {segmenter.backend.precision}, {options.threads} threads",
            "sampler": f"{manifest.defaults.sampler}, eta {manifest.defaults.eta:g}, start {manifest.defaults.start}",
        },
        notes=("Durations are seconds a slice of the networks, the loop and the noise, one value a patient.",),
        results=result,
        page=markdown_page(result),
        draw=lambda path: draw_frontier(result, path),
    )


def load_patients(
    segmenter: Segmenter, data: Path, fold: int, *, every: int = 1, say: Callable[[str], None] = print
) -> list[Patient]:
    """The validation cases of ``fold`` of an nnU-Net raw data set; every ``every``-th slice of each."""
    manifest = segmenter.manifest
    try:
        ending = json.loads((data / "dataset.json").read_text("utf-8"))["file_ending"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{data.name} has no usable dataset.json ({error})", "an nnU-Net raw data set", "check --data"
        ) from error
    names = validation_cases(data / "splits_final.json", fold)
    patients = []
    for name in names:
        volume = read_volume(data / "imagesTr" / f"{name}_0000{ending}", modality=manifest.modality)
        mask = read_labels(data / "labelsTr" / f"{name}{ending}")
        plan = plan_slices(
            volume.geometry,
            view=manifest.view,  # type: ignore[arg-type]
            spacing_mm=manifest.spacing_mm,
            multiple=manifest.multiple,
        )
        bounds = intensity_bounds(volume.array, IntensityRule.from_dict(manifest.intensity))
        chosen = np.arange(plan.slices)[every // 2 :: every]
        image = plan.to_model(normalise(plan.extract(volume.array)[chosen], *bounds))
        patients.append(Patient(name, plan, image, plan.extract(mask.array)[chosen].astype(np.uint8)))
        say(f"{name}: {len(image)} slices")
    return patients


class Frontier:
    """Runs settings on patients and keeps Dice per patient and structure, and seconds per patient.

    The networks run slice by slice through the segmenter's own backend; times are of the networks, the loop and the
    noise, without resampling to the scan, which every setting shares.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        # Slice by slice is the host's way; the case loads its model on the CPU.
        assert not isinstance(segmenter.backend, DeviceBackend)
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


def run_frontier(
    segmenter: Segmenter,
    patients: list[Patient],
    *,
    steps: tuple[int, ...] = STEPS_TRIED,
    samples: tuple[int, ...] = SAMPLES_TRIED,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Prior alone, then each number of steps with nested samples: the first n of the most drawn.

    Returns:
        ``settings``: a list of rows with name, steps, samples, mean Dice, Dice per patient and structure, and seconds
        a slice.
    """
    frontier = Frontier(segmenter)
    tables = {n: table_for(segmenter, n) for n in steps}
    rows: dict[tuple[int, int], dict[str, Any]] = {}

    def note(key: tuple[int, int], patient: Patient, dice: Mapping[str, float], seconds: float) -> None:
        row = rows.setdefault(key, {"steps": key[0], "samples": key[1], "patients": {}, "seconds_per_slice": {}})
        row["patients"][patient.name] = dict(dice)
        row["seconds_per_slice"][patient.name] = seconds / len(patient.image)

    for patient in patients:
        conditions, prior_seconds = frontier.prior(patient)
        prior = np.concatenate([f for f, _ in conditions])
        note((0, 0), patient, frontier.dice(patient, as_probability(prior)), prior_seconds)
        for count, table in tables.items():
            drawn, seconds = frontier.sample(conditions, table, max(samples))
            for n in samples:
                fused = fuse_mean(drawn[:n]).probabilities
                note((count, n), patient, frontier.dice(patient, fused), prior_seconds + sum(seconds[:n]))
        say(f"{patient.name}: prior {_mean(rows[0, 0]['patients'][patient.name]):.4f}, " + ", ".join(
            f"{s}x{n} {_mean(rows[s, n]['patients'][patient.name]):.4f}" for s in steps for n in samples
        ))  # fmt: skip
    return {"structures": frontier.names, "settings": [_summary(row) for row in rows.values()]}


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


def table_for(segmenter: Segmenter, steps: int) -> SamplerTable:
    """The model's own sampler and start with another number of steps."""
    defaults = segmenter.manifest.defaults
    return make_table(
        Process.from_dict(segmenter.manifest.process),
        sampler=defaults.sampler,  # type: ignore[arg-type]
        steps=steps,
        eta=defaults.eta,
        start=defaults.start,  # type: ignore[arg-type]
        start_step=defaults.start_step,
    )


def _summary(row: dict[str, Any]) -> dict[str, Any]:
    patients = row["patients"]
    structures = next(iter(patients.values()))
    means = [_mean(scores) for scores in patients.values()]
    return {
        **row,
        "dice": {name: float(np.mean([scores[name] for scores in patients.values()])) for name in structures},
        "mean": float(np.mean(means)),
        "worst": float(np.min(means)),
        "milliseconds": 1000 * float(np.median(list(row["seconds_per_slice"].values()))),
    }


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
