"""What stands for an option's value in a command's help, where the option itself does not say: the same in all."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from typer.models import OptionInfo

_WORDS: dict[Any, str] = {int: "N", float: "NUMBER", Path: "PATH", str: "TEXT"}


def with_placeholders(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose help has ``PATH`` and ``N`` where the parser would name a type of Python's.

    Args:
        command: One whose signature has its annotations as objects.
    """
    for each in inspect.signature(command).parameters.values():
        if get_origin(each.annotation) is not Annotated:
            continue
        kind, *said = get_args(each.annotation)
        for info in said:
            if isinstance(info, OptionInfo) and info.metavar is None:
                info.metavar = _word_of(kind)
    return command


def _word_of(kind: Any) -> str | None:
    """The word for a type, or for the first that it may be; None of one that takes no value."""
    if kind in _WORDS:
        return _WORDS[kind]
    return next((word for part in get_args(kind) if (word := _word_of(part)) is not None), None)
