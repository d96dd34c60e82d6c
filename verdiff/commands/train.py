"""``verdiff train``: train a model, or prepare its data."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from verdiff.choices import (
    SETTING,
)
from verdiff.commands.options import (
    Orientation,
    Patients,
    Threads,
    configuration,
    fold_or_all,
    told,
    unfit,
    weighted,
    written_as,
)
from verdiff.commands.printing import say
from verdiff.commands.progress import busy


def train(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The run's folder; with --prepare the cache's folder.")
    ],
    config: Annotated[
        str | None,
        typer.Argument(
            callback=configuration,
            help="A shipped configuration's name ('verdiff models') or a TOML file; --resume knows its own.",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            callback=weighted,
            help="An nnU-Net raw data set, or a cache written by --prepare; repeatable, and FOLDER:WEIGHT "
            "draws its patients more or less often; --resume knows its own.",
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            callback=fold_or_all,
            help="Fold that validates; by default 0. 'all' trains on every case and puts none aside.",
        ),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Number of folds by patient to make, instead of the data set's own.")
    ] = None,
    patients: Patients = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Wall-clock budget; 0 only validates and keeps the weights of --from.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            callback=written_as(SETTING, "TABLE.KEY=VALUE, such as training.batch=2"),
            help="TABLE.KEY=VALUE in place of the configuration's; repeatable.",
        ),
    ] = None,
    prepare: Annotated[bool, typer.Option("--prepare", help="Only write the data set as an .npz cache.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in OUTPUT, as it was started; --minutes may extend it.")
    ] = False,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            help="A run, a bundle or a shipped model of the same network: its weights come first; of several, their "
            "mean; repeatable.",
        ),
    ] = None,
    nnunetv2: Annotated[
        bool, typer.Option("--nnunetv2", help="With nnunet: run the real nnunetv2 planner and trainer on this fold.")
    ] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of weights, batches and augmentation.")] = None,
    threads: Threads = None,
    orientation: Orientation = None,
) -> None:
    """Train a model, or prepare its data."""
    if (config is None or not data) and not (resume and not nnunetv2):
        raise typer.BadParameter("CONFIG and --data say what is trained on what; only --resume knows them itself")
    if setting:
        from verdiff.train.setting_keys import check_settings

        told(lambda: check_settings(setting, None if resume else config))
    from verdiff.commands.requirements import require

    require("train", ("torch", "onnx"), "train")
    from verdiff.train import training
    from verdiff.train.data.cases import ALL
    from verdiff.train.data.joining import TrainingSource
    from verdiff.train.ranks import processes_of_torchrun, ranks_of_torchrun

    if (count := processes_of_torchrun()) > 1 and (prepare or nnunetv2):
        raise unfit(f"--{'prepare' if prepare else 'nnunetv2'} by {count} processes", "call it without torchrun")
    sources = [TrainingSource.parse(text) for text in data or ()]
    settings = [*(setting or ()), *([f'data.orientation="{orientation}"'] if orientation else ())]
    number = _fold_number(fold)
    if nnunetv2:
        given = {
            "--prepare": prepare, "--minutes": minutes, "--set": setting, "--seed": seed, "--threads": threads,
            "--orientation": orientation,
            "--patients": patients, "a second --data": len(sources) > 1, "--from": origin, "--fold all": number == ALL,
        }  # fmt: skip
        refused = [name for name, value in given.items() if value is not None and value is not False]
        folder = sources[0].folder
        training.run_nnunetv2(
            config or "", folder, output, fold=number or 0, folds=folds, resume=resume, refused=refused, say=say
        )
    elif prepare:
        meant = {"--fold": fold, "--folds": folds, "--minutes": minutes, "--seed": seed, "--from": origin}
        if ignored := [name for name, value in {**meant, "--resume": resume or None}.items() if value is not None]:
            raise unfit(
                f"--prepare with {', '.join(ignored)}", "give them to the training that reads the cache; leave them out"
            )
        with busy("preparing"):
            training.prepare(config or "", sources, output, patients=patients, settings=settings, say=say)
    else:
        # Of several processes the first one speaks for all.
        with ranks_of_torchrun() as ranks, busy("training") if ranks.first else nullcontext():
            training.run(
                config,
                sources,
                output,
                fold=number,
                folds=folds,
                patients=patients,
                origins=origin or (),
                settings=settings,
                minutes=minutes,
                seed=seed,
                threads=threads,
                resume=resume,
                ranks=ranks,
                say=say,
            )


def _fold_number(fold: str | None) -> int | None:
    from verdiff.train.data.cases import ALL

    if fold is None:
        return None
    return ALL if fold == "all" else int(fold)
