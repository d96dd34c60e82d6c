"""The few words that a client may say in a STRING or a COMMAND."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from verdiff.serve.igtl.codes import Code, Refused
from verdiff.serve.igtl.markup import is_xml, read_element

HELP = "info | cancel | deadline MILLISECONDS | deadline off | surfaces on | surfaces off | help"
_SWITCH = {"on": True, "off": False}


@dataclass(frozen=True)
class Words:
    """What is to be done: a deadline (0 for none), surfaces, or a thing by its name."""

    what: str
    deadline: float | None = None
    surfaces: bool | None = None


def words_of_string(text: str) -> Words:
    """The words of a STRING, such as ``deadline 2000``.

    Raises:
        Refused: They are none of :data:`HELP`.
    """
    match text.lower().split():
        case ["info" | "cancel" | "help" as what]:
            return Words(what)
        case ["deadline", "off"]:
            return Words("deadline", deadline=0.0)
        case ["deadline", number] if (milliseconds := _positive(number)) is not None:
            return Words("deadline", deadline=milliseconds)
        case ["surfaces", "on" | "off" as switch]:
            return Words("surfaces", surfaces=_SWITCH[switch])
    raise Refused(Code.UNKNOWN_INSTRUCTION, f"the words {text[:80]!r}", HELP, "say one of these")


def words_of_command(name: str, text: str) -> Words:
    """The words of a COMMAND: its name is the first, or the first of its text, or stands in its XML.

    Raises:
        Refused: They are none of :data:`HELP`, the XML is none that is taken, or it names another command.
    """
    if is_xml(text):
        element = read_element(text)
        inside = element.get("Name", name)
        if name and inside.lower() != name.lower():
            found = f"the command {name[:40]!r} with XML that names {inside[:40]!r}"
            raise Refused(Code.CONFIG_ERROR, found, "one name", "leave one of them out, or name the same")
        return words_of_string(f"{inside} {element.get('Value', '')}".strip())
    known = name.lower() in ("info", "cancel", "help", "deadline", "surfaces")
    return words_of_string(f"{name} {text}" if known else text)


def in_words(answer: str | Mapping[str, Any]) -> str:
    """What a command gives as a text: words, or JSON."""
    return answer if isinstance(answer, str) else json.dumps(answer)


def _positive(number: str) -> float | None:
    try:
        value = float(number)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
