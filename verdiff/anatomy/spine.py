"""What is found in a mask: the vertebrae, with the numbers they have in files."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.levels import VERSE_IDS, upward
from verdiff.imaging import Geometry

_SAYS = {
    "told": "as told",
    "model": "from the model",
    "sacrum": "from the sacrum",
    "picture": "from the picture",
}
CANAL_ID, PARTIAL_FROM, DISCS_FROM = 100, 100, 200


@dataclass(frozen=True)
class Vertebra:
    """One vertebra of a mask.

    Attributes:
        number: 1 is the lowest in the mask; one is left out for each that the mask misses.
        level: ``"L4"``, or None where nothing says.
        complete: Whether its body is there from top to bottom: neither the scan nor the mask ends in it.
        volume_ml: Volume with arch and processes, as far as the mask has them; None for a film.
        centroid_mm: LPS.
        height_mm: Height of the body along the spine's curve.
        separation: How clearly its body is apart from its neighbours, in [0, 1].
        uncertainty: Mean over its voxels, in [0, 1]; None where no map was given.
        confidence: (1 - uncertainty) x separation; None where no map was given.
        cut_sides: Sides of the field of view that it reaches; see :func:`verdiff.imaging.sides_cut`.
    """

    number: int
    level: str | None
    complete: bool
    volume_ml: float | None
    centroid_mm: tuple[float, float, float]
    height_mm: float
    separation: float
    uncertainty: float | None
    confidence: float | None
    cut_sides: tuple[str, ...] = ()

    @property
    def id(self) -> int:
        """Its value in the instances, as SPIDER has it: the number, 100 more where it is not complete."""
        return self.number if self.complete else PARTIAL_FROM + self.number

    @property
    def volume_complete(self) -> bool:
        """Whether its volume is all of it, arch and processes too, and not the part that the field of view holds."""
        return self.complete and not self.cut_sides

    @property
    def verse_id(self) -> int | None:
        """The value VerSe gives its level: 1 to 7 cervical, 8 to 19 thoracic, 20 to 25 lumbar, 28 T13."""
        return None if self.level is None else VERSE_IDS[self.level]

    @property
    def name(self) -> str:
        """``"L4"``, or ``"vertebra-02"``."""
        return self.level or f"vertebra-{self.number:02d}"


@dataclass(frozen=True, eq=False)
class Spine:
    """The vertebrae of one mask.

    Attributes:
        instances: uint8 [z, y, x] in the scan's grid, numbered as SPIDER's masks: vertebrae 1, 2, ... from the lowest
            up, 101, 102, ... where the scan or the mask ends in their body, 100 canal, 200 + n the disc below n.
        vertebrae: Vertebrae from the lowest up.
        named_by: ``"told"`` (the caller), ``"model"``, ``"sacrum"``, ``"picture"``, or None: levels unknown.
        remarks: What a reader should know: vertebrae missed, cut off, leaks left out, levels replaced.
        geometry: The grid.
        level_probability: Probability that the levels are right, where they are read from the picture; else None.
    """

    instances: NDArray[np.uint8]
    vertebrae: tuple[Vertebra, ...]
    named_by: str | None
    remarks: tuple[str, ...]
    geometry: Geometry
    level_probability: float | None = None

    @property
    def says_levels(self) -> str:
        """Where the levels come from, as words: ``"levels from the picture, probability 0.98"``."""
        if self.named_by is None:
            return "levels unknown"
        surely = "" if self.level_probability is None else f", probability {_down(self.level_probability)}"
        return f"levels {_SAYS[self.named_by]}{surely}"

    @property
    def marks_mm(self) -> dict[str, tuple[float, float, float]]:
        """What each vertebra is called on a picture, its level or its number, and where it lies, LPS."""
        return {vertebra.level or str(vertebra.number): vertebra.centroid_mm for vertebra in self.vertebrae}

    @property
    def structures(self) -> dict[str, int]:
        """Name and id of everything in the instances, vertebrae first: ``"L4"``, ``"disc-below-L4"``, ``"canal"``."""
        present = np.bincount(self.instances.ravel()[self.instances.ravel() > 0], minlength=256)
        named = {vertebra.name: vertebra.id for vertebra in self.vertebrae}
        for number in np.flatnonzero(present[DISCS_FROM:]).tolist():
            named[f"disc-below-{self.name_of(number)}"] = DISCS_FROM + number
        return {**named, "canal": CANAL_ID} if present[CANAL_ID] else named

    def name_of(self, number: int) -> str:
        """What the vertebra of this number is called, also one that is not in the mask: counted from the next below."""
        for vertebra in self.vertebrae:
            if vertebra.number == number:
                return vertebra.name
        below = max((each for each in self.vertebrae if each.number < number), key=lambda v: v.number, default=None)
        if below is not None and below.level is not None:
            chain = upward(below.level)
            if number - below.number < len(chain):
                return chain[number - below.number]
        return f"vertebra-{number:02d}"


def _down(probability: float) -> str:
    """Three digits, never rounded up to more than it is."""
    return f"{math.floor(probability * 1000) / 1000:.3f}"
