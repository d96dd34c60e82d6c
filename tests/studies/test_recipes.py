"""The recipes: the chains they are, and times that follow from a few of their steps."""

from __future__ import annotations

import pytest

from studies.library.recipes import STEPS_TIMED, recipes
from tests.runtime.tiny_bundle import tiny_manifest
from verdiff.benchmarks.timing import Timing
from verdiff.diffusion import make_table


def test_they_are_the_full_chain_and_its_solver_from_noise() -> None:
    manifest = tiny_manifest()
    full, solver = recipes(manifest)
    process = manifest.process
    assert full.table == make_table(process, sampler="ddpm", steps=1000) and full.samples == 5
    assert solver.table == make_table(process, sampler="dpmpp-2m", steps=50) and solver.samples == 5
    assert (full.name, solver.name) == ("1000-step DDPM x 5", "50-step DPM-Solver++(2M) x 5")


def test_the_whole_is_extrapolated_round_by_round_from_the_cost_of_a_step() -> None:
    full, solver = recipes(tiny_manifest())
    one, more = Timing((0.3, 0.5)), Timing((0.3 + 0.1 * STEPS_TIMED, 0.5 + 0.2 * STEPS_TIMED))
    assert full.extrapolated(one, more).seconds == pytest.approx((0.2 + 5000 * 0.1, 0.3 + 5000 * 0.2))
    assert solver.extrapolated(one, more).seconds == pytest.approx((0.2 + 250 * 0.1, 0.3 + 250 * 0.2))


def test_what_is_timed_is_one_step_and_twenty_more() -> None:
    asked: list[int] = []

    def stopped(table, steps):  # type: ignore[no-untyped-def]
        asked.append(steps)
        return lambda images, numbers: images

    entrants = recipes(tiny_manifest())[0].entrants(stopped, 3)
    assert asked == [1, 21] and [entrant.at_most for entrant in entrants] == [3, 3]
