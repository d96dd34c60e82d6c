"""What levels from the picture are worth: named right, named wrong, unknown, beside the plain rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from studies.levels.scenes import Scene
from verdiff.anatomy.anchor import AnchorModel, sight_of

RIGHT, WRONG, UNKNOWN = "right", "wrong", "unknown"
# How much of the sacrum the picture holds, by where it ends in pitches below L5's lower end.
GROUPS = ("whole", "sacrum cut", "end at the disc", "no sacrum")


@dataclass(frozen=True)
class Outcome:
    """What came of one scene.

    Attributes:
        case: Its name.
        group: How much of the sacrum it holds, of :data:`GROUPS`.
        answer: What the picture says: ``right``, ``wrong`` or ``unknown``.
        plain: What the plain rule says, that the lowest vertebra of the mask is L5.
        probability: Probability of the most likely body; 0 where the mask has too few.
        likely_right: Whether that body is the last above the sacrum, whatever its probability.
    """

    case: str
    group: str
    answer: str
    plain: str
    probability: float
    likely_right: bool


def outcomes(judged: Iterable[tuple[Scene, AnchorModel]]) -> Iterator[Outcome]:
    """What each scene's model says of it."""
    for scene, model in judged:
        sight = sight_of(scene.bodies, model)
        likely_right = sight is not None and sight.index == scene.last
        answer = UNKNOWN if sight is None or sight.refused is not None else RIGHT if likely_right else WRONG
        plain = RIGHT if scene.last == 0 else WRONG
        probability = 0.0 if sight is None else sight.probability
        yield Outcome(scene.case, group_of(scene.cut), answer, plain, probability, likely_right)


def group_of(cut: float | None) -> str:
    """The group of a scan that ends there."""
    if cut is None:
        return GROUPS[0]
    return GROUPS[1] if cut >= 0.5 else GROUPS[2] if cut >= 0 else GROUPS[3]


def table(name: str, found: Iterable[Outcome]) -> list[str]:
    """Rows of a page: of each group the number of scenes, and right, wrong and unknown of picture and plain rule."""
    listed = list(found)
    rows = []
    for group in GROUPS:
        of_it = [each for each in listed if each.group == group]
        if of_it:
            counts = [sum(each.answer == answer for each in of_it) for answer in (RIGHT, WRONG, UNKNOWN)]
            plain = sum(each.plain == WRONG for each in of_it)
            rows.append(f"| {name} | {group} | {len(of_it)} | {' | '.join(map(str, counts))} | {plain} |")
    return rows


HEAD = (
    "| scans | the picture | number | named right | named wrong | unknown | plain rule wrong |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)
RELIABILITY_HEAD = ("| stated probability | scenes | mean stated | right |", "| --- | --- | --- | --- |")
_EDGES = (0.0, 0.5, 0.8, 0.95, 1.0)


def reliability(found: Iterable[Outcome]) -> list[str]:
    """Rows of a page: how often the most likely body is the right one, by the probability stated for it."""
    listed, rows = [each for each in found if each.probability > 0], []
    for low, high in pairwise(_EDGES):
        within = [each for each in listed if low <= each.probability < high or each.probability == high == 1.0]
        if within:
            stated = sum(each.probability for each in within) / len(within)
            right = sum(each.likely_right for each in within) / len(within)
            rows.append(f"| {low:g} to {high:g} | {len(within)} | {stated:.3f} | {right:.3f} |")
    return rows
