"""The levels of the spine: their order, their ids in VerSe, and which sequences of them can exist in a person."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from verdiff.errors import InputError

CERVICAL = tuple(f"C{n}" for n in range(1, 8))
THORACIC = tuple(f"T{n}" for n in range(1, 13))
LUMBAR = tuple(f"L{n}" for n in range(1, 6))

# Cranial to caudal. T13 and L6 are the supernumerary vertebrae that VerSe labels; a spine may have them or not, may
# lack T12, and may have a fifth lumbar vertebra that is part of the sacrum (Sekuboyina et al. 2021, Table 2).
ORDER = (*CERVICAL, *THORACIC, "T13", *LUMBAR, "L6")
_VARIANTS = frozenset({"T13", "L6"})
_MAY_LACK = frozenset({"T12", "L5"})

VERSE_IDS: dict[str, int] = {
    **{level: number for number, level in enumerate((*CERVICAL, *THORACIC, *LUMBAR, "L6"), start=1)},
    "T13": 28,
}


def parse_level(text: str) -> str:
    """``"l5"`` or ``"L05"`` as ``"L5"``; ``"D12"``, as some write T12, as ``"T12"``.

    Raises:
        InputError: It names no vertebra.
    """
    found = re.fullmatch(r"([CTDL])0?(\d{1,2})", text.strip().upper())
    level = "" if found is None else f"{found[1].replace('D', 'T')}{found[2]}"
    if level not in VERSE_IDS:
        raise InputError(
            f"the level {text!r}",
            "a vertebra: C1 to C7, T1 to T12 (T13), L1 to L5 (L6)",
            "name the lowest vertebra in the mask, for example L5",
        )
    return level


def upward(lowest: str) -> tuple[str, ...]:
    """The levels from ``lowest`` to C1, of a spine that has no vertebra too many but perhaps ``lowest`` itself."""
    at = ORDER.index(lowest)
    return tuple(level for level in reversed(ORDER[: at + 1]) if level == lowest or level not in _VARIANTS)


def impossible(levels: Sequence[str | None], numbers: Sequence[int]) -> str | None:
    """Why no person's spine reads like this, or None if one may.

    Args:
        levels: Levels of the vertebrae from the lowest up; None where unknown.
        numbers: Their place counted from the lowest, which leaves out one for each vertebra that the mask misses.
    """
    known = [(level, number) for level, number in zip(levels, numbers, strict=True) if level is not None]
    names = [level for level, _ in known]
    if len(set(names)) < len(names):
        twice = sorted({level for level in names if names.count(level) > 1}, key=ORDER.index)
        return f"{' and '.join(twice)} more than once"
    for (lower, first), (upper, second) in pairwise(known):
        between = ORDER[ORDER.index(upper) + 1 : ORDER.index(lower)]
        if ORDER.index(upper) > ORDER.index(lower):
            return f"{upper} above {lower}"
        least = sum(level not in _VARIANTS | _MAY_LACK for level in between)
        if not least <= second - first - 1 <= len(between):
            return f"{upper} {second - first} above {lower}"
    return None
