"""What the structures of a label table are to the anatomy: vertebrae, levels, discs, the canal, the sacrum."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from verdiff.anatomy.levels import VERSE_IDS
from verdiff.errors import InputError

_VERTEBRA = re.compile(r"vertebra(e|l[ _-]bod(y|ies))?|spine|bod(y|ies)|bone")
_DISC = re.compile(r"(intervertebral[ _-])?dis[ck]s?|ivds?|(dis[ck][ _-])?[ctl]\d+[ _/-]?([ctls]\d*)")
_CANAL = re.compile(r"(spinal[ _-])?(canal|cord)|thecal[ _-]sac|csf")
_SACRUM = re.compile(r"sacrum|s|s1")


@dataclass(frozen=True)
class Roles:
    """Label ids by what they are.

    Attributes:
        vertebrae: Ids of vertebrae of any level.
        levels: Id of each structure that is one named vertebra, with its level.
        discs: Ids of intervertebral discs.
        canal: Ids of the spinal canal and what lies in it.
        sacrum: Ids of the sacrum.
    """

    vertebrae: tuple[int, ...]
    levels: Mapping[int, str] = field(default_factory=dict)
    discs: tuple[int, ...] = ()
    canal: tuple[int, ...] = ()
    sacrum: tuple[int, ...] = ()

    @property
    def bones(self) -> tuple[int, ...]:
        """Every id that is vertebra, named or not."""
        return (*self.vertebrae, *self.levels)


def roles_of(label_ids: Mapping[str, int]) -> Roles:
    """What each structure is, from its name: ``vertebra``, ``L4``, ``disc``, ``L4/L5``, ``canal``, ``sacrum``.

    Args:
        label_ids: Name and id of the foreground structures. Names that say nothing here are left alone.

    Raises:
        InputError: None of them is a vertebra.
    """
    names = {name.strip().lower(): number for name, number in label_ids.items()}

    def matching(pattern: re.Pattern[str]) -> tuple[int, ...]:
        return tuple(number for name, number in names.items() if pattern.fullmatch(name))

    levels = {number: name.upper() for name, number in names.items() if name.upper() in VERSE_IDS}
    roles = Roles(matching(_VERTEBRA), levels, matching(_DISC), matching(_CANAL), matching(_SACRUM))
    if not roles.bones:
        raise InputError(
            f"a model of {', '.join(label_ids) or 'no structures'}",
            "a structure named vertebra, or vertebrae by level such as L5",
            "leave out --instances, --mesh and --stats, or use a model of vertebrae",
        )
    return roles
