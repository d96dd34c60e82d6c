"""The command line of the studies: ``python -m studies NAME ...`` in a checkout, one command a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from verdiff.cli import Commands
from verdiff.commands.options import Overwrite, Threads
from verdiff.commands.printing import say, show

DataSet = Annotated[Path, typer.Argument(help="An nnU-Net raw data set.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="PATH", help="Folder of the record, or its .json file, or a page, .html, beside it."
    ),
]
Model = Annotated[str | None, typer.Option(help="A shipped model's name or a bundle.")]
Fold = Annotated[int, typer.Option(min=0, help="Fold whose validation cases are scored.")]
Every = Annotated[int, typer.Option(min=1, help="Score every n-th slice of them.")]
Repeats = Annotated[int, typer.Option(min=1, help="Timed rounds.")]

app = typer.Typer(
    name="python -m studies",
    cls=Commands,
    help="The studies behind docs/results.",
    epilog="Example: python -m studies frontier $VERDIFF_DATA/Dataset101_SpineMR --fold 0 -o docs/results/",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command("list")
def listing() -> None:
    """Name the studies."""
    from studies.running import STUDIES

    show("\n".join(f"{name:<20} {what}" for name, what in STUDIES.items()))


@app.command()
def frontier(
    data: DataSet,
    output: Output = None,
    model: Model = None,
    fold: Fold = 0,
    every: Every = 1,
    repeats: Repeats = 5,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Dice against time of the prior alone and of steps x samples x policy; checks that the prior is not copied."""
    _run("frontier", **locals())


@app.command()
def rivals(
    data: DataSet,
    output: Output = None,
    model: Model = None,
    training_run: Annotated[
        Path | None, typer.Option("--run", help="The training run behind the bundle, for PyTorch's weights.")
    ] = None,
    fold: Fold = 0,
    every: Every = 1,
    recipe_slices: Annotated[int, typer.Option(min=0, help="Slices that MedSegDiff's 1000 steps really run on.")] = 1,
    repeats: Repeats = 5,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """The default setting against PyTorch, a naive loop and MedSegDiff's recipe on the same slices."""
    _run("rivals", **locals())


@app.command("prior-at-equal-time")
def prior_at_equal_time(
    data: DataSet,
    output: Output = None,
    model: Model = None,
    fold: Fold = 0,
    every: Every = 1,
    repeats: Repeats = 5,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """The default setting against its own prior, averaged over as many views of a slice as fill the same time."""
    _run("prior-at-equal-time", **locals())


@app.command()
def samplers(
    data: DataSet,
    output: Output = None,
    model: Model = None,
    fold: Fold = 0,
    every: Every = 1,
    repeats: Repeats = 5,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Samplers and starts at equal denoiser passes."""
    _run("samplers", **locals())


@app.command()
def scaling(
    output: Output = None,
    model: Model = None,
    every: Annotated[int, typer.Option(min=1, help="Divide the scans' lengths by n.")] = 1,
    repeats: Repeats = 5,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Time and peak memory of generated scans that grow up to 512 x 512 x 800 voxels."""
    _run("scaling", **locals())


def _run(study: str, **options: Any) -> None:
    from studies.running import run

    run(study, say=say if options["output"] is not None else show, **options)


if __name__ == "__main__":
    app()
