"""A setting stands once: its name, type, default, limits and help are a field of a frozen record.

Whatever repeats a setting is derived from its field: the option of a command (:mod:`verdiff.commands.options`), the
keyword in Python (:mod:`verdiff.keywords`), the check of a value, the JSON of a report, the words of the command that
repeats a run, and a table of a configuration's file. A new setting is one more field.

Nothing heavy is imported here, so that a command's options cost no time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import reduce
from numbers import Integral, Real
from operator import or_
from pathlib import Path
from typing import Any, Never, Protocol, TypeVar, get_args, get_origin, get_type_hints

from verdiff.errors import DataError, VerdiffError


class Constraint(Protocol):
    """What a value may be; its text says it in words."""

    def allow(self, value: Any) -> bool:
        """Whether the value is within."""
        ...

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Bounds:
    """From ``least`` to ``most``, both allowed; ``above`` leaves out ``least`` itself."""

    least: float
    most: float = math.inf
    above: bool = False

    def allow(self, value: Any) -> bool:
        """Whether a number lies within; infinity, NaN and what is no number never do."""
        if isinstance(value, bool) or not isinstance(value, Real):
            return False
        number: Any = value
        enough = number > self.least if self.above else number >= self.least
        return math.isfinite(number) and bool(enough) and bool(number <= self.most)

    def __str__(self) -> str:
        least, most = (f"{each:g}" if isinstance(each, float) else str(each) for each in (self.least, self.most))
        if self.most < math.inf:
            return f"{'above' if self.above else 'from'} {least} to {most}"
        return f"above {least}" if self.above else f"{least} or more"


@dataclass(frozen=True)
class OneOf:
    """One of some names; with ``joined`` several of those by ``+``, while ``names`` still stand alone."""

    names: tuple[str, ...]
    joined: tuple[str, ...] = ()

    def allow(self, value: Any) -> bool:
        """Whether it is one of the names, or several that may be joined."""
        if not isinstance(value, str):
            return False
        return value in self.names or (bool(self.joined) and set(value.split("+")) <= set(self.joined))

    def __str__(self) -> str:
        alone = f"one of {', '.join(self.names)}"
        return f"{alone}, or of {', '.join(self.joined)} joined by '+'" if self.joined else alone


@dataclass(frozen=True)
class Among:
    """One of some numbers."""

    numbers: tuple[int, ...]

    def allow(self, value: Any) -> bool:
        """Whether it is one of the numbers."""
        return not isinstance(value, bool) and value in self.numbers

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.numbers))}"


@dataclass(frozen=True)
class Pattern:
    """A text written like the regular expression ``pattern``; ``words`` say how."""

    pattern: str
    words: str

    def allow(self, value: Any) -> bool:
        """Whether the whole text is written so."""
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class Suffix:
    """A file whose name ends in ``suffix``."""

    suffix: str

    def allow(self, value: Any) -> bool:
        """Whether the name ends so."""
        return str(value).lower().endswith(self.suffix)

    def __str__(self) -> str:
        return f"a name that ends in {self.suffix}"


COUNT = Bounds(1)
# Stands for the value of a model that may have none.
LEFT_OPEN: Any = object()


@dataclass(frozen=True)
class About:
    """What a field says of itself.

    Attributes:
        help: A phrase or two for the user.
        limits: What a value may be; None allows anything of the field's type. None as a value is never limited.
        command: Whether a command has it as an option; else it is a keyword in Python alone.
        flag: What the command line calls it; empty is ``--`` and the field's name.
        metavar: What stands for its value in a command's help; empty is the command line's own.
        model: What a model has of an option of sampling where its training's configuration says nothing. LEFT_OPEN
            where a model may have none, which is None.
    """

    help: str = ""
    limits: Constraint | None = None
    command: bool = False
    flag: str = ""
    metavar: str = ""
    model: Any = LEFT_OPEN


def setting(default: Any, help: str, limits: Constraint | None = None, *, model: Any = LEFT_OPEN) -> Any:
    """A field of a table of a configuration's file. Limits of a tuple hold for each element; None has none."""
    return field(default=default, metadata={"about": About(help, limits, model=model)})


def option(
    default: Any,
    help: str,
    limits: Constraint | None = None,
    *,
    flag: str = "",
    metavar: str = "",
    model: Any = LEFT_OPEN,
) -> Any:
    """A field that is an option of a command and a keyword in Python; see :class:`About`."""
    said = About(help, limits, command=True, flag=flag, metavar=metavar, model=model)
    return field(default=default, metadata={"about": said})


def keyword(default: Any, help: str, limits: Constraint | None = None) -> Any:
    """A field that is a keyword in Python alone: what no command line can hold or needs to."""
    return field(default=default, metadata={"about": About(help, limits)})


def about(each: Field[Any]) -> About:
    """What a field says of itself; nothing where it was made without."""
    found: About = each.metadata.get("about", About())
    return found


def types_of(kind: type) -> dict[str, Any]:
    """The types of a record's fields, with what a parent's type parameters are in this record."""
    given: dict[TypeVar, Any] = {}
    for base in (each for one in kind.__mro__ for each in vars(one).get("__orig_bases__", ())):
        origin: Any = get_origin(base)
        given.update(zip(getattr(origin, "__parameters__", ()), get_args(base), strict=False))

    def resolved(hint: Any) -> Any:
        if not getattr(hint, "__parameters__", ()):
            return hint
        parts = [given.get(each, each) for each in get_args(hint)]
        return reduce(or_, [each for each in parts if each is not Never])

    return {name: resolved(hint) for name, hint in get_type_hints(kind).items()}


