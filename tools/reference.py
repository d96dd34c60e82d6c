"""``docs/reference/``: what is public of the package, made from its docstrings and signatures (``make reference``).

The names are those of a room's ``__all__``. griffe reads the docstrings. Signatures are those that ``inspect`` shows,
so that keywords which come from a record stand there one by one.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import cached_property
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

from griffe import Docstring, DocstringSectionKind

from tools import configuration, exit_codes
from tools.import_graph import ROOT
from verdiff.keywords import signature_of

FOLDER = ROOT / "docs" / "reference"
# What a page is about, in the order of the index.
ROOMS = {
    "verdiff.runtime": "segment scans: load a model once, call it many times",
    "verdiff.runtime.writing": "write a result's files as the command line does",
    "verdiff.runtime.margins": "surfaces that hold the true structure, of a calibrated model",
    "verdiff.serve": "the same in a supervised process of its own",
    "verdiff.serve.igtl": "an OpenIGTLink server in a program of yours",
    "verdiff.serve.dicom": "a DICOM node in a program of yours",
    "verdiff.serve.tls": "the TLS contexts of both servers",
    "verdiff.imaging": "read and write scans and masks",
    "verdiff.options": "every option of loading, sampling and calling",
    "verdiff.errors": "the errors that verdiff raises, and their exit codes",
    "verdiff.batch": "many scans through one loaded model",
    "verdiff.anatomy": "vertebrae of a mask: number, name, measure, surface",
    "verdiff.bundle": "open, check and write a model's bundle",
    "verdiff.evaluate": "score masks, compare models",
    "verdiff.engines.build": "build TensorRT engines",
    "verdiff.diffusion": "the mathematics: processes, samplers, noise",
    "verdiff.interop.pycuda": "a host's own pycuda context",
}
MADE = "This page is made from the code by `make reference`. The [index](README.md) lists all pages."
WIDTH = 96
_ROLE = re.compile(r":\w+:`~?([\w.]+)`")
_KEYWORD = re.compile(r"(\w+) \((.+?)\): (.*)")
_LISTS = {
    DocstringSectionKind.parameters: "Arguments",
    DocstringSectionKind.other_parameters: "Keywords",
    DocstringSectionKind.raises: "Raises",
    DocstringSectionKind.attributes: "Attributes",
}


def public_names(module: ModuleType) -> list[str]:
    """What a room offers: its ``__all__``, or the classes and functions that are defined there."""
    named = getattr(module, "__all__", None)
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__)
    return list(named if named is not None else (name for name in own if not name.startswith("_")))


def page_name(room: str) -> str:
    """``verdiff.engines.build`` -> ``engines-build.md``."""
    return room.removeprefix("verdiff.").replace(".", "-") + ".md"


class Reference:
    """All pages, and where each name stands in them."""

    def __init__(self) -> None:
        self.modules = {room: import_module(room) for room in ROOMS}

    @cached_property
    def places(self) -> dict[str, str]:
        """Name, with and without its room -> the link to it."""
        found: dict[str, str] = {}
        for room, module in self.modules.items():
            for name in public_names(module):
                value = getattr(module, name)
                place = f"{page_name(room)}#{name.lower()}"
                for spelled in (f"{room}.{name}", f"{getattr(value, '__module__', room)}.{name}", name):
                    found.setdefault(spelled, place)
            found[room] = page_name(room)
        return found

    def pages(self) -> dict[str, str]:
        """File name -> text."""
        pages = {page_name(room): _text(self._page(room)) for room in ROOMS}
        return {"README.md": _text(self._index())} | pages

    def _index(self) -> Iterator[str]:
        yield from ("# Reference of the Python interface", "")
        yield "Every name that a program of yours may import. These pages are made from the code by `make reference`."
        yield "[The runtime](../runtime.md) is the guide to embedding. The keys of a training configuration have"
        yield "[a page of their own](../configuration.md). Modules that are not listed here may change without notice."
        for room, about in ROOMS.items():
            yield from ("", f"## [`{room}`]({page_name(room)})", "", f"{about[0].upper()}{about[1:]}.", "")
            for name in public_names(self.modules[room]):
                value = getattr(self.modules[room], name)
                yield f"- [`{name}`]({page_name(room)}#{name.lower()}){_summary(value)}"

    def _page(self, room: str) -> Iterator[str]:
        module = self.modules[room]
        yield from (f"# `{room}`", "", MADE, "", self.words(inspect.getdoc(module) or ""))
        for name in public_names(module):
            yield from ("", f"## `{name}`", "")
            yield from self._entry(name, getattr(module, name), room)

    def _entry(self, name: str, value: Any, room: str) -> Iterator[str]:
        if hasattr(value, "cache_clear"):
            value = value.__wrapped__
        if inspect.isclass(value):
            yield from self._class(name, value)
        elif inspect.isfunction(value):
            yield from self._callable(f"def {name}", value, inspect.signature(value))
        else:
            yield from ("```py", f"{name} = {_constant(value)}", "```", "", self.words(_comment_on(name, room)))

    def _class(self, name: str, kind: type) -> Iterator[str]:
        made = _signature(kind)
        code = getattr(kind, "exit_code", None)
        if made is not None:
            yield from ("```py", _definition(f"class {name}", made, returns=False), "```", "")
        yield from self._said(inspect.getdoc(kind) or "", made)
        if issubclass(kind, Enum):
            yield from (f"- `{each.name}`: {each.value}" for each in kind)
        if issubclass(kind, Exception) and code is not None:
            yield from (f"[Exit code](../exit-codes.md) of the command line: {code}.", "")
        started = vars(kind).get("__init__")
        if started is not None and started.__doc__ and not dataclasses.is_dataclass(kind):
            yield from self._said(inspect.cleandoc(started.__doc__), made)
        yield from self._fields(kind)
        for member, value in self._members(kind):
            found = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if isinstance(value, property | cached_property):
                yield from self._property(name, member, value)
            elif inspect.isfunction(found):
                yield from ("", f"### `{name}.{member}`", "")
                yield from self._callable(f"def {member}", found, _without_self(value, found))

    def _members(self, kind: type) -> Iterator[tuple[str, Any]]:
        """The public methods and properties that a class defines, in their order.

        Those of a parent come too, where the parent has no entry of its own.
        """
        seen: set[str] = set()
        documented = (property, cached_property, classmethod, staticmethod, FunctionType)
        for base in kind.__mro__:
            if base is not kind and f"{base.__module__}.{base.__name__}" in self.places:
                continue
            for name, value in vars(base).items() if base.__module__.startswith("verdiff.") else ():
                if isinstance(value, documented) and not name.startswith("_") and name not in seen:
                    seen.add(name)
                    yield name, value

    def _property(self, name: str, member: str, value: Any) -> Iterator[str]:
        getter: Any = value.fget if isinstance(value, property) else value.func
        kind = inspect.get_annotations(getter).get("return", "")
        yield from ("", f"### `{name}.{member}`", "", f"`{_type(kind)}`: {self.words(inspect.getdoc(getter) or '')}")

    def _fields(self, kind: type) -> Iterator[str]:
        """The fields of a record that say what they are, as options do."""
        said = _said_fields(kind)
        if said:
            yield from ("**Fields**", "")
            made = signature_of(kind)
        for each in said:
            about = each.metadata["about"]
            limits = f" Allowed: {about.limits}." if about.limits else ""
            stated = made.parameters[each.name]
            default = "" if stated.default is stated.empty else f", default `{_value(each.default)}`"
            yield f"- `{each.name}` (`{_type(stated.annotation)}`{default}): {about.help}{limits}"

    def _callable(self, head: str, function: Callable[..., Any], made: inspect.Signature) -> Iterator[str]:
        yield from ("```py", _definition(head, made), "```", "")
        yield from self._said(inspect.getdoc(function) or "", made)

    def _said(self, text: str, made: inspect.Signature | None) -> Iterator[str]:
        """A docstring's sections as Markdown."""
        sections = Docstring(text, lineno=1).parse("google", warnings=False)
        # What comes in is told before what may be raised, also where keywords are added at the end.
        for section in sorted(sections, key=lambda each: each.kind is DocstringSectionKind.raises):
            if section.kind is DocstringSectionKind.text:
                yield from (self.words(section.value), "")
            elif section.kind in _LISTS:
                yield from (f"**{_LISTS[section.kind]}**", "")
                for each in section.value:
                    yield self._line(getattr(each, "name", None) or str(each.annotation), each.description, made)
                yield ""
            elif section.kind is DocstringSectionKind.returns:
                yield from (f"**Returns** {' '.join(self.words(each.description) for each in section.value)}", "")
            elif section.kind is DocstringSectionKind.admonition and section.title == "Keywords":
                yield from ("**Keywords**", "")
                for keyword, _, meaning in _KEYWORD.findall(section.value.description):
                    yield self._line(keyword, meaning, made)
                yield ""
            else:
                raise ValueError(f"no form for the section {section.kind.value} of {text!r}")

    def _line(self, name: str, description: str, made: inspect.Signature | None) -> str:
        stated = made.parameters.get(name) if made is not None else None
        kind = "" if stated is None or stated.annotation is inspect.Parameter.empty else f"`{_type(stated.annotation)}`"
        default = (
            "" if stated is None or stated.default is inspect.Parameter.empty else f"default `{_value(stated.default)}`"
        )
        brackets = ", ".join(part for part in (kind, default) if part)
        return f"- `{name}`{f' ({brackets})' if brackets else ''}: {' '.join(self.words(description).split())}"

    def words(self, text: str) -> str:
        """A docstring's text as Markdown: its roles become links, its examples blocks."""

        def link(found: re.Match[str]) -> str:
            owner, _, member = found[1].rpartition(".")
            place = self.places.get(found[1])
            if place is None and "#" in self.places.get(owner, ""):
                place = f"{self.places[owner]}{member.lower()}"
            short = ".".join(found[1].split(".")[-2:]) if found[1].startswith("verdiff.") else found[1]
            return f"[`{short}`]({place})" if place else f"`{short}`"

        marked = re.sub(r"``([^`]+)``", r"`\1`", _ROLE.sub(link, text))
        marked = re.sub(r"\bdocs/([\w-]+\.md)", r"[\1](../\1)", marked)
        return re.sub(
            r"((?:^(?:>>>|\.\.\.) ?.*\n?)+)", lambda found: f"```pycon\n{found[1].rstrip()}\n```\n", marked, flags=re.M
        )


