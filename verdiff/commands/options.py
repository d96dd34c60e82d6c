"""What several commands parse alike, and the choices that are refused while a command line is parsed."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from verdiff.choices import (
    AUTO,
    BACKENDS,
    CONFIGURATIONS,
    DEVICE,
    ENGINE_BACKENDS,
    ENGINE_PRECISIONS,
    FUSIONS,
    POLICIES,
    PRECISIONS,
    PROVIDER_BACKENDS,
    SAMPLERS,
    SETTINGS,
    SHA256,
    WHOLE,
)

Check = Callable[[Any], Any]


def one_of(*choices: str) -> Check:
    """A callback that refuses a value, or one of several, that is none of the choices."""

    def check(value: Any) -> Any:
        for each in value if isinstance(value, list | tuple) else (value,):
            if each is not None and each not in choices:
                raise typer.BadParameter(f"{each!r} is not one of {', '.join(choices)}.")
        return value

    return check


def listed(*choices: str) -> Check:
    """A callback that refuses names, joined by commas, of which one is none of the choices."""
    check = one_of(*choices)

    def check_each(value: str | None) -> str | None:
        check([name.strip() for name in (value or "").split(",") if name.strip()])
        return value

    return check_each


def written_as(pattern: str, what: str) -> Check:
    """A callback that refuses a value, or one of several, that is not written like ``pattern``; ``what`` says how."""

    def check(value: Any) -> Any:
        for each in value if isinstance(value, list | tuple) else (value,):
            if each is not None and re.fullmatch(pattern, each) is None:
                raise typer.BadParameter(f"{each!r} is not {what}.")
        return value

    return check


def above_zero(value: float | None) -> float | None:
    """A callback that refuses what is no number above 0; infinity and NaN are none."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"{value:g} is not a number above 0.")
    return value


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


def metric_names(value: str) -> str:
    """A callback that refuses names, joined by commas, of which one is no metric."""
    from verdiff.evaluate.empty import EVERY_METRIC

    for each in value.split(","):
        if each not in EVERY_METRIC:
            raise typer.BadParameter(f"{each!r} is not one of {', '.join(EVERY_METRIC)}.")
    return value


def _policy(value: str | None) -> str | None:
    """A callback: one of the settings, ``whole``, or policies joined by ``+``."""
    if value is not None and value not in (WHOLE, *SETTINGS) and not set(value.split("+")) <= set(POLICIES):
        alone = ", ".join((WHOLE, *SETTINGS))
        raise typer.BadParameter(f"{value!r} is not one of {alone}, or of {', '.join(POLICIES)} joined by '+'.")
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
        from verdiff.train.data.joining import Source

        for each in value or ():
            _told(lambda each=each: Source.parse(each))  # type: ignore[misc]
    return value


def structures(value: str | None) -> str | None:
    """A callback that refuses what is neither a table of structures nor the name of a JSON file."""
    if value is not None and not value.endswith(".json"):
        from verdiff.evaluate.labels import table_in

        _told(lambda: table_in(value))
    return value


def instances(value: str | None) -> str | None:
    """A callback that refuses what names no groups of instances."""
    if value not in (None, "vertebrae"):
        from verdiff.evaluate.instances import instance_groups

        _told(lambda: instance_groups(str(value), {}), "'vertebrae', ")
    return value


def evaluations(value: list[str]) -> list[str]:
    """A callback that refuses evaluations of which two have one name, or one has none."""
    from verdiff.evaluate.several import names_of

    _told(lambda: names_of(value))
    return value


def _told(parse: Callable[[], object], others: str = "") -> None:
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


# TensorRT's engines take INT8 by the name of its form too.
_PRECISIONS = (AUTO, *PRECISIONS, *(each for each in ENGINE_PRECISIONS if each not in PRECISIONS))
_BACKENDS = (AUTO, *BACKENDS, *ENGINE_BACKENDS, *PROVIDER_BACKENDS)

Patients = Annotated[
    str | None,
    typer.Option(
        callback=pattern,
        help="Regular expression: the part of a case's name that is its patient; where nothing else says.",
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; every core by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

ExpectSha256 = Annotated[
    str | None,
    typer.Option(
        callback=written_as(SHA256, "the 64 hexadecimal digits of a SHA-256"),
        metavar="HEX",
        help="Refuse every bundle but the one whose manifest has this SHA-256.",
    ),
]
TrustedKey = Annotated[
    Path | None,
    typer.Option(metavar="PEM", help="Refuse a bundle that none of these Ed25519 public keys has signed."),
]

Steps = Annotated[int | None, typer.Option(min=1, max=100_000, help="Denoiser passes a sample.")]
Samples = Annotated[int | None, typer.Option(min=1, max=1000, help="Members of the ensemble.")]
Seed = Annotated[int | None, typer.Option(min=0, max=2**64 - 1, help="Key of the noise.")]
Sampler = Annotated[
    str | None, typer.Option(callback=one_of(*SAMPLERS), metavar=metavar(*SAMPLERS), help="What walks the timesteps.")
]
Fusion = Annotated[
    str | None,
    typer.Option(callback=one_of(*FUSIONS), metavar=metavar(*FUSIONS), help="What makes one mask of them."),
]
Policy = Annotated[
    str | None,
    typer.Option(callback=_policy, help="What not to compute: locate, skip, agree joined by '+'; whole; or fast."),
]
PriorOnly = Annotated[bool, typer.Option("--prior-only", help="The prior's answer, without sampling.")]
BackendName = Annotated[
    str,
    typer.Option(callback=one_of(*_BACKENDS), metavar=metavar(*_BACKENDS), help="What runs it; see docs/runtime.md."),
]
Device = Annotated[str, typer.Option(callback=written_as(DEVICE, "cpu, cuda or cuda:N"), help="cpu, cuda or cuda:N.")]
Precision = Annotated[
    str,
    typer.Option(
        callback=one_of(*_PRECISIONS),
        metavar=metavar(*_PRECISIONS),
        help="auto: the fastest that passed its gate for this processor, where trying pays.",
    ),
]
BudgetMs = Annotated[
    float | None, typer.Option(callback=above_zero, help="Best mask in so many milliseconds (loading apart).")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files there that verdiff did not write, or that were changed.")
]
Force = Annotated[bool, typer.Option("--force", help="Go on with a scan unlike the training data.")]

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
        help="Where a file leaves it open: qform, sform, or where its voxel axes run, such as RAS.",
    ),
]
