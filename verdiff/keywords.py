"""The fields of a record as the keywords of a function: known to type checkers and to ``help``, listed once.

A type checker takes them from the record's constructor (PEP 612), so completion and mypy know each name and type.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_args, overload

from verdiff.settings import About, about, types_of

P = ParamSpec("P")
Record = TypeVar("Record")
Self_ = TypeVar("Self_")
First = TypeVar("First")
Second = TypeVar("Second")
Third = TypeVar("Third")
Fourth = TypeVar("Fourth")
Result = TypeVar("Result")


class Keywords(Generic[P, Record]):
    """A decorator: the method's last parameter, a record, is given as the keywords of the record's constructor.

    The parameters before it are passed by position.
    """

    def __init__(self, record: Callable[P, Record]) -> None:
        self._record: Any = record

    @overload
    def __call__(self, function: Callable[[Self_, Record], Result]) -> Callable[Concatenate[Self_, P], Result]: ...

    @overload
    def __call__(
        self, function: Callable[[Self_, First, Record], Result]
    ) -> Callable[Concatenate[Self_, First, P], Result]: ...

    @overload
    def __call__(
        self, function: Callable[[Self_, First, Second, Third, Fourth, Record], Result]
    ) -> Callable[Concatenate[Self_, First, Second, Third, Fourth, P], Result]: ...

    def __call__(self, function: Any) -> Any:
        record = self._record
        *leading, last = inspect.signature(function).parameters.values()
        names = [each.name for each in leading]

        @wraps(function)
        def call(*given: Any, **keywords: Any) -> Any:
            named = {name: keywords.pop(name) for name in names[len(given) :] if name in keywords}
            made = record(*given[len(names) :], **keywords)
            return function(*given[: len(names)], **named, **{last.name: made})

        # What `inspect`, `help` and a notebook show.
        call.__signature__ = inspect.signature(function).replace(  # type: ignore[attr-defined]
            parameters=[*leading, *signature_of(record).parameters.values()]
        )
        call.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{describe(record)}"
        return call


def signature_of(record: Any) -> inspect.Signature:
    """A record's constructor, each field with the type that it has in this record.

    A default that the type does not allow stands for none: the record refuses it.
    """
    types, made = types_of(record), inspect.signature(record)
    parameters = []
    for each in made.parameters.values():
        kind = types[each.name]
        refused = each.default is None and kind is not Any and type(None) not in get_args(kind)
        parameters.append(each.replace(annotation=kind, default=each.empty if refused else each.default))
    return made.replace(parameters=parameters)


def describe(record: Any) -> str:
    """The fields of a record, a line each: name, type, what it is, and its limits."""
    hints = types_of(record)
    lines = [f"    {each.name} ({_type(hints[each.name])}): {_text(about(each))}" for each in fields(record)]
    return "\n".join(["Keywords:", *lines])


def _type(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "").replace("pathlib.", "")


def _text(said: About) -> str:
    return said.help if said.limits is None else f"{said.help} Allowed: {said.limits}."