def _text(lines: Iterable[str]) -> str:
    """Lines as a page, with one empty line where there would be several."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _said_fields(kind: type) -> list[dataclasses.Field[Any]]:
    every = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    return [each for each in every if each.metadata.get("about")]


def _signature(kind: type) -> inspect.Signature | None:
    inherited = issubclass(kind, Exception) and "__init__" not in vars(kind)
    if inherited or getattr(kind, "_is_protocol", False) or issubclass(kind, Enum):
        return None
    try:
        return signature_of(kind) if _said_fields(kind) else inspect.signature(kind)
    except ValueError:
        return None


def _without_self(value: Any, function: Callable[..., Any]) -> inspect.Signature:
    made = inspect.signature(function)
    if isinstance(value, staticmethod):
        return made
    return made.replace(parameters=list(made.parameters.values())[1:])


def _definition(head: str, made: inspect.Signature, *, returns: bool = True) -> str:
    """A signature as Python's own source has it, a parameter a line where one line is too short."""
    words: list[str] = []
    starred = False
    for each in made.parameters.values():
        if each.name.startswith("_"):
            continue
        if each.kind is each.KEYWORD_ONLY and not starred:
            words, starred = [*words, "*"], True
        starred = starred or each.kind is each.VAR_POSITIONAL
        stars = "*" if each.kind is each.VAR_POSITIONAL else "**" if each.kind is each.VAR_KEYWORD else ""
        kind = "" if each.annotation is each.empty else f": {_type(each.annotation)}"
        default = (
            "" if each.default is each.empty else f" = {_value(each.default)}" if kind else f"={_value(each.default)}"
        )
        words.append(f"{stars}{each.name}{kind}{default}")
    tail = f" -> {_type(made.return_annotation)}" if returns and made.return_annotation is not made.empty else ""
    line = f"{head}({', '.join(words)}){tail}: ..."
    return line if len(line) <= WIDTH else "\n".join([f"{head}(", *(f"    {word}," for word in words), f"){tail}: ..."])


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:verdiff|typing|collections|pathlib|numpy)\.[\w.]*?(?=\w+\b(?!\.))", "", text).replace("'", '"')