def options_of(kind: type) -> list[Field[Any]]:
    """The fields of a record that are options of a command."""
    return [each for each in fields(kind) if about(each).command]


def check_options(record: Any, error: type[VerdiffError], *, only: type | None = None) -> None:
    """Refuse the first value of a record that is outside its limits; None is a default that is found later.

    Args:
        record: Any record with fields that have limits.
        error: What is raised.
        only: A parent class whose fields alone are looked at.
    """
    hints = types_of(type(record))
    for each in fields(only or type(record)):
        given, limits = getattr(record, each.name), about(each).limits
        if limits is None:
            continue
        for value in given if isinstance(given, tuple) else (given,):
            if value is not None and not allows(limits, value, hints[each.name]):
                shown = f"{each.name} = {value!r}" if isinstance(value, str) else f"{each.name} = {value}"
                raise error(shown, str(limits), f"correct {each.name}, or leave it out for the default")


def allows(limits: Constraint, value: Any, hint: Any) -> bool:
    """Whether a value is within limits, and whole where the type of its field asks for whole numbers."""
    whole_enough = not isinstance(value, Real) or isinstance(value, Integral) or "float" in str(hint)
    return limits.allow(value) and whole_enough


def part_of(record: Any, kind: type) -> dict[str, Any]:
    """The values of a record that are fields of one of its parent classes: keywords for what takes that one."""
    return {each.name: getattr(record, each.name) for each in fields(kind)}


def plain(record: Any) -> dict[str, Any]:
    """The options of a record as JSON values."""
    return {each.name: _plain(getattr(record, each.name)) for each in options_of(type(record))}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def words_of(record: Any, *, always: tuple[str, ...] = ()) -> list[str]:
    """The words of a command line that give a record's options, as they stand.

    A default needs none, except of the fields that are ``always`` named.
    """
    words: list[str] = []
    for each in options_of(type(record)):
        value, name = getattr(record, each.name), option_name(each)
        if value == each.default and each.name not in always:
            continue
        if isinstance(value, bool):
            words.append(name)
            continue
        for one in value if isinstance(value, tuple) else (value,):
            words += [name, f"{one:g}" if isinstance(one, float) else str(one)]
    return words


def option_name(each: Field[Any]) -> str:
    """What the command line calls a field: ``prior_only`` is ``--prior-only``."""
    return about(each).flag or f"--{each.name.replace('_', '-')}"


def check_limits(kind: type, values: Mapping[str, Any], name: str, *, numbers: Bounds | None = None) -> None:
    """Refuse a value outside its limits.

    Args:
        kind: A dataclass of :func:`setting` fields.
        values: Values of its fields; those that are left out have their defaults.
        name: What a message calls the table, such as ``[training]``.
        numbers: Limits of the whole numbers that state none, whose tuples then have to hold something.

    Raises:
        DataError: One is; the message has its key.
    """
    for each in fields(kind):
        if each.name not in values:
            continue
        value = values[each.name]
        limits = about(each).limits
        if limits is None and all(type(element) is int for element in _elements(value)):
            limits = numbers
        if limits is None:
            continue
        empty = isinstance(value, tuple) and not value and numbers is not None
        if empty or not all(limits.allow(element) for element in _elements(value)):
            shown = list(value) if isinstance(value, tuple) else value
            stated = f"{each.name} = {shown!r}" if isinstance(value, str) else f"{each.name} = {shown}"
            raise DataError(stated, _expected(limits, value), f"correct {name}")


def _elements(value: Any) -> Iterator[Any]:
    """The single values of a setting; None and what is true or false have no limits."""
    if isinstance(value, tuple):
        for element in value:
            yield from _elements(element)
    elif value is not None and not isinstance(value, bool):
        yield value


def _expected(limits: Constraint, value: Any) -> str:
    if not isinstance(limits, Bounds):
        return str(limits)
    return f"one or several numbers, each {limits}" if isinstance(value, tuple) else f"a number, {limits}"


def table_of(cls: type, values: dict[str, Any], origin: str, *, numbers: Bounds | None = None) -> Any:
    """One table of a file as its dataclass; lists become tuples. For ``numbers`` see :func:`check_limits`.

    Raises:
        DataError: An unknown key, or a value of the wrong type or outside its limits.
    """
    hints = types_of(cls)
    names = [f.name for f in fields(cls)]
    for key, value in values.items():
        if key not in names:
            raise DataError(f"{origin} has the key {key!r}", f"one of {', '.join(names)}", "correct its spelling")
        hint = str(hints[key])
        if isinstance(value, list | tuple):
            values[key] = tuple(value)
            right = "tuple" in hint and all(_is_number(element, hint) for element in value)
        elif isinstance(value, bool):
            right = "bool" in hint
        elif isinstance(value, int | float):
            right = "tuple" not in hint and _is_number(value, hint)
        elif value is None:
            right = "None" in hint
        else:
            right = "str" in hint
        if not right:
            raise DataError(f"{origin} {key} = {value!r}", f"a value of type {hint}", "correct the value")
    if numbers is not None:
        # A network's own check divides by its sizes.
        check_limits(cls, values, origin, numbers=numbers)
    return cls(**values)


def _is_number(value: object, hint: str) -> bool:
    """Whether a value is a number of the kind that a hint names; whole ones will do for ``float``."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return (whole and ("int" in hint or "float" in hint)) or (isinstance(value, float) and "float" in hint)
