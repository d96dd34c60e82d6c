"""Arches and processes that no body's flood owns: which vertebra each is part of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from verdiff.anatomy.column import Floats
from verdiff.anatomy.segments import Segment, pitch_mm

_LEAST_CONTACT_MM2 = 5.0
# In distances between bodies: how far above and below its body's middle a part of a vertebra can have its own.
_REACH_ABOVE, _REACH_BELOW = 0.6, 1.6
# Lumbar spinous processes lie a little below the middle of their body (above, where a lordosis is strong), thoracic
# ones up to a whole vertebra; all of a spine's are shifted alike, within this range.
_PROCESS_BELOW, _PHASE, _ASTRAY = 0.45, 0.3, 0.75
# Of a typical one: what is at least this large is a process and not a splinter of one.
_LARGE = 0.4


@dataclass(frozen=True)
class Fragment:
    """A piece of bone with its place on the spine's curve: its middle, upper and lower end in millimetres."""

    label: int
    voxels: int
    at_mm: float
    low_mm: float
    high_mm: float

    def beside(self, other: Fragment) -> bool:
        """Whether the two lie at the same height, as the two halves of a lamina do."""
        common = min(self.high_mm, other.high_mm) - max(self.low_mm, other.low_mm)
        return common > 0.5 * min(self.high_mm - self.low_mm, other.high_mm - other.low_mm)


def owners(
    fragments: Sequence[Fragment], contacts: Mapping[tuple[int, int], float], segments: Sequence[Segment]
) -> dict[int, int]:
    """The number of the segment, from 1, for the label of each fragment that has one.

    A fragment joins the body it touches most, and then what is left the vertebra it touches most, if that one is in
    reach. Those that touch none, as the spinous processes in a stack of midline slices, are matched by their height.

    Args:
        fragments: Their labels are above the number of segments.
        contacts: Area in mm2 between two labels; labels from 1 to the number of segments are the bodies.
        segments: Segments from top to bottom.
    """
    owner: dict[int, int] = {}
    if not segments:
        return owner
    pitch, middles = pitch_mm(segments), np.array([segment.middle_mm for segment in segments])
    near: dict[int, list[tuple[int, float]]] = {}
    for (label, other), area in contacts.items():
        near.setdefault(label, []).append((other, area))

    def touched(fragment: Fragment, *, bodies: bool) -> tuple[float, int]:
        """The largest contact with a vertebra in reach, and its number."""
        areas = np.zeros(len(segments))
        for other, area in near.get(fragment.label, []):
            number = other if other <= len(segments) else 0 if bodies else owner.get(other, 0)
            if number:
                areas[number - 1] += area
        below = (fragment.at_mm - middles) / pitch
        areas[(below < -_REACH_ABOVE) | (below > _REACH_BELOW)] = 0
        return float(areas.max()), int(areas.argmax()) + 1

    for bodies in (True, False):
        while True:
            offers = [(*touched(one, bodies=bodies), one.label) for one in fragments if one.label not in owner]
            area, number, label = max(offers, default=(0.0, 0, 0))
            if area < _LEAST_CONTACT_MM2:
                break
            owner[label] = number
    free = [fragment for fragment in fragments if fragment.label not in owner]
    owner.update(_by_height(free, middles, pitch))
    return owner


def _by_height(free: Sequence[Fragment], middles: Floats, pitch: Floats) -> dict[int, int]:
    """Fragments that touch no vertebra, by where its process is to be expected; none for those far from any."""
    if not free:
        return {}
    heights = np.array([one.at_mm for one in free])
    sizes = np.array([one.voxels for one in free], dtype=np.float64)

    def away(shift: float) -> Floats:
        """How far each fragment lies below where each vertebra's process would be, [fragments, vertebrae]."""
        distance: Floats = (heights[:, None] - middles - shift * pitch) / pitch
        return distance

    # Processes come at the pitch of the bodies: how far below they lie is read from all of them at once.
    shifts = np.linspace(_PROCESS_BELOW - _PHASE, _PROCESS_BELOW + _PHASE, 25)
    missed = [
        float(np.average(np.minimum(np.abs(away(shift)).min(axis=1), 0.5) ** 2, weights=sizes)) for shift in shifts
    ]
    shift = float(shifts[int(np.argmin(np.array(missed) + 0.02 * (shifts - _PROCESS_BELOW) ** 2))])
    cost = away(shift) ** 2
    found = {one.label: int(row.argmin()) + 1 for one, row in zip(free, cost, strict=True) if row.min() <= _ASTRAY**2}
    typical = float(np.median(np.sort(sizes)[::-1][: len(middles)]))
    groups: list[list[int]] = []
    for index in np.argsort(heights).tolist():
        if sizes[index] < _LARGE * typical:
            continue
        if groups and free[index].beside(free[groups[-1][-1]]):
            groups[-1].append(index)
        else:
            groups.append([index])
    # A vertebra has one spinous process: the large ones are matched in order, no two to the same.
    for group, number in zip(groups, _in_order(np.array([cost[group].mean(axis=0) for group in groups])), strict=True):
        for index in group:
            found.pop(free[index].label, None)
            if number:
                found[free[index].label] = number
    return found


def _in_order(cost: Floats) -> list[int]:
    """For each row a column from 1, strictly ascending, 0 for a row that is left out: the least total cost.

    Args:
        cost: [rows, columns]; a row left out costs as much as the farthest that may be matched.
    """
    if cost.size == 0:
        return [0] * len(cost)
    rows, columns = cost.shape
    best = np.zeros((rows + 1, columns + 1))
    best[1:, 0] = _ASTRAY**2 * np.arange(1, rows + 1)
    for i in range(rows):
        for j in range(columns):
            best[i + 1, j + 1] = min(best[i, j] + cost[i, j], best[i + 1, j], best[i, j + 1] + _ASTRAY**2)
    chosen, i, j = [0] * rows, rows, columns
    while i and j:
        if best[i, j] == best[i, j - 1]:
            j -= 1
        elif best[i, j] == best[i - 1, j] + _ASTRAY**2:
            i -= 1
        else:
            chosen[i - 1] = j
            i, j = i - 1, j - 1
    return chosen