def _value(value: Any) -> str:
    if value is dataclasses.MISSING or type(value).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
        return "..."
    if type(value) is object or getattr(value, "__name__", "") == "<lambda>":
        return "..."  # A mark for what was not given, or for nothing.
    if inspect.isclass(value) or inspect.isfunction(value):
        return str(value.__name__)
    if isinstance(value, Mapping):
        named = [
            name for room in ROOMS for name, known in vars(import_module(room)).items() if known is value and value
        ]
        return named[0] if named else "{...}" if value else "{}"
    if inspect.ismethod(value):
        return str(value.__qualname__)
    return json.dumps(value) if isinstance(value, str) else repr(value).replace("'", '"')


def _constant(value: Any) -> str:
    text = str(value) if hasattr(value, "__origin__") else repr(value)
    if len(text) > WIDTH and isinstance(value, Mapping):
        text = f"{{{', '.join(f'{json.dumps(key)}: ...' for key in value)}}}"
    return _type(text) if hasattr(value, "__origin__") else text if len(text) <= 2 * WIDTH else "..."


def _comment_on(name: str, room: str) -> str:
    """What the sources say of a constant: the comment above it, or the string below it."""
    folder = ROOT.joinpath(*room.split("."))
    for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]:
        found = re.search(
            rf'((?:^# .*\n)*)^{name}(?:: [^\n=]+)? = .*?\n(?:"""(.+?)""")?', path.read_text("utf-8"), flags=re.M
        )
        if found and (found[1] or found[2]):
            return " ".join((found[2] or found[1].replace("# ", "")).split())
    return ""


def _summary(value: Any) -> str:
    """A name's first sentence, for the index."""
    text = inspect.getdoc(value) if callable(value) else ""
    first = " ".join((text or "").split("\n\n")[0].replace("``", "`").split())
    bare = _ROLE.sub(lambda found: f"`{found[1].split('.')[-1]}`", first)
    return f": {re.split(r'(?<=[a-z)`])[.:;] ', bare)[0].rstrip('.')}" if bare else ""


def main() -> None:
    """Write every page anew; pages of rooms that are gone go."""
    pages = Reference().pages()
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.md"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        (FOLDER / name).write_text(text, "utf-8")
    for made in (configuration, exit_codes):
        made.PAGE.write_text(made.page(), "utf-8")


if __name__ == "__main__":
    main()
