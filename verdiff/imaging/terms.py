"""What structures of the spine are called elsewhere: SNOMED CT codes, the words for them, and usual colours."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

# Of structures without a SNOMED CT code (DICOM PS3.3, 8.2: "99" begins the name of a private coding scheme).
PRIVATE_SCHEME = "99VERDIFF"
_LONGEST_CODE = 16


class NamedLabel(Protocol):
    """One structure of a mask, as a bundle's manifest has it: its number, its name and its SNOMED CT code if any."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def snomed(self) -> str | None: ...


@dataclass(frozen=True)
class Structure:
    """One structure of a mask, as other programs want it described.

    Attributes:
        label: Its number in masks.
        name: Name that the model gives it.
        scheme, code, meaning: Parts of a coded term: "SCT" for SNOMED CT, else verdiff's own scheme.
        colour: Red, green, blue from 0 to 255.
    """

    label: int
    name: str
    scheme: str
    code: str
    meaning: str
    colour: tuple[int, int, int]


# SNOMED CT codes of DICOM PS3.16, Annex L and CID 7151, with the words that go with them.
_TERMS = {
    "vertebra": ("51282000", "Vertebra", (241, 214, 145)),
    "disc": ("360499006", "Intervertebral disc", (111, 184, 210)),
    "canal": ("61853006", "Vertebral canal", (244, 214, 49)),
    "cord": ("2748008", "Spinal cord", (220, 140, 60)),
    "sacrum": ("54735007", "Sacrum", (200, 170, 110)),
}
# The same of each vertebra, from C1 and T1 and L1 downwards.
_CODES = {
    "C": (14806007, 39976000, 113205007, 5329002, 36978003, 36054005, 87391001),
    "T": (
        *(64864005, 53733008, 1626008, 73071006, 56401006, 45296009),
        *(62487009, 11068009, 82687006, 7610001, 12989004, 23215003),
    ),
    "L": (66794005, 14293000, 36470004, 11994002, 49668003),
}
_LEVELS = {f"{part}{n}": str(code) for part, codes in _CODES.items() for n, code in enumerate(codes, start=1)}
_MEANINGS = {code: meaning for code, meaning, _ in _TERMS.values()}


def structures(labels: Sequence[NamedLabel]) -> tuple[Structure, ...]:
    """The structures of a label table, described; a code that the table states wins over that of the name.

    Args:
        labels: Labels of a model, as in :attr:`verdiff.bundle.Manifest.labels`.
    """
    return tuple(_structure(label, index) for index, label in enumerate(labels))


def named_structures(named: Mapping[str, int]) -> tuple[Structure, ...]:
    """The structures of a mask of vertebrae, described: ``L5``, ``vertebra-01``, ``disc-below-L5``, ``canal``.

    Each vertebra has a colour of its own, the discs have one. A vertebra without a level is coded as a vertebra.

    Args:
        named: Name and number in the mask, as in :attr:`verdiff.anatomy.Spine.structures`.
    """
    return tuple(_named(name, label, index) for index, (name, label) in enumerate(named.items()))


def _named(name: str, label: int, index: int) -> Structure:
    if name in _LEVELS:
        return Structure(label, name, "SCT", _LEVELS[name], f"{name} vertebra", _hue(index))
    kind = next((kind for kind in ("vertebra", "disc", "canal") if name.split("-")[0] == kind), "vertebra")
    code, meaning, colour = _TERMS[kind]
    return Structure(label, name, "SCT", code, meaning, _hue(index) if kind == "vertebra" else colour)


def _structure(label: NamedLabel, index: int) -> Structure:
    known, meaning, colour = _TERMS.get(label.name.lower(), (None, label.name, _hue(index)))
    code = label.snomed or known
    if code is None:
        private = label.name.upper().replace(" ", "_")[:_LONGEST_CODE]
        return Structure(label.id, label.name, PRIVATE_SCHEME, private, label.name, colour)
    return Structure(label.id, label.name, "SCT", code, _MEANINGS.get(code, meaning), colour)


def _hue(index: int) -> tuple[int, int, int]:
    """A colour for the structure of that number; neighbours lie far apart by the golden ratio."""
    red, green, blue = colorsys.hsv_to_rgb((0.11 + 0.618034 * index) % 1.0, 0.55, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)
