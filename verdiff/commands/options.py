"""What several commands parse alike."""

from __future__ import annotations

import sys
from typing import Annotated, TextIO

import typer

Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; every core by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Steps = Annotated[int | None, typer.Option(min=1, help="Denoiser passes a sample.")]
Samples = Annotated[int | None, typer.Option(min=1, help="Members of the ensemble.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Key of the noise.")]
Sampler = Annotated[str | None, typer.Option(help="ddim, ddpm or dpmpp-2m.")]
Fusion = Annotated[str | None, typer.Option(help="mean, steps, steps-published or staple.")]
Policy = Annotated[
    str | None, typer.Option(help="What not to compute: locate, skip, agree joined by '+'; whole; or fast.")
]
PriorOnly = Annotated[bool, typer.Option("--prior-only", help="The prior's answer, without sampling.")]
BackendName = Annotated[
    str, typer.Option(help="auto, onnxruntime, openvino, tensorrt or tensorrt-rtx; see docs/runtime.md.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
Precision = Annotated[str, typer.Option(help="fp32, fp16, bf16 or int8; auto: the fastest that passed.")]
BudgetMs = Annotated[float | None, typer.Option(help="Best mask in so many milliseconds (loading apart).")]
Force = Annotated[bool, typer.Option("--force", help="Go on with a scan unlike the training data.")]


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


def say(line: str) -> None:
    """Print a line."""
    typer.echo(printable(line, sys.stdout))


def printable(text: str, stream: TextIO) -> str:
    """Text that a stream can take: what its encoding lacks, such as names that are not UTF-8, is spelled out."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
