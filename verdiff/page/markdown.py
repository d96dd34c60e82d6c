"""The Markdown that verdiff's pages are written in, as HTML: the same tables, rendered in one place.

It knows what those pages use: headings, paragraphs, lists, indented code, tables, ``code`` and **bold**. All else is
text, markup included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from verdiff.page.html import Html, element, joined, text_of

_HEADING = re.compile(r"(#{1,4}) (.*)")
_SPAN = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")
_CELL = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"\|( *:?-+:? *\|)+")
_CODE, _ITEM = "    ", "- "


def html_of(markdown: str) -> Html:
    """A page of Markdown as HTML, a block a line."""
    blocks: list[Html] = []
    lines = markdown.splitlines()
    at = 0
    while at < len(lines):
        kind = next((each for each in _KINDS if each[0](lines[at])), None)
        if kind is None:
            at += 1
            continue
        begins, made = kind
        end = at + 1
        if made is not _heading:
            while end < len(lines) and lines[end].strip() and next(k for k in _KINDS if k[0](lines[end]))[0] is begins:
                end += 1
        blocks.append(made(lines[at:end]))
        at = end
    return joined(blocks, "\n")


def _heading(lines: Sequence[str]) -> Html:
    found = _HEADING.fullmatch(lines[0])
    assert found is not None
    return element(f"h{len(found[1])}", _spans(found[2]))


def _table(lines: Sequence[str]) -> Html:
    rows = [_cells(line) for line in lines]
    if len(lines) < 2 or not _RULE.fullmatch(lines[1].strip()):
        return _paragraph(lines)
    titles, rules, body = rows[0], rows[1], rows[2:]
    sides = ["figure" if rule.endswith(":") else None for rule in rules]

    def row(cell: str, cells: Sequence[str]) -> Html:
        made = (element(cell, _spans(text), class_=side) for text, side in zip(cells, sides, strict=False))
        return element("tr", *made)

    head = element("thead", row("th", titles))
    table = element("table", head, element("tbody", *(row("td", cells) for cells in body)))
    return element("div", table, class_="wide")


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in _CELL.split(line.strip().strip("|"))]


def _list(lines: Sequence[str]) -> Html:
    return element("ul", *(element("li", _spans(line.removeprefix(_ITEM))) for line in lines))


def _code(lines: Sequence[str]) -> Html:
    return element("pre", "\n".join(line.removeprefix(_CODE) for line in lines))


def _paragraph(lines: Sequence[str]) -> Html:
    """Lines that end in two spaces are broken."""
    parts = [_spans(line.strip()) + ("<br>" if line.endswith("  ") else "") for line in lines]
    return element("p", Html("\n".join(parts)))


def _spans(text: str) -> Html:
    """Text with its ``code`` and **bold**."""
    found, at = [], 0
    for match in _SPAN.finditer(text):
        found += [text_of(text[at : match.start()])]
        found += [element("code", match[1]) if match[1] else element("strong", match[2])]
        at = match.end()
    return joined([*found, text[at:]])


_KINDS: tuple[tuple[Callable[[str], bool], Callable[[Sequence[str]], Html]], ...] = (
    (lambda line: _HEADING.fullmatch(line) is not None, _heading),
    (lambda line: line.startswith("|"), _table),
    (lambda line: line.startswith(_ITEM), _list),
    (lambda line: line.startswith(_CODE), _code),
    (lambda line: bool(line.strip()), _paragraph),
)
