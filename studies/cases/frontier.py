"""Dice against time: the prior alone, then steps x samples x policy, per patient, in the scan's own grid.

It also asks whether the diffusion works or copies its prior: with the prior damaged the result has to beat that
prior, and with another patient's image it has to fall apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from studies.library.patients import PatientScorer, StudyPatient, as_probability, load_patients
from studies.options import StudyOptions
from studies.pages.frontier import draw_frontier, markdown_page
from verdiff.benchmarks.cases import Findings
from verdiff.benchmarks.timing import Timing
from verdiff.bundle.objects import stated
from verdiff.diffusion import SamplerTable, fuse_mean
from verdiff.evaluate.fold import labelled_scans
from verdiff.export.frontier import MeasuredEffort, fast_of, measure_efforts, worth_choosing
from verdiff.runtime import Segmenter

Array = NDArray[np.float32]

SHIFT_PIXELS = 8
ERODE_PIXELS = 3


def run(options: StudyOptions) -> Findings:
    """Score the prior alone, then steps x samples x policy, on a fold's validation cases; check that nothing is copied.

    Raises:
        InputError: No data set was given, or a case cannot be read.
        DataError: The data set has no such fold.
        BundleError: The bundle cannot be opened.
        BackendError: ONNX Runtime or OpenVINO is needed.
    """
    data = options.data_set
    segmenter = Segmenter.load(options.bundle, threads=options.threads)
    manifest = segmenter.manifest
    scans = list(labelled_scans(data, options.fold, modality=manifest.modality))
    measured = measure_efforts(segmenter, scans, every=options.every, say=options.say)
    patients = load_patients(segmenter, data, options.fold, every=options.every, say=options.say)
    defaults = manifest.defaults
    result = {
        "structures": [label.name for label in manifest.labels],
        "settings": rows_of(measured),
        "copy_checks": run_copy_checks(segmenter, patients, say=options.say),
    }
    return Findings(
        timings={m.effort.title: Timing(tuple(m.seconds.values())) for m in measured},
        baseline=None,
        subject={
            **options.subject(segmenter, sum(len(patient.image) for patient in patients)),
            "sampler": f"{defaults.sampler}, eta {defaults.eta:g}, start {defaults.start}",
        },
        notes=("Durations are seconds a slice of the whole call, model loaded and scan read, one value a patient.",),
        results=result,
        page=markdown_page(result),
        draw=lambda path: draw_frontier(result, path),
    )


def run_copy_checks(
    segmenter: Segmenter, patients: list[StudyPatient], *, say: Callable[[str], object] = print
) -> list[dict[str, Any]]:
    """The default sampling from damaged priors, and with another patient's image.

    Returns:
        A row a damage: mean Dice of the prior the denoiser was given, and of its result.
    """
    scorer, manifest = PatientScorer(segmenter), segmenter.manifest
    table = stated(manifest.table, "table")
    damages: dict[str, Callable[[Array], Array]] = {
        "prior as it is": lambda f: f,
        f"prior eroded by {ERODE_PIXELS} pixels": lambda f: _eroded(f, ERODE_PIXELS),
        f"prior shifted by {SHIFT_PIXELS} pixels": lambda f: _shifted(f, SHIFT_PIXELS),
        "prior empty": lambda f: np.full_like(f, -1.0),
        "prior without information (0)": np.zeros_like,
    }
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in damages}
    swapped: list[tuple[float, float]] = []
    cached = [scorer.prior(patient)[0] for patient in patients]
    for number, (patient, conditions) in enumerate(zip(patients, cached, strict=True)):
        for name, damage in damages.items():
            given = [(damage(f).astype(np.float32), features) for f, features in conditions]
            scores[name].append(_before_and_after(scorer, patient, given, table))
        other = cached[(number + 1) % len(cached)]
        shapes = {f.shape for f, _ in (*conditions, *other)}
        if len(patients) > 1 and len(shapes) == 1:
            pairs = [(f, other[index % len(other)][1]) for index, (f, _) in enumerate(conditions)]
            swapped.append(_before_and_after(scorer, patient, pairs, table))
    scores["own prior, another patient's image"] = swapped
    rows = []
    for name, pairs_of_scores in scores.items():
        if pairs_of_scores:
            before, after = np.mean(pairs_of_scores, axis=0)
            rows.append({"given": name, "dice_of_that_prior": float(before), "dice_of_the_result": float(after)})
            say(f"{name}: prior {before:.4f} -> result {after:.4f}")
    return rows


def rows_of(measured: Sequence[MeasuredEffort]) -> list[dict[str, Any]]:
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


def _mean(scores: Mapping[str, float]) -> float:
    return float(np.mean(list(scores.values())))


def _before_and_after(
    scorer: PatientScorer, patient: StudyPatient, given: list[tuple[Array, tuple[Array, ...]]], table: SamplerTable
) -> tuple[float, float]:
    prior = np.concatenate([f for f, _ in given])
    drawn, _ = scorer.sample(given, table, 1)
    return (
        _mean(scorer.dice(patient, as_probability(prior))),
        _mean(scorer.dice(patient, fuse_mean(drawn).probabilities)),
    )


def _eroded(f: Array, pixels: int) -> Array:
    return ndimage.grey_erosion(f, size=(1, 1, 2 * pixels + 1, 2 * pixels + 1))


def _shifted(f: Array, pixels: int) -> Array:
    return ndimage.shift(f, (0, 0, pixels, pixels), order=0, cval=-1.0)
