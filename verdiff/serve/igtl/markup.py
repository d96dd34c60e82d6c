"""Commands and their answers in XML, as OpenIGTLink's COMMAND has them (protocol 3, ``command.md``).

Of a client's XML nothing is taken but the attributes of one element: a document type, and with it every entity, is
refused before it is read, and so is whatever is long or nested.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from verdiff.serve.igtl.codes import Code, Refused

LONGEST_XML = 1 << 14
_EXPECTED = '<Command Name="..." Value="..."/>, the value where the command has one'
# What XML 1.0 cannot hold, not even as a reference.
_NO_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def is_xml(text: str) -> bool:
    """Whether a command's text is meant as XML: no word begins with such a sign."""
    return text.lstrip().startswith("<")


def read_element(text: str) -> Mapping[str, str]:
    """The attributes ``Name`` and ``Value`` of the one element ``Command``; empty where it lacks them.

    Raises:
        Refused: It is longer than 16 KiB, no well-formed XML, or holds anything else.
    """
    if len(text) > LONGEST_XML:
        raise Refused(
            Code.OVERFLOW, f"XML of {len(text)} characters", f"at most {LONGEST_XML}", "send the command alone"
        )
    found: list[tuple[str, dict[str, str]]] = []

    def element(name: str, attributes: dict[str, str]) -> None:
        if found:
            raise _refused(f"an element {name[:40]!r} inside the first")
        found.append((name, attributes))

    def refuse(*_: object) -> NoReturn:
        raise _refused("XML with a document type, an entity or a processing instruction")

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = element
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.ProcessingInstructionHandler = parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(text.strip().encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise _refused(f"no well-formed XML ({error})") from error
    ((name, attributes),) = found
    if name != "Command" or attributes.keys() - {"Name", "Value"}:
        raise _refused(f"an element {name[:40]!r} with the attributes {', '.join(attributes)[:80] or 'none'}")
    return attributes


def result(name: str, answer: str | Mapping[str, Any]) -> str:
    """What a command that was obeyed gives: a text as one value, else an ``Item`` for each."""
    inside = _item("Message", answer) if isinstance(answer, str) else "".join(_items(answer))
    return _answered(name, f'<Result Success="TRUE">{inside}</Result>')


def failure(name: str, error: Refused) -> str:
    """Why a command was not obeyed: what was found, what was expected and what to do."""
    parts = {"Found": error.found, "Expected": error.expected, "ToDo": error.remedy}
    return _answered(name, f'<Result Success="FALSE">{"".join(_items(parts))}</Result>')


def _answered(name: str, inside: str) -> str:
    return f"<Command Name={_quoted(name)}>{inside}</Command>"


def _items(values: Mapping[str, Any]) -> list[str]:
    return [_item(name, value) for name, value in values.items()]


def _item(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"<Item Name={_quoted(name)}>{''.join(_items(value))}</Item>"
    if isinstance(value, list | tuple):
        return f"<Item Name={_quoted(name)}>{''.join(_item(str(at), each) for at, each in enumerate(value))}</Item>"
    if value is None:
        return f"<Item Name={_quoted(name)}/>"
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f"<Item Name={_quoted(name)} Value={_quoted(shown)}/>"


def _quoted(text: str) -> str:
    return quoteattr(_NO_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", text))


def _refused(found: str) -> Refused:
    return Refused(Code.CONFIG_ERROR, found, _EXPECTED, "send such an element, or the words without XML")
