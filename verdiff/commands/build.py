"""``verdiff build``: build engines, list what is in the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verdiff.commands.options import A_MODEL, takes_options
from verdiff.commands.printing import say, show
from verdiff.commands.progress import busy
from verdiff.errors import BackendError
from verdiff.options import BuildOptions
from verdiff.precisions import REFERENCE, makes_engines
from verdiff.progress import doing, done

if TYPE_CHECKING:
    from verdiff.engines import Sidecar


def listing(cache: Path | None) -> list[str]:
    """A line for every engine of a cache: what it is, and whether it loads here or why not."""
    from verdiff.engines import cache_path, find_engines

    problems: list[BackendError] = []
    engines = find_engines(cache_path(cache), problems=problems)
    lines = []
    for each in engines:
        key = each.key
        sizes = ", ".join(profile.bucket.size for profile in key.profiles)
        lines.append(f"{key.stem}.plan  {each.plan_bytes / 1e6:.1f} MB, {each.built_at}")
        lines.append("  " + ", ".join([f"{key.role} {key.precision}", f"SM {key.sm}", sizes, *key.flags]))
        lines.append(f"  {_state(each, cache)}")
    for problem in problems:
        lines.append(f"unusable: {problem.found}")
        lines.append(f"  to do: {problem.remedy}")
    return lines or ["no engines in the cache; build some with 'verdiff build'"]


def _state(sidecar: Sidecar, cache: Path | None) -> str:
    from verdiff.engines import differences, rebuild_command
    from verdiff.engines.here import this_machine

    try:
        machine = this_machine(sidecar.key.flavour)
    except BackendError as error:
        return f"does not load here: {error.found}; to do: {error.remedy}"
    reasons = differences(sidecar, machine)
    if not reasons:
        return "loads here"
    remedy = f"; to do: {rebuild_command(sidecar, machine, cache=cache)}" if machine.sm else ""
    return f"does not load here: {'; '.join(reasons)}{remedy}"


def _tell(share: float, phase: str) -> None:
    doing(phase)
    done(share)


@takes_options
def build(
    model: Annotated[str | None, typer.Argument(help=A_MODEL)] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the engines there are, and build nothing.")] = False,
    *,
    options: BuildOptions,
) -> None:
    """Build TensorRT engines of a model for this machine, and prove their precision."""
    if listed:
        show("\n".join(listing(options.cache)))
        return
    from verdiff.commands.requirements import require

    require("build", ("onnx",), "tensorrt", "tensorrt-rtx")
    from verdiff.engines.build import build_engines

    with busy("building"):
        build_engines(replace(options, model=model), progress=_tell, say=say)


def build_each(bundle: Path, precisions: tuple[str, ...], *, say: Callable[[str], None]) -> None:
    """Build the engines of a bundle that was just exported, in the precisions it was exported with (FP32 without any).

    ``"int8-ov"`` has none: it is for processors.
    """
    from verdiff.engines.build import build_engines

    for precision in filter(makes_engines, precisions or (REFERENCE,)):
        with busy("building"):
            build_engines(BuildOptions(bundle, precision), progress=_tell, say=say)
