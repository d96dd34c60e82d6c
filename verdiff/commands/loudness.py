"""``--quiet`` and ``--verbose``, which every command has."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from verdiff.commands.options import unfit
from verdiff.commands.printing import NORMAL, QUIET, VERBOSE, as_loud_as, detail
from verdiff.errors import VerdiffError

_QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but what was asked for, and errors.")]
_VERBOSE = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Say each step and its time, and where in the code an error arose."),
]


def with_loudness(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command that can be told to say less or more."""
    hints = get_type_hints(command, include_extras=True)
    parameters = [
        each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for each in inspect.signature(command).parameters.values()
    ]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in (("quiet", _QUIET), ("verbose", _VERBOSE))
    ]

    @wraps(command)
    def call(*, quiet: bool, verbose: bool, **given: Any) -> Any:
        if quiet and verbose:
            raise unfit("--quiet and --verbose", "leave one of them out")
        with as_loud_as(QUIET if quiet else VERBOSE if verbose else NORMAL):
            try:
                return command(**given)
            except VerdiffError:
                detail(traceback.format_exc().rstrip())
                raise

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return call
