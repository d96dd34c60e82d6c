"""``verdiff build``: parse sizes, draw the progress, list what is in the cache."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verdiff.choices import (
    AUTO,
    ENGINE_BACKENDS,
    ENGINE_PRECISIONS,
    ENGINE_ROLES,
    GPU,
    PRECISIONS,
    SIZE,
    SM,
)
from verdiff.commands.options import (
    ExpectSha256,
    TrustedKey,
    metavar,
    one_of,
    written_as,
)
from verdiff.commands.printing import say, show
from verdiff.errors import BackendError
from verdiff.precisions import REFERENCE, makes_engines

if TYPE_CHECKING:
    from verdiff.engines import Sidecar

_PRECISIONS = (*PRECISIONS, *(each for each in ENGINE_PRECISIONS if each not in PRECISIONS))
_FLAVOURS = (AUTO, *ENGINE_BACKENDS)


@dataclass(frozen=True)
class BuildOptions:
    """The options of ``verdiff build`` as they are typed; see :class:`verdiff.engines.build.BuildRequest`."""

    model: str | None = None
    precision: str = "fp32"
    flavour: str = "auto"
    roles: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    batch: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    sms: tuple[str, ...] = ()
    device: str | None = None
    workspace_mb: int | None = None
    cache: Path | None = None
    expect_sha256: str | None = None
    trusted_key: Path | None = None


def run(options: BuildOptions, *, say: Callable[[str], None]) -> None:
    """Build the engines that are asked for; progress goes to stderr, and only if that is a terminal.

    Raises:
        VerdiffError: See :func:`verdiff.engines.build.build_engines`.
    """
    from verdiff.bundle import Trust
    from verdiff.engines import HARDWARE_COMPATIBLE, VERSION_COMPATIBLE
    from verdiff.engines.build import BuildRequest, build_engines

    flags = {VERSION_COMPATIBLE: options.version_compatible, HARDWARE_COMPATIBLE: options.hardware_compatible}
    request = BuildRequest(
        model=options.model,
        precision=options.precision,
        roles=options.roles,
        flavour=options.flavour.replace("-", "_"),
        flags=tuple(flag for flag, wanted in flags.items() if wanted),
        sizes=tuple(parse_size(text) for text in options.sizes),
        batch=options.batch,
        sms=options.sms,
        device=options.device,
        cache=options.cache,
        workspace_mb=options.workspace_mb,
        trust=Trust(options.expect_sha256, options.trusted_key),
    )
    with drawing() as progress:
        build_engines(request, progress=progress, say=say)


def engines_of(bundle: Path, precisions: tuple[str, ...], *, say: Callable[[str], None]) -> None:
    """The engines of a bundle that was just exported, in the precisions it was exported with (FP32 without any).

    ``"int8-ov"`` has none: it is for processors.
    """
    for precision in filter(makes_engines, precisions or (REFERENCE,)):
        run(BuildOptions(str(bundle), precision), say=say)


def parse_size(text: str) -> tuple[int, int]:
    """``"320x256"`` -> rows and columns.

    Raises:
        BackendError: It is not of that form.
    """
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if found is None:
        raise BackendError(f"--size {text}", "rows x columns in pixels, for example 320x256", "write it like that")
    return int(found[1]), int(found[2])


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


@contextmanager
def drawing() -> Iterator[Callable[[float, str], None] | None]:
    """A function that draws a build's progress on stderr: a bar with rich, lines without it, nothing off a terminal."""
    if not sys.stderr.isatty():
        yield None
    elif find_spec("rich") is None:
        yield _Lines().draw
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        phase = TextColumn("{task.description}")
        columns = TextColumn("building"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), phase
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=1.0)
            yield lambda share, phase: bar.update(task, completed=share, description=phase)


class _Lines:
    """A line on stderr for every tenth of a build."""

    def __init__(self) -> None:
        self.tenth = -1

    def draw(self, share: float, phase: str) -> None:
        """Write a line if another tenth is done; a new engine begins again."""
        tenth = int(10 * share)
        if tenth != self.tenth:
            self.tenth = tenth
            sys.stderr.write(f"building {10 * tenth:3d} %  {phase}\n")


def build(
    model: Annotated[str | None, typer.Argument(help="A shipped model's name or a bundle.")] = None,
    precision: Annotated[
        str,
        typer.Option(
            callback=one_of(*_PRECISIONS),
            metavar=metavar(*_PRECISIONS),
            help="Precision of the engines, which the bundle must have.",
        ),
    ] = "fp32",
    flavour: Annotated[
        str,
        typer.Option(
            callback=one_of(*_FLAVOURS), metavar=metavar(*_FLAVOURS), help="Which library; auto: which is installed."
        ),
    ] = AUTO,
    role: Annotated[
        list[str] | None,
        typer.Option(
            callback=one_of(*ENGINE_ROLES),
            metavar=metavar(*ENGINE_ROLES),
            help="Which engine, repeatable; what the runtime drives by default.",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            callback=written_as(SIZE, "ROWSxCOLUMNS, such as 320x256"),
            help="ROWSxCOLUMNS to build for; the usual fields of view.",
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images of the largest call.")] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="For TensorRT's lean runtime of the same version too.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="For every GPU from Ampere on.")
    ] = False,
    sm: Annotated[
        list[str] | None,
        typer.Option(
            callback=written_as(SM, "a compute capability, such as 89"),
            help="TensorRT-RTX: compute capability to build for, 89.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(callback=written_as(GPU, "cuda or cuda:N"), help="cuda or cuda:N to build on.")
    ] = None,
    workspace_mb: Annotated[int | None, typer.Option(min=1, help="The most device memory a layer may take.")] = None,
    cache: Annotated[Path | None, typer.Option(help="What VERDIFF_CACHE is otherwise; the user's cache.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the engines there are, and build nothing.")] = False,
    expect_sha256: ExpectSha256 = None,
    trusted_key: TrustedKey = None,
) -> None:
    """Build TensorRT engines of a model for this machine, and prove their precision."""
    if listed:
        show("\n".join(listing(cache)))
        return
    from verdiff.commands.requirements import require

    require("build", ("onnx",), "tensorrt", "tensorrt-rtx")
    options = BuildOptions(
        model,
        precision,
        flavour,
        tuple(role or ()),
        tuple(size or ()),
        batch,
        version_compatible,
        hardware_compatible,
        tuple(sm or ()),
        device,
        workspace_mb,
        cache,
        expect_sha256,
        trusted_key,
    )
    run(options, say=say)
