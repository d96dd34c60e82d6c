"""``verdiff distill``: a denoiser of few steps from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verdiff.commands.options import (
    Threads,
)
from verdiff.commands.printing import say


def distill(
    run: Annotated[Path, typer.Argument(help="The folder of a training run: the teacher.")],
    data: Annotated[Path, typer.Option(help="The data set it was trained on: nnU-Net raw, or a prepared cache.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The student's run.")],
    steps: Annotated[int | None, typer.Option(min=1, max=4, help="Steps of the student.")] = None,
    weights: Annotated[str, typer.Option(help="Checkpoint of RUN that is the teacher.")] = "best.pt",
    teacher_steps: Annotated[int | None, typer.Option(min=1, help="Steps of the teacher.")] = None,
    teacher_samples: Annotated[int | None, typer.Option(min=1, help="Samples of the teacher, averaged.")] = None,
    truth_weight: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the true mask in the loss; the rest is the teacher's.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Highest learning rate of Adam.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Wall-clock budget of the training.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Largest number of iterations.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Judge on every n-th slice.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUTPUT.")] = False,
    threads: Threads = None,
) -> None:
    """Train a denoiser of one to four steps from a run; exit code 13: it does not beat its teacher, and is not kept."""
    from verdiff.commands.requirements import require
    from verdiff.errors import NOT_KEPT, SUCCESS

    require("distill", ("torch", "onnx"), "train")
    from verdiff.train import distilling

    options = distilling.DistillOptions(
        weights=weights,
        steps=steps,
        teacher_steps=teacher_steps,
        teacher_samples=teacher_samples,
        truth_weight=truth_weight,
        learning_rate=learning_rate,
        minutes=minutes,
        iterations=iterations,
        every=every,
        threads=threads,
        resume=resume,
    )
    verdict = distilling.run(run, data, output, options, say=say)
    raise typer.Exit(SUCCESS if verdict.kept else NOT_KEPT)
