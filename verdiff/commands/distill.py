"""``verdiff distill``: a denoiser of few steps from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verdiff.commands.options import takes_options
from verdiff.commands.printing import say
from verdiff.commands.progress import busy
from verdiff.options import DistillOptions


@takes_options
def distill(
    run: Annotated[Path, typer.Argument(help="The folder of a training run: the teacher.")],
    data: Annotated[Path, typer.Option(help="The data set it was trained on: nnU-Net raw, or a prepared cache.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The student's run.")],
    *,
    options: DistillOptions,
) -> None:
    """Train a denoiser of one to four steps from a run; exit code 13: it does not beat its teacher, and is not kept."""
    from verdiff.commands.requirements import require
    from verdiff.errors import NOT_KEPT, SUCCESS

    require("distill", ("torch", "onnx"), "train")
    from verdiff.train import distilling

    with busy("distilling"):
        verdict = distilling.run(run, data, output, options, say=say)
    raise typer.Exit(SUCCESS if verdict.kept else NOT_KEPT)
