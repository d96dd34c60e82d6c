"""What an argument is, is said by a noun phrase: a line that begins elsewhere is read twice."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from griffe import Docstring, DocstringSectionKind

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for room in ("verdiff", "studies", "tools") for path in (ROOT / room).rglob("*.py"))
LISTS = (DocstringSectionKind.parameters, DocstringSectionKind.attributes)
# Prepositions, conjunctions and pronouns that lean on another line.
FORBIDDEN = {
    "also", "and", "as", "at", "behind", "but", "by", "ditto", "for", "from", "in", "is", "it", "likewise", "not", "of",
    "off", "on", "or", "over", "same", "so", "that", "theirs", "this", "those", "to", "under", "when", "with", "within",
}  # fmt: skip

# A docstring of its own may say from where to where something goes, or speak of what it belongs to.
BEGUN_WELL = re.compile(r": (For|From|This|The same|It) ")


def argument_lines(source: str) -> list[tuple[str, str]]:
    """The name and the text of every argument and attribute that a module's docstrings describe."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    sections = [section for text in texts if text for section in Docstring(text).parse("google", warnings=False)]
    return [(each.name, each.description) for section in sections if section.kind in LISTS for each in section.value]


def opening_lines(source: str) -> list[tuple[str, str]]:
    """The name and the docstring of every class, function and property of a module."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (node.name, ast.get_docstring(node) or "") for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)
    ]


def leaning(lines: list[tuple[str, str]]) -> list[str]:
    """The lines that begin with a forbidden word, or with "the same"."""
    begun = [(name, text, re.findall(r"[A-Za-z]+", text)[:2]) for name, text in lines]
    lowered = [(name, text, [word.lower() for word in words]) for name, text, words in begun]
    return [
        f"{name}: {text}"
        for name, text, words in lowered
        if re.match(r"[A-Za-z]", text) and (words[0] in FORBIDDEN or words == ["the", "same"])
    ]


@pytest.mark.parametrize("room", sorted({path.relative_to(ROOT).parts[:2] for path in SOURCES}))
def test_an_argument_s_line_begins_with_what_it_is(room: tuple[str, str]) -> None:
    paths = [path for path in SOURCES if path.relative_to(ROOT).parts[:2] == room]
    found = {path.relative_to(ROOT).as_posix(): leaning(argument_lines(path.read_text("utf-8"))) for path in paths}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize("room", sorted({path.relative_to(ROOT).parts[:2] for path in SOURCES}))
def test_a_docstring_begins_with_what_it_describes(room: tuple[str, str]) -> None:
    paths = [path for path in SOURCES if path.relative_to(ROOT).parts[:2] == room]
    found = {path.relative_to(ROOT).as_posix(): leaning(opening_lines(path.read_text("utf-8"))) for path in paths}
    kept = {
        path: [line.split(":")[0] for line in lines if not BEGUN_WELL.search(line)] for path, lines in found.items()
    }
    assert {path: names for path, names in kept.items() if names} == {}


def test_a_line_that_leans_on_another_is_noticed() -> None:
    source = '''
def area(rows, cols, depth):
    """A block's.

    Args:
        rows: Rows of a slice.
        cols: Of a slice, likewise.
        depth: The same of a volume.
    """
'''
    assert leaning(argument_lines(source)) == ["cols: Of a slice, likewise.", "depth: The same of a volume."]
