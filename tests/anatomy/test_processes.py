"""Loose pieces of arches: which vertebra each is given to."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from verdiff.anatomy.processes import _ASTRAY, Fragment, _in_order, owners
from verdiff.anatomy.segments import Segment

PITCH = 34.0
BODIES = [Segment(PITCH * n, PITCH * n + 26, None, None, 26.0, False) for n in range(5)]


def fragment(label: int, at_mm: float, voxels: int = 2000, height_mm: float = 18.0) -> Fragment:
    return Fragment(label, voxels, at_mm, at_mm - height_mm / 2, at_mm + height_mm / 2)


def both(*pairs: tuple[int, int, float]) -> dict[tuple[int, int], float]:
    return {key: area for a, b, area in pairs for key in ((a, b), (b, a))}


def test_free_processes_belong_to_the_bodies_above_them() -> None:
    for below in (2.0, 10.0, 20.0):
        free = [fragment(6 + n, body.middle_mm + below) for n, body in enumerate(BODIES)]
        assert owners(free, {}, BODIES) == {6 + n: n + 1 for n in range(5)}


def test_the_body_that_is_touched_counts_before_a_larger_contact_with_a_neighbours_arch() -> None:
    arch, other = fragment(6, 45.0), fragment(7, 80.0)
    touching = both((6, 2, 60.0), (7, 3, 90.0), (6, 7, 200.0))
    assert owners([arch, other], touching, BODIES) == {6: 2, 7: 3}


def test_a_contact_out_of_reach_is_not_believed() -> None:
    assert owners([fragment(6, 150.0)], both((6, 1, 500.0)), BODIES)[6] != 1


def test_what_touches_an_arch_goes_with_it() -> None:
    arch, tip = fragment(6, 45.0), fragment(7, 58.0, 300)
    assert owners([arch, tip], both((6, 2, 60.0), (6, 7, 20.0)), BODIES) == {6: 2, 7: 2}


def test_two_processes_are_not_given_to_one_vertebra_and_two_halves_of_one_are() -> None:
    """The lowest process of a lordotic spine lies nearer to its neighbour's place than to its own."""
    middles = [body.middle_mm for body in BODIES]
    free = [fragment(6 + n, middle + 8, height_mm=14) for n, middle in enumerate(middles[:4])]
    low = fragment(20, middles[4] - 14, height_mm=14)
    halves = [fragment(30, middles[1] + 7, height_mm=14)]
    found = owners([*free, low, *halves], {}, BODIES)
    assert found == {6: 1, 7: 2, 8: 3, 9: 4, 20: 5, 30: 2}


def test_a_process_of_a_vertebra_above_the_scan_belongs_to_none() -> None:
    free = [fragment(6 + n, body.middle_mm + 10) for n, body in enumerate(BODIES)]
    assert 20 not in owners([*free, fragment(20, -28.0)], {}, BODIES)


def test_without_bodies_nothing_is_owned() -> None:
    assert owners([fragment(1, 5.0)], {}, []) == {}


@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.floats(0, 2, width=32)))
def test_matching_in_order_is_the_least_total_cost(cost: np.ndarray) -> None:
    rows, columns = cost.shape

    def total(chosen: list[int]) -> float:
        return sum(cost[i, j - 1] if j else _ASTRAY**2 for i, j in enumerate(chosen))

    found = _in_order(cost)
    taken = [j for j in found if j]
    assert taken == sorted(set(taken))
    best = min(
        sum(cost[i, j] for i, j in zip(some, places, strict=True)) + (rows - len(some)) * _ASTRAY**2
        for size in range(min(rows, columns) + 1)
        for some in combinations(range(rows), size)
        for places in combinations(range(columns), size)
    )
    assert np.isclose(total(found), best)
