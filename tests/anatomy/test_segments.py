"""Cuts along a column whose cross sections are given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.segments import Segment, pitch_mm, segments_of

Floats = NDArray[np.float64]
HEIGHT, SPACE = 26, 8


def column(count: int = 6, *, discs: bool = True) -> tuple[Floats, Floats]:
    """Whole bodies with a space below each, discs in the spaces."""
    pitch = HEIGHT + SPACE
    bone, disc = np.zeros(count * pitch), np.zeros(count * pitch)
    for index in range(count):
        bone[index * pitch : index * pitch + HEIGHT] = 1
        disc[index * pitch + HEIGHT + 2 : (index + 1) * pitch - 2] = 0.9 if discs else 0
    return bone, disc


def cut(bone: Floats, disc: Floats, *, open_top: bool = False) -> list[Segment]:
    return segments_of(bone, disc, open_top=open_top, open_bottom=False)


def heights(segments: list[Segment]) -> list[int]:
    return [round(segment.height_mm) for segment in segments if not segment.dropped]


def test_discs_and_gaps_part_bodies() -> None:
    for discs, witness in ((True, "disc"), (False, "gap")):
        found = cut(*column(discs=discs))
        assert heights(found) == [HEIGHT] * 6
        assert {segment.below.witness for segment in found[:-1] if segment.below} == {witness}


def test_a_hole_in_a_body_is_no_space_between_two() -> None:
    for discs in (True, False):
        bone, disc = column(discs=discs)
        bone[2 * 34 + 11 : 2 * 34 + 15] = 0.3
        assert heights(cut(bone, disc)) == [HEIGHT] * 6


def test_a_torn_body_is_one_where_discs_are_known() -> None:
    bone, disc = column()
    bone[2 * 34 + 10 : 2 * 34 + 15] = 0
    assert heights(cut(bone, disc)) == [HEIGHT] * 6


def test_a_collapsed_vertebra_between_two_discs_stays() -> None:
    bone, disc = column(5)
    flat_bone, flat_disc = np.zeros(14), np.zeros(14)
    flat_bone[:6], flat_disc[8:12] = 1, 0.9
    bone, disc = np.insert(bone, 2 * 34, flat_bone), np.insert(disc, 2 * 34, flat_disc)
    assert heights(cut(bone, disc)) == [HEIGHT, HEIGHT, 6, HEIGHT, HEIGHT, HEIGHT]


def test_a_fused_pair_is_cut_where_there_is_least_bone() -> None:
    bone, disc = column()
    fused = slice(2 * 34, 3 * 34 + HEIGHT)
    bone[fused], disc[fused] = 1, 0
    bone[2 * 34 + 33] = 0.9
    found = cut(bone, disc)
    assert len(heights(found)) == 6
    assert found[2].below is not None
    assert found[2].below.witness == "height"
    assert abs(found[2].below.at_mm - (2 * 34 + 33)) <= 2
    assert found[2].separation < 0.3 < found[1].separation or found[1].below == found[2].above


def test_three_fused_vertebrae_become_three() -> None:
    bone, disc = column()
    bone[34 : 3 * 34 + HEIGHT], disc[34 : 3 * 34 + HEIGHT] = 1, 0
    assert len(heights(cut(bone, disc))) == 6


def test_a_leak_at_the_lower_end_is_dropped_and_a_stump_at_the_top_is_not() -> None:
    bone, disc = column()
    leak = np.concatenate([bone, np.ones(6), np.zeros(4)])
    found = cut(leak, np.concatenate([disc, np.zeros(10)]))
    assert [segment.dropped for segment in found] == [False] * 6 + [True]
    stump = cut(bone[20:], disc[20:], open_top=True)
    assert [segment.dropped for segment in stump] == [False] * 6
    assert [segment.cut_off for segment in stump] == [True] + [False] * 5


def test_a_stump_that_ends_before_the_scan_does_is_cut_off_all_the_same() -> None:
    bone, disc = column()
    assert [segment.cut_off for segment in cut(bone[16:], disc[16:])] == [True] + [False] * 5


def test_pitch_is_the_distance_of_the_bodies_around() -> None:
    assert np.allclose(pitch_mm(cut(*column())), HEIGHT + SPACE)
    assert np.allclose(pitch_mm(cut(*column(1))), 1.3 * HEIGHT, atol=1.5)
