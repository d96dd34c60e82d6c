"""``--dry-run``, for the commands that write."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from verdiff.commands.printing import show
from verdiff.rehearsal import Rehearsed, rehearsing

_DRY_RUN = Annotated[
    bool,
    typer.Option("--dry-run", help="Check everything, say what would be read, computed and written, and do nothing."),
]


def with_dry_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command that can be rehearsed: it ends with 0 where its work would begin, or with what refuses it."""
    hints = get_type_hints(command, include_extras=True)
    parameters = [
        each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for each in inspect.signature(command).parameters.values()
    ]
    parameters.append(inspect.Parameter("dry_run", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_DRY_RUN))

    @wraps(command)
    def call(*, dry_run: bool, **given: Any) -> Any:
        if not dry_run:
            return command(**given)
        try:
            with rehearsing():
                return command(**given)
        except Rehearsed as rehearsal:
            show("\n".join(rehearsal.lines))

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return call
