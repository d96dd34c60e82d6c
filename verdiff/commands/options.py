"""The options of commands: derived from the records of :mod:`verdiff.options`, and what several commands parse alike.

What is out of its limits is refused while a command line is parsed.
"""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, is_dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from verdiff.choices import CONFIGURATIONS
from verdiff.options import BuildOptions, LoadOptions, TrustOptions
from verdiff.settings import (
    LEFT_OPEN,
    About,
    Bounds,
    Constraint,
    OneOf,
    Pattern,
    about,
    option_name,
    options_of,
    types_of,
)

# The name stands here and not by import: a bundle's packages are for when a command is called.
A_MODEL = "A shipped model's name or a bundle; by default spine-mr."

Check = Callable[[Any], Any]
Command = TypeVar("Command", bound=Callable[..., Any])


def within(limits: Constraint) -> Check:
    """A callback that refuses a value, or one of several, outside its limits."""

    def check(value: Any) -> Any:
        for each in value if isinstance(value, list | tuple) else (value,):
            if each is not None and not limits.allow(each):
                shown = f"{each:g}" if isinstance(each, float) else repr(str(each) if isinstance(each, Path) else each)
                raise typer.BadParameter(f"{shown} is not {limits}.")
        return value

    return check


def one_of(*choices: str) -> Check:
    """A callback that refuses a value, or one of several, that is none of the choices."""
    return within(OneOf(choices))


def listed(*choices: str) -> Check:
    """A callback that refuses names, joined by commas, if one is none of the choices."""
    check = one_of(*choices)

    def check_each(value: str | None) -> str | None:
        check([name.strip() for name in (value or "").split(",") if name.strip()])
        return value

    return check_each


def written_as(pattern: str, what: str) -> Check:
    """A callback that refuses a value, or one of several, that is not written like ``pattern``; ``what`` says how."""
    return within(Pattern(pattern, what))


def parameter(kind: type, name: str) -> Any:
    """typer's record of an option, from its field."""
    return _parameter(next(each for each in options_of(kind) if each.name == name))


def _parameter(each: Field[Any]) -> Any:
    said, name = about(each), option_name(each)
    if each.default is None and said.model is not LEFT_OPEN:
        said = replace(said, help=f"{said.help.removesuffix('.')}; by default the model's.")
    if isinstance(each.default, bool):
        return typer.Option(name, help=said.help)
    if isinstance(said.limits, Bounds) and not said.limits.above:
        most = None if said.limits.most == math.inf else said.limits.most
        return typer.Option(name, min=said.limits.least, max=most, help=said.help)
    check = None if said.limits is None else within(said.limits)
    return typer.Option(name, help=said.help, metavar=_metavar(said), callback=check)


def _metavar(said: About) -> str | None:
    if isinstance(said.limits, OneOf) and not said.limits.joined:
        return metavar(*said.limits.names)
    return said.metavar or None


def _parsed_type(hint: Any) -> Any:
    """The type that a command line gives: the path of one that may be text in Python, and a list of several texts."""
    if get_origin(hint) is tuple:
        return list[str] | None
    return Path | None if Path in get_args(hint) else hint


def _values(kind: type, given: dict[str, Any]) -> dict[str, Any]:
    """The values of a record's options, taken out of all that a command line gave."""
    values = {each.name: given.pop(each.name) for each in options_of(kind)}
    several = [each.name for each in options_of(kind) if isinstance(each.default, tuple)]
    return values | {name: tuple(values[name] or ()) for name in several}


def takes_options(command: Command) -> Command:
    """A command whose parameters of a record's type are given as that record's options, in their place."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    records: dict[str, type] = {}
    for each in inspect.signature(command).parameters.values():
        kind = hints[each.name]
        if not is_dataclass(kind):
            parameters.append(each.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        records[each.name] = kind  # type: ignore[assignment]
        types = types_of(kind)  # type: ignore[arg-type]
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default if field.default != () else None,
                annotation=Annotated[_parsed_type(types[field.name]), _parameter(field)],
            )
            for field in options_of(kind)  # type: ignore[arg-type]
        ]

    @wraps(command)
    def call(**given: Any) -> Any:
        made = {name: kind(**_values(kind, given)) for name, kind in records.items()}
        return command(**given, **made)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return call  # type: ignore[return-value]


def levels(value: str | None) -> str | None:
    """A callback that refuses what names no vertebra."""
    if value is not None:
        from verdiff.anatomy.levels import parse_level
        from verdiff.errors import InputError

        try:
            parse_level(value)
        except InputError as error:
            raise typer.BadParameter(f"{value!r} is not {error.expected}.") from error
    return value


def a_page(value: Path | None) -> Path | None:
    """A callback that refuses a page to look at whose name is of another format."""
    if value is not None and (value.suffix.lower() != ".html" or value.stem == ""):
        raise typer.BadParameter(f"{str(value)!r} does not end in .html.")
    return value


def a_page_of_a_scan(value: Path | None) -> Path | None:
    """The same for a scan's page, whose report as JSON is looked for under the same name."""
    if value is not None and value.suffix.lower() == ".json":
        raise typer.BadParameter(
            f"{str(value)!r} does not end in .html (the report as JSON is always written, beside the mask)."
        )
    return a_page(value)


