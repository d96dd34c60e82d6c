"""The command line of the studies: ``python -m studies NAME ...`` in a checkout, one command a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from studies.training.plans import PLANS, PROCESSOR, WALL, TablePlan
from verdiff.cli import Commands
from verdiff.commands.ending import end_in_order
from verdiff.commands.options import Overwrite, Threads, metavar, one_of
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


@app.command()
def equations() -> None:
    """Verdiff-Net's printed equations beside the consistent ones, as a Markdown table."""
    from studies.equations import markdown
    from verdiff.diffusion import Schedule

    show(markdown(Schedule("linear", 1000)).rstrip())


@app.command("list")
def listing() -> None:
    """Name the studies."""
    from studies.running import STUDIES

    on_paper = {"equations": "Verdiff-Net's printed equations beside the consistent ones: which of them cannot hold?"}
    every = {**STUDIES, **{name: plan.question for name, plan in PLANS.items()}, **on_paper}
    show("\n".join(f"{name:<20} {what}" for name, what in every.items()))


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


@app.command("side-by-side")
def side_by_side(
    data: DataSet,
    output: Output = None,
    model: Model = None,
    nnunet: Annotated[
        Path | None, typer.Option(help="What 'verdiff train nnunet --nnunetv2' left; else random weights, time alone.")
    ] = None,
    medsegdiff: Annotated[
        Path | None, typer.Option(help="A bundle of MedSegDiff, whose own networks its recipe then runs.")
    ] = None,
    fold: Fold = 0,
    every: Annotated[int, typer.Option(min=1, help="Take every n-th scan of the fold.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds, each in fresh processes.")] = 5,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Whole scans by verdiff, nnunetv2's predictor and MedSegDiff's recipe: seconds, peak memory, Dice."""
    _run("side-by-side", **locals())


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


@app.command()
def endurance(
    output: Output = None,
    model: Model = None,
    requests: Annotated[int, typer.Option(min=20, help="Series to send, each after the last one's answer.")] = 1000,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Memory, descriptors and latency of 'verdiff serve' over many series in a row, by C-STORE and STOW-RS in turns."""
    _run("endurance", **locals())


def _training(study: str, plan: TablePlan) -> None:
    """Add the command of a table that is trained; all of them have the same options."""

    def table(
        data: Annotated[Path, typer.Argument(help="An nnU-Net raw data set, or a cache of 'verdiff train --prepare'.")],
        output: Annotated[Path, typer.Option("--output", "-o", help="The queue's folder, which it goes on with.")],
        minutes: Annotated[
            float | None, typer.Option(min=0, help="Minutes of this sitting; the same command goes on.")
        ] = None,
        budget: Annotated[float, typer.Option(min=0.01, help="Minutes of training of each main model.")] = plan.budget,
        others: Annotated[float, typer.Option(min=0.01, help="Minutes of each other model.")] = plan.others,
        models: Annotated[
            str | None, typer.Option(help="Names, joined by commas, in the order of training; all of the table.")
        ] = None,
        beside: Annotated[
            list[Path] | None, typer.Option(help="A further data set, for models that train on several; repeatable.")
        ] = None,
        seeds: Annotated[int, typer.Option(min=1, help="Seeds of each model.")] = plan.seeds,
        seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 35,
        fold: Fold = 0,
        every: Annotated[int, typer.Option(min=1, help="Score every n-th case put aside.")] = 1,
        groups: Annotated[
            Path | None, typer.Option(help="A CSV file case,group: these cases are looked at apart, too.")
        ] = None,
        records: Annotated[
            list[Path] | None,
            typer.Option(
                "--with",
                metavar="RECORD",
                help="An earlier record of this table: what it has is not trained again; repeatable.",
            ),
        ] = None,
        setting: Annotated[
            list[str] | None, typer.Option("--set", help="[MODEL:]TABLE.KEY=VALUE for every model or one; repeatable.")
        ] = None,
        threads: Threads = None,
        clock: Annotated[
            str,
            typer.Option(
                callback=one_of(WALL, PROCESSOR),
                metavar=metavar(WALL, PROCESSOR),
                help="What the budgets are minutes of; processor: equal work on a machine that others use, too.",
            ),
        ] = WALL,
    ) -> None:
        from studies.training.running import run

        run(
            study,
            data,
            output,
            minutes=minutes,
            groups=groups,
            records=records or (),
            threads=threads,
            say=say,
            budget=budget,
            others=others,
            models=tuple(name.strip() for name in (models or "").split(",") if name.strip()),
            beside=tuple(beside or ()),
            seeds=seeds,
            seed=seed,
            fold=fold,
            clock=clock,
            every=every,
            settings=tuple(setting or ()),
        )

    app.command(study, help=f"{plan.question}.")(table)


for _name, _plan in PLANS.items():
    _training(_name, _plan)


@app.command()
def groups(
    data: DataSet,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="CSV", help="The file, for --groups of a table.")],
    overwrite: Overwrite = False,
) -> None:
    """Which patients have a narrowed disc, from masks and images, for --groups of a table."""
    from studies.training.discs import write_groups

    write_groups(data, output, overwrite=overwrite, say=say)


@app.command()
def levels(
    train: Annotated[list[Path], typer.Argument(help="nnU-Net raw data sets that the weights come from.")],
    test: Annotated[list[Path] | None, typer.Option(help="A data set to measure on alone; repeatable.")] = None,
    masks: Annotated[
        list[Path] | None, typer.Option(help="A folder of a model's masks of the --test in the same place.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Where the weights go: verdiff/anatomy/anchor.json.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The page; printed without.")] = None,
) -> None:
    """Levels from the picture: makes the weights, and measures them on patients that they have not seen."""
    import shlex
    import sys

    from studies.levels.running import run

    command = shlex.join(["python", "-m", "studies", "levels", *(Path(word).name for word in sys.argv[2:])])
    of = dict(zip(test or (), masks or (), strict=False))
    run(train, test or (), masks=of, weights=weights, output=output, command=command, say=say)


def _run(
    study: str, *, output: Path | None, model: str | None, threads: int | None, overwrite: bool, **options: Any
) -> None:
    from studies.options import StudyOptions
    from studies.running import run
    from verdiff.runtime.backends import default_threads

    asked = StudyOptions(
        bundle=model, threads=threads or default_threads(), say=show if output is None else say, **options
    )
    run(study, asked, output=output, overwrite=overwrite)


if __name__ == "__main__":
    end_in_order()
    app()
