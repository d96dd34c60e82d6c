"""``docs/configuration.md``, made from the fields of the configuration's tables: part of ``make reference``."""

from __future__ import annotations

import dataclasses
import inspect
import re
from dataclasses import Field
from typing import Any

from tools.import_graph import ROOT
from verdiff.markdown import markdown_table
from verdiff.settings import COUNT, LEFT_OPEN, about, types_of
from verdiff.systems import SYSTEMS, System
from verdiff.train.config import RunConfig, shipped_configs
from verdiff.train.network_classes import settings_class

PAGE = ROOT / "docs" / "configuration.md"
TITLES = ("key", "type", "allowed", "default", "meaning")
INTRODUCTION = """\
# Every key of a training configuration

This page is made from the code by `make reference`. [Training](training.md) explains how the keys work together. The
[glossary](glossary.md) explains the terms.

A configuration is one TOML file. `verdiff train NAME` takes one that ships with verdiff, and `verdiff train PATH.toml`
takes one of yours. A key that is left out has the default below. An unknown key is refused, and so is a value of
another type or outside its limits. `--set TABLE.KEY=VALUE` replaces one value for one run:

```sh
verdiff train unet --data $VERDIFF_DATA/Dataset101_SpineMR -o runs/unet --set training.batch=2 --set training.seed=7
```

"Left out" stands for a default that a file cannot spell: leave the key out to have it.

These configurations ship with verdiff. Each is a file that you may copy: """


def page() -> str:
    """The whole page."""
    shipped = ", ".join(
        f"[`{name}`](../{path.relative_to(ROOT).as_posix()})" for name, path in shipped_configs().items()
    )
    lines = [f"{INTRODUCTION}{shipped}.", "", "## Keys outside of tables", ""]
    lines += _table([each for each in dataclasses.fields(RunConfig) if about(each).help], RunConfig)
    for each in dataclasses.fields(RunConfig):
        if each.name == "network":
            lines += _networks()
        elif not about(each).help:
            kind: Any = each.default_factory
            lines += ["", f"## `[{each.name}]`", "", plain(inspect.getdoc(kind)), ""]
            lines += _table(list(dataclasses.fields(kind)), kind)
    return "\n".join(lines) + "\n"


def _networks() -> list[str]:
    """The ``[network]`` tables, one a system."""
    lines = [
        "",
        "## `[network]`",
        "",
        "The system decides which keys this table has. `verdiff models` lists the systems.",
    ]
    for system in SYSTEMS.values():
        kind = settings_class(system.name)
        lines += ["", f"### `[network]` of {system.title}", "", _about_system(system, kind), ""]
        lines += _table(list(dataclasses.fields(kind)), kind, network=True)
    return lines


def _about_system(system: System, kind: type) -> str:
    said = plain(inspect.getdoc(kind)).split("\n\n")
    first = said[0].removeprefix("The `[network]` table of ").split("; ", 1)
    rest = [f"{first[1][0].upper()}{first[1][1:]}"] if len(first) > 1 and "`[network]`" not in first[1] else []
    return " ".join([f'`system = "{system.name}"`.', *rest, *said[1:]])


def _table(each: list[Field[Any]], kind: type, *, network: bool = False) -> list[str]:
    hints = types_of(kind)
    rows = [_row(field, str(hints[field.name]), network) for field in each]
    return markdown_table(TITLES, rows, words=TITLES)


def _row(field: Field[Any], hint: str, network: bool) -> list[str]:
    said = about(field)
    limits = said.limits or (COUNT if network and "int" in hint and "float" not in hint else None)
    allowed = "" if limits is None else f"each {limits}" if "tuple" in hint else str(limits)
    default = field.default if said.model is LEFT_OPEN else said.model
    return [f"`{field.name}`", type_in_words(hint), allowed, toml(default), said.help]


def type_in_words(hint: str) -> str:
    """A type as a user of TOML knows it: ``tuple[int, ...] | None`` is a list of whole numbers."""
    words = {"str": "text", "bool": "true or false", "int": "whole number", "float": "number"}
    bare = re.sub(r"<class '(\w+)'>", r"\1", hint).removesuffix(" | None")
    found = re.fullmatch(r"tuple\[(.+)\]", bare)
    if not found:
        return words[bare]
    elements = found[1].split(", ")
    count = "list of" if elements[-1] == "..." else str(len(elements))
    return f"{count} {words[elements[0]]}s"


def toml(value: Any) -> str:
    """A default as TOML spells it."""
    if value is None:
        return "left out"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(each) for each in value)}]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value:g}`"


def plain(text: str | None) -> str:
    """A docstring's words on one line a paragraph, with Markdown's marks for code."""
    paragraphs = (text or "").replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
