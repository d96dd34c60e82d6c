"""Names of vertebrae and discs, and the ids that public data sets give them."""

from __future__ import annotations

from dataclasses import dataclass

CERVICAL = tuple(f"C{number}" for number in range(1, 8))
THORACIC = tuple(f"T{number}" for number in range(1, 13))
LUMBAR = tuple(f"L{number}" for number in range(1, 6))
# From the head down.
PRESACRAL = (*CERVICAL, *THORACIC, *LUMBAR)


@dataclass(frozen=True)
class LabelMeaning:
    """What an id in a public mask stands for.

    Attributes:
        structure: ``vertebra``, ``disc``, ``canal`` or ``sacrum``.
        level: The single one: ``L5``, ``L5/S1``; of what there is one of, the structure's name.
    """

    structure: str
    level: str


CANAL = LabelMeaning("canal", "canal")
SACRUM = LabelMeaning("sacrum", "sacrum")


def vertebra(level: str) -> LabelMeaning:
    """A vertebra, by its level."""
    return LabelMeaning("vertebra", level)


def disc_below(level: str) -> LabelMeaning:
    """The disc under a vertebra: ``L5/S1`` under ``L5``."""
    order = (*PRESACRAL, "S1")
    return LabelMeaning("disc", f"{level}/{order[order.index(level) + 1]}")


def from_below(number: int) -> str:
    """The level of the ``number``-th vertebra above the sacrum, where 1 is L5: right for a spine with five lumbar ones.

    Raises:
        ValueError: ``number`` is not from 1 to 24.
    """
    if not 1 <= number <= len(PRESACRAL):
        raise ValueError(f"{number} is not from 1 to {len(PRESACRAL)}")
    return PRESACRAL[-number]


# VerSe and CTSpine1K count from the head down: 1-7 C1-C7, 8-19 T1-T12, 20-24 L1-L5, 25 L6; VerSe adds 28, T13.
CT_LEVELS: dict[int, LabelMeaning] = {
    **{number: vertebra(level) for number, level in enumerate(PRESACRAL, start=1)},
    25: vertebra("L6"),
    28: vertebra("T13"),
}
STRUCTURES = ("vertebra", "disc", "canal", "sacrum")


def level_order(level: str) -> tuple[int, int]:
    """Key that sorts levels as label tables list them: vertebrae from the sacrum up, then discs, canal, sacrum."""
    whole = (*PRESACRAL[:-5], "T13", *PRESACRAL[-5:], "L6")
    if level in whole:
        return 0, -whole.index(level)
    if "/" in level:
        return 1, -whole.index(level.split("/")[0])
    return 2, ("canal", "sacrum").index(level)
