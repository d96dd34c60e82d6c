"""A collapsed vertebra is named, and its healthy neighbours are neither named, cut to pieces nor counted anew."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tests.anatomy.phantom import BODY_MM, DISC, LABELS, PITCH_MM, Phantom, spine
from tests.anatomy.test_segments import HEIGHT, SPACE, column, cut, heights
from verdiff.anatomy import find_vertebrae
from verdiff.anatomy.naming import numbered, typical_heights


def collapsed(count: int, which: tuple[int, ...], height_mm: float, *, filled: bool) -> Phantom:
    """A spine whose vertebrae ``which`` have bodies of that height; what is lost is disc, or nothing."""
    made = spine(count)
    for number in which:
        within = made.along_mm - (count - number) * PITCH_MM
        lost = (made.truth == number) & (made.across_mm < 15) & (within < BODY_MM - height_mm)
        made.labels[lost] = DISC if filled else 0
    return made


CASES = [(count, which) for count in (2, 3, 4, 5) for k in (1, 2) for which in combinations(range(1, count + 1), k)]


@pytest.mark.parametrize("height_mm", [8, 12])
@pytest.mark.parametrize(("count", "which"), [(n, w) for n, w in CASES if len(w) < n])
def test_every_vertebra_is_counted_once_and_no_healthy_one_is_remarked_on(
    count: int, which: tuple[int, ...], height_mm: float
) -> None:
    made = collapsed(count, which, height_mm, filled=count % 2 == 0)
    found = find_vertebrae(made.labels, made.geometry, LABELS, lowest="L5")
    assert [vertebra.number for vertebra in found.vertebrae] == list(range(1, count + 1))
    healthy = {vertebra.name for vertebra in found.vertebrae if vertebra.number not in which}
    assert [remark for remark in found.remarks if remark.split(" is ")[0] in healthy] == []
    assert [remark for remark in found.remarks if "missing" in remark or "height alone" in remark] == []


@pytest.mark.parametrize("which", [(2,), (3,), (2, 3), (2, 4)])
def test_a_collapsed_vertebra_is_named_with_the_height_it_should_have(which: tuple[int, ...]) -> None:
    made = collapsed(5, which, 10, filled=True)
    found = find_vertebrae(made.labels, made.geometry, LABELS)
    said = [remark for remark in found.remarks if "mm tall" in remark]
    assert [remark.split(" is ")[0] for remark in said] == [f"vertebra-{number:02d}" for number in which]
    assert all("those around it 25 mm" in remark for remark in said)


def test_one_collapsed_witness_does_not_have_its_neighbours_cut_to_pieces() -> None:
    bone, disc = column(3)
    bone[HEIGHT + SPACE + 8 : 2 * HEIGHT + SPACE] = 0
    assert heights(cut(bone, disc)) == [HEIGHT, 8, HEIGHT]


def test_a_collapsed_lowest_vertebra_above_a_disc_is_no_leak() -> None:
    made = collapsed(4, (1,), 8, filled=True)
    found = find_vertebrae(made.labels, made.geometry, LABELS, lowest="L5")
    assert [vertebra.level for vertebra in found.vertebrae] == ["L5", "L4", "L3", "L2"]


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("height_mm", [8, 12])
def test_a_collapsed_topmost_vertebra_below_a_disc_is_whole_and_one_the_mask_ends_in_is_not(
    count: int, height_mm: float
) -> None:
    made = collapsed(count, (count,), height_mm, filled=True)
    top = find_vertebrae(made.labels, made.geometry, LABELS).vertebrae[-1]
    assert top.number == count and top.complete
    said = find_vertebrae(made.labels, made.geometry, LABELS).remarks
    assert any(remark.startswith(f"{top.name} is ") and "mm tall" in remark for remark in said)
    ended = collapsed(count, (count,), height_mm, filled=False)
    assert not find_vertebrae(ended.labels, ended.geometry, LABELS).vertebrae[-1].complete


def test_numbers_leave_none_out_where_bodies_have_collapsed_and_do_where_one_is_missing() -> None:
    middles = np.array([140.0, 116, 102, 78, 44])  # two of 6 mm among bodies of 26 mm, 8 mm apart
    assert numbered(middles, [26, 6, 6, 26, 26]) == (1, 2, 3, 4, 5)
    assert numbered([200, 165, 96, 62], [27, 27, 27, 27]) == (1, 2, 4, 5)


@pytest.mark.parametrize(
    ("found", "usual"),
    [
        ([26, 6], [26, 26]),
        ([12, 25, 12], [25, 25, 25]),
        ([26, 26, 6, 26, 26], [26, 26, 26, 26, 26]),
        ([25, 25, 40, 25, 25], [40, 40, 25, 40, 40]),
        ([25, 25, 60, 25, 25], [25, 25, 25, 25, 25]),
        ([30], [30]),
    ],
)
def test_what_is_usual_is_said_by_the_tall_ones_nearby(found: list[float], usual: list[float]) -> None:
    assert typical_heights(found).tolist() == usual
