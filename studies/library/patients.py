"""Patients of a fold on a model's grid, and Dice of what a model gives for them in the scan's own pixels."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion import SamplerTable, background_and_labels, noise_source, run_loop
from verdiff.evaluate.fold import LabelledScan, labelled_scans
from verdiff.evaluate.metrics import score_case
from verdiff.imaging import SlicePlan, intensity_bounds, normalise, plan_slices
from verdiff.runtime import Segmenter

Array = NDArray[np.float32]


@dataclass(frozen=True)
class StudyPatient:
    """One case on the model's grid, with the true mask in the scan's own slices [S, rows, cols]."""

    name: str
    plan: SlicePlan
    image: Array
    truth: NDArray[np.uint8]


def load_patients(
    segmenter: Segmenter, data: Path, fold: int, *, every: int = 1, say: Callable[[str], object] = print
) -> list[StudyPatient]:
    """The validation cases of ``fold`` of an nnU-Net raw data set; every ``every``-th slice of each.

    Says where the model may have learned from them.
    """
    patients = []
    for scan in labelled_scans(data, fold, modality=segmenter.manifest.modality):
        patients.append(patient_of(segmenter, scan, every=every))
        say(f"{scan.name}: {len(patients[-1].image)} slices")
    seen = segmenter.manifest.trained_on(data.absolute().name, [patient.name for patient in patients])
    if seen:
        model = segmenter.manifest.model_id
        say(
            f"{model} may have learned from {len(seen)} of the {len(patients)} cases: its figures are of no patients "
            "put aside; pass --model with weights of the fold's other side"
        )
    return patients


def patient_of(segmenter: Segmenter, scan: LabelledScan, *, every: int = 1) -> StudyPatient:
    """A scan on the model's grid; every ``every``-th slice."""
    manifest = segmenter.manifest
    plan = plan_slices(
        scan.volume.geometry,
        view=manifest.view,  # type: ignore[arg-type]
        spacing_mm=manifest.spacing_mm,
        multiple=manifest.multiple,
    )
    bounds = intensity_bounds(scan.volume.array, manifest.intensity)
    chosen = np.arange(plan.slices)[every // 2 :: every]
    image = plan.to_model(normalise(plan.extract(scan.volume.array)[chosen], *bounds))
    return StudyPatient(scan.name, plan, image, plan.extract(scan.truth)[chosen].astype(np.uint8))


class PatientScorer:
    """Runs tables of one's own on patients, slice by slice through the segmenter's own backend, and scores them.

    Times are of the networks, the loop and the noise, without resampling to the scan, which all of them share.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        # Slice by slice is the host's way; the case loads its model on the CPU.
        self.segmenter, self.backend = segmenter, segmenter.loaded.executor.networks
        self.names = [label.name for label in segmenter.manifest.labels]
        self.ids = segmenter.manifest.mask_ids
        self.seed = segmenter.manifest.defaults.seed

    def prior(self, patient: StudyPatient) -> tuple[list[tuple[Array, tuple[Array, ...]]], float]:
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

    def dice(self, patient: StudyPatient, probabilities: Array) -> dict[str, float]:
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


def as_probability(mask: Array) -> Array:
    """[-1, 1] -> [0, 1]."""
    probability: Array = np.multiply(mask + 1, 0.5, dtype=np.float32)
    return probability
