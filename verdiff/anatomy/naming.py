"""Which level each vertebra is: counted from a known one, or as the model's own labels agree on, or unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.anchor import Sight
from verdiff.anatomy.levels import impossible, upward
from verdiff.anatomy.segments import TALLEST_MM

# A gap of more than this many usual distances between two bodies hides a vertebra that the mask misses.
_MISSING = 1.6
# Of the voxels that the model named: how many must agree before its names are believed.
_AGREEMENT = 0.6
# Bodies on each side that say what height is usual, and how many times that two in one are taller.
_AROUND, _TWO_IN_ONE = 2, 1.5
TOLD = "told"
MODEL = "model"
SACRUM = "sacrum"
PICTURE = "picture"
_AS_IF_FIVE = "levels are counted from {}, as if five lumbar vertebrae lay on it: the images show no more"


@dataclass(frozen=True)
class Names:
    """Levels from the lowest vertebra up.

    Attributes:
        levels: One each; None where unknown.
        source: Origin of the names: ``"told"`` (the caller), ``"model"``, ``"sacrum"``, ``"picture"``, or None.
        remarks: What a reader should know.
        probability: Probability that the levels are right; None where it is not known.
    """

    levels: tuple[str | None, ...]
    source: str | None
    remarks: tuple[str, ...] = ()
    probability: float | None = None


def numbered(middles_mm: Sequence[float], heights_mm: Sequence[float] | None = None) -> tuple[int, ...]:
    """Numbers from 1 for bodies from the lowest up, one left out for each that is missing between two.

    Args:
        middles_mm: Their places on the curve, which runs downwards.
        heights_mm: Heights of the bodies. A collapsed body brings its neighbours nearer, and no body is missing
            elsewhere for that: with heights, distances are those that whole bodies would have.
    """
    steps = -np.diff(np.asarray(middles_mm, dtype=np.float64))
    if heights_mm is not None and len(heights_mm):
        lost = np.maximum(0.0, typical_heights(heights_mm) - np.asarray(heights_mm, dtype=np.float64))
        steps = steps + (lost[:-1] + lost[1:]) / 2
    numbers = [1] if len(middles_mm) else []
    for index, step in enumerate(steps):
        others = np.delete(steps, index)[max(0, index - 2) : index + 2]
        usual = float(np.median(others)) if others.size else float(step)
        numbers.append(numbers[-1] + (round(step / usual) if step > _MISSING * usual else 1))
    return tuple(numbers)


def typical_heights(heights_mm: Sequence[float]) -> NDArray[np.float64]:
    """What height a whole body would have in place of each, [n]: the second tallest of it and two on each side.

    A collapse and a piece make a body lower, so that the tall ones say what is usual; the tallest may be two in one.
    Of fewer than five it is the tallest.
    """
    found = np.asarray(heights_mm, dtype=np.float64)
    typical = np.empty(len(found))
    # A film has pixels and no millimetres: there all of its bodies say what is possible.
    most = max(TALLEST_MM, _TWO_IN_ONE * float(np.median(found)) if len(found) else 0.0)
    for index in range(len(found)):
        around = found[max(0, index - _AROUND) : index + _AROUND + 1]
        possible = np.sort(around[around <= most])
        typical[index] = found[index] if not possible.size else possible[-2 if len(possible) > 2 * _AROUND else -1]
    return typical


def names_of(
    numbers: Sequence[int],
    *,
    lowest: str | None,
    votes: Sequence[Mapping[str, int]] = (),
    on_sacrum: bool = False,
    sight: Sight | None = None,
) -> Names:
    """Levels of the vertebrae with these numbers.

    A level that the caller gives counts before the model's own, those before the sacrum, on which L5 usually lies, and
    that before what the picture shows.

    Args:
        numbers: Numbers that :func:`numbered` gives.
        lowest: Level of number 1, from the caller.
        votes: Number of voxels that the model gave each level, for each vertebra.
        on_sacrum: Whether the mask has a sacrum right below number 1.
        sight: What the picture shows of the bodies.
    """
    unknown = Names((None,) * len(numbers), None)
    if not numbers:
        return unknown
    if lowest is not None:
        return _counted(numbers, lowest, TOLD)
    if any(votes):
        return _voted(numbers, votes)
    if on_sacrum:
        names = _counted(numbers, "L5", SACRUM)
        return replace(names, remarks=(*names.remarks, _AS_IF_FIVE.format("the sacrum")))
    return unknown if sight is None else _sighted(numbers, sight)


def _sighted(numbers: Sequence[int], sight: Sight) -> Names:
    """Counted from the last body above the sacrum that the picture shows; what the mask has below it has no level."""
    last = numbers[sight.index]
    called = f"vertebra {last} of the mask" if last > 1 else "the lowest vertebra of the mask"
    if sight.refused is not None:
        remark = (
            f"in the picture {called} is the last above the sacrum with a probability of {sight.probability:.2f}, "
            f"{sight.refused}: no level is read from it"
        )
        return Names((None,) * len(numbers), None, (remark,))
    names = _counted([number - last + 1 for number in numbers[sight.index :]], "L5", PICTURE)
    if names.source is None:
        return Names((None,) * len(numbers), None, names.remarks)
    below = f"{sight.index} below it {'is' if sight.index == 1 else 'are'} taken for sacrum, and have no level"
    remarks = [_AS_IF_FIVE.format("the last body above the sacrum in the picture"), *([below] if sight.index else ())]
    return Names((None,) * sight.index + names.levels, PICTURE, tuple(remarks), sight.probability)


def _counted(numbers: Sequence[int], lowest: str, source: str) -> Names:
    chain = upward(lowest)
    if numbers[-1] > len(chain):
        remark = (
            f"levels unknown: {numbers[-1]} vertebrae counted up from {lowest} would end above C1; "
            f"there are {len(chain)} at most"
        )
        return Names((None,) * len(numbers), None, (remark,))
    return Names(tuple(chain[number - 1] for number in numbers), source)


def _voted(numbers: Sequence[int], votes: Sequence[Mapping[str, int]]) -> Names:
    """The model's names where they make a spine; else the nearest names that do, if enough voxels agree with them."""
    own = tuple(max(vote, key=lambda level: vote[level]) if vote else None for vote in votes)
    unclear = any(vote and 2 * max(vote.values()) <= sum(vote.values()) for vote in votes)
    reason = "a vertebra of two levels" if unclear else impossible(own, numbers)
    if reason is None and None not in own:
        return Names(own, MODEL)
    total = sum(sum(vote.values()) for vote in votes)
    best, agreed = None, 0
    for lowest in _anchors(numbers, votes):
        names = tuple(upward(lowest)[number - 1] for number in numbers)
        share = sum(vote.get(level, 0) for level, vote in zip(names, votes, strict=True))
        if share > agreed:
            best, agreed = names, share
    said = f"the model's own levels are not possible ({reason})" if reason else "the model leaves a vertebra unnamed"
    if best is None or agreed < _AGREEMENT * total:
        return Names((None,) * len(numbers), None, (f"levels unknown: {said}, and nothing near them is",))
    remark = f"{said}: replaced by the sequence that {agreed / total:.0%} of the named voxels agree with"
    return Names(best, MODEL, (remark,))


def _anchors(numbers: Sequence[int], votes: Sequence[Mapping[str, int]]) -> list[str]:
    """Lowest levels from which counting up reaches a level that some vertebra was given."""
    found = []
    for lowest in upward("L6") + upward("T13")[:1]:
        chain = upward(lowest)
        if numbers[-1] <= len(chain) and any(
            chain[number - 1] in vote for number, vote in zip(numbers, votes, strict=True)
        ):
            found.append(lowest)
    return found
