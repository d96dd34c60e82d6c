"""Samplers and starts at equal denoiser passes, which is equal time: from noise, and warm from the prior."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from studies.library.patients import PatientScorer, StudyPatient, load_patients
from studies.library.runtime_slices import RuntimeSlices
from studies.library.slicewise import Scores, mean_dice, patient_means
from studies.options import StudyOptions, require_denoiser
from studies.pages.samplers import draw_samplers, markdown_page
from verdiff.benchmarks.cases import Findings
from verdiff.benchmarks.timing import Timing
from verdiff.bundle import Manifest
from verdiff.bundle.objects import stated
from verdiff.diffusion import SamplerTable, make_table
from verdiff.evaluate.statistics import paired_bootstrap, wilcoxon_p
from verdiff.runtime import Segmenter

# Ancestral DDPM is DDIM with eta = 1, table for table.
SAMPLERS: dict[str, tuple[str, float]] = {
    "DDIM": ("ddim", 0.0),
    "DDPM (DDIM, eta 1)": ("ddpm", 0.0),
    "DPM-Solver++(2M)": ("dpmpp-2m", 0.0),
}
STARTS: tuple[int | None, ...] = (None, 700, 500, 300, 200)
PASSES = (1, 2, 4, 8)


@dataclass(frozen=True)
class SamplerSetting:
    """One way to spend ``passes`` denoiser passes on a sample.

    Attributes:
        samplers: Names of the samplers; several where they are one and the same table.
        start: Timestep of the warm start from the prior, or None for noise.
        passes: Denoiser passes.
        table: The sampler.
    """

    samplers: tuple[str, ...]
    start: int | None
    passes: int
    table: SamplerTable

    @property
    def name(self) -> str:
        """Name of the record's rival."""
        where = "noise" if self.start is None else f"prior at {self.start}"
        return f"{' = '.join(self.samplers)}, from {where}, {self.passes} passes"


def run(options: StudyOptions) -> Findings:
    """One sample of every setting on a fold's validation patients.

    Raises:
        InputError: No data set was given, or a case cannot be read.
        DataError: The data set has no such fold, or the model no denoiser.
        BundleError: The bundle cannot be opened.
        BackendError: ONNX Runtime or OpenVINO is needed.
    """
    data = options.data_set
    segmenter = Segmenter.load(options.bundle, threads=options.threads)
    manifest = segmenter.manifest
    require_denoiser(manifest, there=segmenter.diffusion)
    patients = load_patients(segmenter, data, options.fold, every=options.every, say=options.say)
    known, process = settings(manifest), stated(manifest.process, "process")
    with RuntimeSlices(segmenter) as slices:
        result, timings = compare(slices, patients, known)
    return Findings(
        timings=timings,
        baseline=None,
        subject={
            **options.subject(segmenter, sum(len(patient.image) for patient in patients)),
            "process": f"{process.name}, signal scale {process.signal_scale:g}",
        },
        notes=(
            "Durations are seconds a slice of the loop and its noise, one value a patient; the prior's time, which all "
            "share, is not in them.",
            "Differences are to DDIM from noise with as many passes, paired by patient; 95 % bootstrap interval.",
        ),
        results=result,
        page=markdown_page(result),
        draw=lambda path: draw_samplers(result, path),
    )


def settings(manifest: Manifest) -> list[SamplerSetting]:
    """Every sampler from every start with every number of passes; samplers whose tables are equal are one setting.

    With one pass all are: x_start goes through the denoiser once, and its x0hat is the answer.
    """
    process = stated(manifest.process, "process")
    names: dict[tuple[int | None, int, SamplerTable], list[str]] = {}
    for start in STARTS:
        for count in PASSES:
            for name, (sampler, eta) in SAMPLERS.items():
                table = make_table(
                    process,
                    sampler=sampler,  # type: ignore[arg-type]
                    steps=count,
                    eta=eta,
                    start="noise" if start is None else "prior",
                    start_step=start,
                )
                names.setdefault((start, count, table), []).append(name)
    return [SamplerSetting(tuple(found), start, count, table) for (start, count, table), found in names.items()]


def compare(
    slices: RuntimeSlices, patients: Sequence[StudyPatient], known: Sequence[SamplerSetting]
) -> tuple[dict[str, Any], dict[str, Timing]]:
    """Dice and time of every setting; the prior's own as well.

    Returns:
        ``structures``, ``prior`` (mean Dice) and ``settings``, rows with Dice per patient and structure, the mean,
        milliseconds a slice and the difference to DDIM from noise; then seconds a slice by setting.
    """
    scorer = PatientScorer(slices.segmenter)
    conditions = {patient.name: slices.conditions(patient.image) for patient in patients}
    priors = {patient.name: scorer.dice(patient, slices.priors(patient.image)) for patient in patients}
    scores: list[Scores] = []
    timings: dict[str, Timing] = {}
    for setting in known:
        found: Scores = {}
        seconds = []
        for patient in patients:
            begun = time.perf_counter()
            probabilities = slices.sampled(conditions[patient.name], range(len(patient.image)), setting.table)
            seconds.append((time.perf_counter() - begun) / len(patient.image))
            found[patient.name] = scorer.dice(patient, probabilities)
        scores.append(found)
        timings[setting.name] = Timing(tuple(seconds))
    baselines = {
        setting.passes: patient_means(dice)
        for setting, dice in zip(known, scores, strict=True)
        if setting.start is None and "DDIM" in setting.samplers
    }
    rows = []
    for setting, dice in zip(known, scores, strict=True):
        means, baseline = patient_means(dice), baselines[setting.passes]
        rows.append(
            {
                "samplers": list(setting.samplers),
                "start": setting.start,
                "passes": setting.passes,
                "patients": dice,
                "dice": {name: float(np.mean([each[name] for each in dice.values()])) for name in scorer.names},
                "mean": mean_dice(dice),
                "milliseconds": 1000 * timings[setting.name].median,
                "difference": asdict(paired_bootstrap(means, baseline)) | {"p_value": wilcoxon_p(means, baseline)},
            }
        )
    return {"structures": scorer.names, "prior": mean_dice(priors), "settings": rows}, timings