def metric_names(value: str) -> str:
    """A callback that refuses names, joined by commas, if one is no metric."""
    from verdiff.evaluate.empty import EVERY_METRIC

    for each in value.split(","):
        if each not in EVERY_METRIC:
            raise typer.BadParameter(f"{each!r} is not one of {', '.join(EVERY_METRIC)}.")
    return value


def configuration(value: str | None) -> str | None:
    """A callback that refuses what is neither a shipped configuration's name nor a file."""
    if value is not None and value not in CONFIGURATIONS and not os.path.isfile(value):
        raise typer.BadParameter(
            f"{value!r} is not one of {', '.join(CONFIGURATIONS)}, nor the path of a TOML file that is there."
        )
    return value


def weighted(value: list[str] | None) -> list[str] | None:
    """A callback that refuses a data set whose weight is no number above 0."""
    if any(":" in each for each in value or ()):
        from verdiff.train.data.joining import TrainingSource

        for each in value or ():
            told(lambda each=each: TrainingSource.parse(each))  # type: ignore[misc]
    return value


def structures(value: str | None) -> str | None:
    """A callback that refuses what is neither a table of structures nor the name of a JSON file."""
    if value is not None and not value.endswith(".json"):
        from verdiff.evaluate.labels import table_in

        told(lambda: table_in(value))
    return value


def instances(value: str | None) -> str | None:
    """A callback that refuses what names no groups of instances."""
    if value not in (None, "vertebrae"):
        from verdiff.evaluate.instances import instance_groups

        told(lambda: instance_groups(str(value), {}), "'vertebrae', ")
    return value


def evaluations(value: list[str]) -> list[str]:
    """A callback that refuses evaluations of which two have one name, or one has none."""
    from verdiff.evaluate.several import names_of

    told(lambda: names_of(value))
    return value


def told(parse: Callable[[], object], others: str = "") -> None:
    """Turn the refusal of what reads a text into the parser's; ``others`` is expected beside what that names."""
    from verdiff.errors import VerdiffError

    try:
        parse()
    except VerdiffError as error:
        raise typer.BadParameter(
            f"{error.found}; expected: {others}{error.expected}; to do: {error.remedy}."
        ) from error


def unfit(found: str, remedy: str) -> typer.BadParameter:
    """Options that do not fit each other, and what to do about it."""
    return typer.BadParameter(f"{found}; {remedy}.")


def require_used(context: typer.Context, used: Mapping[str, Sequence[str]]) -> None:
    """Refuse options on the command line that do nothing without another one, which is not there.

    Args:
        context: What was parsed.
        used: Option -> those that say something about it alone; a record's option stands as the command line has it.
    """
    # Of an option that has its default nobody said anything; typer has no public name for where a value is from.
    given = {
        name
        for each in context.command.params
        if each.name is not None and (source := context.get_parameter_source(each.name)) and source.name != "DEFAULT"
        for name in each.opts
    }
    for needed, names in used.items():
        if needed not in given and (idle := [name for name in names if name in given]):
            them = "it" if len(idle) == 1 else "them"
            raise unfit(f"{', '.join(idle)} without {needed}", f"add {needed}, or leave {them} out")


def fold_or_all(value: str | None) -> str | None:
    """A callback that refuses what is neither a fold's number nor ``all``."""
    if value is not None and value != "all" and not (value.isascii() and value.isdecimal()):
        raise typer.BadParameter(f"{value!r} is not a number from 0, or 'all'.")
    return value


def pattern(value: str | None) -> str | None:
    """A callback that refuses what is no regular expression."""
    if value is not None:
        try:
            re.compile(value)
        except re.error as error:
            raise typer.BadParameter(f"{value!r} is no regular expression: {error}.") from error
    return value


def metavar(*choices: str) -> str:
    """The choices as they stand in a command's help."""
    return f"[{'|'.join(choices)}]"


Patients = Annotated[
    str | None,
    typer.Option(
        callback=pattern,
        help="Regular expression for the part of a case's name that is its patient, where nothing else says it.",
    ),
]
Threads = Annotated[int | None, parameter(LoadOptions, "threads")]
Device = Annotated[str, parameter(LoadOptions, "device")]
Gpu = Annotated[str, parameter(BuildOptions, "device")]
ExpectSha256 = Annotated[str | None, parameter(TrustOptions, "sha256")]
TrustedKey = Annotated[Path | None, parameter(TrustOptions, "trusted_key")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files there that verdiff did not write, or that were changed.")
]

TimePoint = Annotated[
    int | None,
    typer.Option(min=1, help="Which volume to take of a DICOM series that holds several (time points, echoes)."),
]


def _orientation(text: str | None) -> str | None:
    from verdiff.errors import InputError
    from verdiff.imaging.orientation import EXPECTED, parse_orientation

    try:
        return parse_orientation(text)
    except InputError as error:
        raise typer.BadParameter(f"{text!r} is not {EXPECTED}") from error


Orientation = Annotated[
    str | None,
    typer.Option(
        callback=_orientation,
        help="Orientation of files that leave it open: qform, sform, or where voxel axes run, such as RAS.",
    ),
]
