"""Time and Dice of the same call: rivals on the slices of a fold's patients, interleaved patient by patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from studies.library.patients import PatientScorer, StudyPatient
from studies.library.runtime_slices import Answer, Maps
from verdiff.benchmarks.harness import measure
from verdiff.benchmarks.timing import Timing

Scores = dict[str, dict[str, float]]
"""Patient -> structure -> Dice."""


@dataclass(frozen=True)
class Entrant:
    """What is timed on every patient.

    Attributes:
        answer: The way to segment.
        at_most: Slices of a patient it is given, those in the middle, which then stand for all of them; None is every
            slice.
    """

    answer: Answer
    at_most: int | None = None


@dataclass(frozen=True)
class Raced:
    """What came of timing some entrants.

    Attributes:
        timings: Entrant -> seconds a slice, one value a round, over all patients.
        probabilities: Entrant that saw every slice -> patient -> [S, K, H, W].
    """

    timings: dict[str, Timing]
    probabilities: dict[str, dict[str, Maps]]


def race(
    entrants: Mapping[str, Entrant],
    patients: Sequence[StudyPatient],
    *,
    repeats: int,
    warmup: int = 1,
    on_round: Callable[[int], object] | None = None,
) -> Raced:
    """Run the entrants on every patient ``repeats`` times; on each patient one after the other, in changing order.

    A round's value is the sum over the patients, so rounds are alike however the patients differ; and since the
    entrants take turns within it, a load that comes and goes hits them alike.

    Args:
        entrants: Name -> what to time.
        patients: Patients with their slices.
        repeats: Timed rounds.
        warmup: Runs on the first patient before them, untimed.
        on_round: Called with the number of each round after it, from 1.
    """
    names = list(entrants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    kept: dict[str, dict[str, Maps]] = {name: {} for name, entrant in entrants.items() if entrant.at_most is None}
    for name in names * warmup:
        _timed(entrants[name], patients[0])
    slices = sum(len(patient.image) for patient in patients)
    for number in range(repeats):
        totals = dict.fromkeys(names, 0.0)
        for turn, patient in enumerate(patients):
            first = (number + turn) % len(names)
            for name in names[first:] + names[:first]:
                taken, probabilities = _timed(entrants[name], patient)
                totals[name] += taken * len(patient.image)
                if name in kept and number == 0:
                    kept[name][patient.name] = probabilities
        for name in names:
            seconds[name].append(totals[name] / slices)
        if on_round is not None:
            on_round(number + 1)
    return Raced({name: Timing(tuple(values)) for name, values in seconds.items()}, kept)


def score(
    scorer: PatientScorer,
    patients: Sequence[StudyPatient],
    chosen: Mapping[str, list[int]],
    probabilities: Mapping[str, Maps],
) -> Scores:
    """Dice of each structure in the scan's pixels, over the chosen slices of each patient.

    Args:
        scorer: Scores in the scan's own grid.
        patients: Patients with their true masks.
        chosen: Patient -> the slices that count; patients that are not there do not.
        probabilities: Patient -> [n, K, H, W] of those slices.
    """
    return {
        patient.name: scorer.dice(part_of(patient, chosen[patient.name]), probabilities[patient.name])
        for patient in patients
        if patient.name in chosen
    }


def every_slice(patients: Sequence[StudyPatient]) -> dict[str, list[int]]:
    """Patient -> all of its slices."""
    return {patient.name: list(range(len(patient.image))) for patient in patients}


def spread_slices(patients: Sequence[StudyPatient], count: int) -> dict[str, list[int]]:
    """``count`` slices in all: one of every patient, the middle one, before a second of any; patient -> slices."""
    order: list[tuple[int, int, str, int]] = []
    for place, patient in enumerate(patients):
        order += [(rank, place, patient.name, index) for rank, index in enumerate(_from_the_middle(len(patient.image)))]
    chosen: dict[str, list[int]] = {}
    for _, _, name, index in sorted(order)[:count]:
        chosen.setdefault(name, []).append(index)
    return {name: sorted(indices) for name, indices in chosen.items()}


def part_of(patient: StudyPatient, indices: Sequence[int]) -> StudyPatient:
    """The patient with these slices alone."""
    picked = list(indices)
    return replace(patient, image=patient.image[picked], truth=patient.truth[picked])


def patient_means(scores: Scores) -> list[float]:
    """Mean over the structures, one value a patient."""
    return [float(np.mean(list(by_structure.values()))) for by_structure in scores.values()]


def mean_dice(scores: Scores) -> float:
    """Mean over structures, then over patients."""
    return float(np.mean(patient_means(scores)))


def _timed(entrant: Entrant, patient: StudyPatient) -> tuple[float, Maps]:
    """Seconds a slice, and the probabilities of the slices it was given."""
    slices = len(patient.image)
    count = slices if entrant.at_most is None else min(entrant.at_most, slices)
    first = (slices - count) // 2
    images, numbers = patient.image[first : first + count], list(range(first, first + count))
    found: list[Maps] = []
    taken = measure(lambda: found.append(entrant.answer(images, numbers)), repeats=1, warmup=0).median
    return taken / count, found[0]


def _from_the_middle(count: int) -> list[int]:
    """0 to ``count`` - 1, the middle first."""
    return sorted(range(count), key=lambda index: abs(index - count // 2))
