"""MedSegDiff's way to sample, with this model's networks: many steps, five samples, fused by their mean.

Wu et al. 2024 (arXiv:2211.00611) sample 1000 DDPM steps five times; their repository offers DPM-Solver with 50 steps
in its place. Only the sampling is theirs here: the prior and its features are computed once a slice, where their image
encoder runs at every step, and the time of making the start noise of the second and later samples is left out. Both
are in the recipe's favour.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from studies.library.patients import StudyPatient
from studies.library.runtime_slices import Answer, Maps
from studies.library.slicewise import Entrant
from verdiff.benchmarks.timing import Timing
from verdiff.bundle import Manifest
from verdiff.bundle.objects import stated
from verdiff.diffusion import SamplerTable, make_table

SAMPLES = 5
SOLVER_STEPS = 50
# Steps between the two runs whose difference is the cost of a step.
STEPS_TIMED = 20
FEWEST_ROUNDS = 3

Stopped = Callable[[SamplerTable, int], Answer]
"""A sampler's table and after how many steps to stop -> one sample of that."""


@dataclass(frozen=True)
class Recipe:
    """A table run ``samples`` times and averaged."""

    name: str
    table: SamplerTable
    samples: int = SAMPLES

    def entrants(self, stopped: Stopped, at_most: int) -> tuple[Entrant, Entrant]:
        """What is timed instead of the whole: one step, and ``STEPS_TIMED`` more."""
        return Entrant(stopped(self.table, 1), at_most), Entrant(stopped(self.table, 1 + STEPS_TIMED), at_most)

    def extrapolated(self, one_step: Timing, more_steps: Timing) -> Timing:
        """Seconds a slice of the whole recipe, round by round, from the timings of :meth:`entrants`."""
        steps = self.samples * len(self.table)
        return Timing(
            tuple(
                one + (steps - 1) * (more - one) / STEPS_TIMED
                for one, more in zip(one_step.seconds, more_steps.seconds, strict=True)
            )
        )


def recipes(manifest: Manifest) -> tuple[Recipe, Recipe]:
    """The full chain and its solver, on the process the model was trained on, started from noise."""
    process = stated(manifest.process, "process")
    full = process.timesteps
    return (
        Recipe(f"{full}-step DDPM x {SAMPLES}", make_table(process, sampler="ddpm", steps=full)),
        Recipe(
            f"{SOLVER_STEPS}-step DPM-Solver++(2M) x {SAMPLES}",
            make_table(process, sampler="dpmpp-2m", steps=SOLVER_STEPS),
        ),
    )


def really_run(
    answer: Answer, patients: Sequence[StudyPatient], chosen: Mapping[str, list[int]]
) -> tuple[dict[str, Maps], float]:
    """Run a whole recipe on the chosen slices of each patient; probabilities by patient, and seconds a slice."""
    found: dict[str, Maps] = {}
    begun = time.perf_counter()
    for patient in patients:
        if patient.name in chosen:
            indices = chosen[patient.name]
            found[patient.name] = answer(patient.image[indices], indices)
    return found, (time.perf_counter() - begun) / sum(len(indices) for indices in chosen.values())
