"""Racing on patients: every round alike, entrants taking turns, and slices chosen from the middle outwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from studies.library import slicewise
from studies.library.slicewise import Entrant, mean_dice, race, score, spread_slices
from verdiff.benchmarks.timing import Timing

pytestmark = pytest.mark.usefixtures("no_waiting")


@dataclass(frozen=True)
class Slices:
    """As much of a patient as a race looks at."""

    name: str
    image: np.ndarray
    truth: np.ndarray


def patients(*counts: int) -> list[Any]:
    return [Slices(f"p{i}", np.full((n, 1, 4, 4), i, np.float32), np.arange(n)) for i, n in enumerate(counts)]


@pytest.fixture
def seconds_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call takes as many seconds as it has slices, ten times that for patient 1."""

    def measured(function: Any, *, repeats: int, warmup: int) -> Timing:
        function()
        return Timing((taken.pop(),))

    monkeypatch.setattr(slicewise, "measure", measured)


taken: list[float] = []


def answer(images: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    taken.append(len(images) * (10.0 if images.flat[0] else 1.0))
    return images + np.asarray(numbers, np.float32)[:, None, None, None]


def test_a_part_of_each_patient_stands_for_all_of_its_slices(seconds_by_value: None) -> None:
    raced = race({"whole": Entrant(answer), "part": Entrant(answer, at_most=2)}, patients(6, 2), repeats=3, warmup=0)
    # Patient 0 has six slices of 1 s and patient 1 two of 10 s, so a slice takes 26 / 8 s for both.
    assert raced.timings["whole"].seconds == raced.timings["part"].seconds == (3.25,) * 3


def test_only_who_saw_every_slice_has_probabilities_of_them() -> None:
    given: list[list[int]] = []

    def noted(images: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        given.append(list(numbers))
        return answer(images, numbers)

    raced = race({"whole": Entrant(answer), "part": Entrant(noted, at_most=2)}, patients(5), repeats=1, warmup=0)
    assert set(raced.probabilities) == {"whole"}
    assert raced.probabilities["whole"]["p0"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert given == [[1, 2]]


def test_entrants_take_turns_to_be_first() -> None:
    order: list[str] = []

    def noted(name: str) -> Entrant:
        def run(images: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
            order.append(name)
            return images

        return Entrant(run)

    race({name: noted(name) for name in "ab"}, patients(1, 1), repeats=2, warmup=0)
    assert "".join(order) == "abba" + "baab"


def test_slices_are_spread_over_patients_from_the_middle() -> None:
    people = patients(5, 3, 1)
    assert spread_slices(people, 2) == {"p0": [2], "p1": [1]}
    assert spread_slices(people, 5) == {"p0": [1, 2], "p1": [0, 1], "p2": [0]}
    assert spread_slices(people, 100) == {"p0": [0, 1, 2, 3, 4], "p1": [0, 1, 2], "p2": [0]}


def test_a_score_is_of_the_chosen_slices_alone() -> None:
    class Judge:
        def dice(self, patient: Any, probabilities: np.ndarray) -> dict[str, float]:
            return {"truth": float(patient.truth.sum()), "found": float(probabilities.sum())}

    chosen = {"p1": [1, 2]}
    found = {"p1": np.ones((2, 1))}
    assert score(Judge(), patients(2, 3), chosen, found) == {"p1": {"truth": 3.0, "found": 2.0}}  # type: ignore[arg-type]


def test_the_mean_counts_patients_alike() -> None:
    assert mean_dice({"a": {"x": 1.0, "y": 0.5}, "b": {"x": 0.25, "y": 0.25}}) == pytest.approx(0.5)
