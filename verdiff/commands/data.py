"""The commands ``verdiff data ...``: parse, call, print. What they need is imported when they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verdiff.choices import CONTRASTS, DATA_LABELS, DATA_SETS
from verdiff.commands.options import AsJson, Orientation, Patients, listed, metavar, one_of
from verdiff.commands.printing import say, show
from verdiff.commands.progress import busy

DataSet = Annotated[Path, typer.Argument(help="An nnU-Net raw data set.")]
Folds = Annotated[int, typer.Option(min=2, help="Number of folds; fewer where there are fewer patients.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the shuffle.")]
First = Annotated[list[str] | None, typer.Option(help="A patient to validate on in fold 0; can be repeated.")]

app = typer.Typer(
    help="Data sets: convert public ones, check, make folds by patient.",
    epilog="Example: verdiff data check $VERDIFF_DATA/Dataset101_SpineMR",
    no_args_is_help=True,
    add_completion=False,
)


@app.command("list", short_help="List the public data sets that can be converted.", epilog="Example: verdiff data list")
def listing() -> None:
    """List the public data sets that can be converted, with their licences and options."""
    from verdiff.commands import data_sets

    show("\n".join(data_sets.listing()))


@app.command(
    short_help="Make an nnU-Net raw data set of a public download.",
    epilog="Example: verdiff data convert spider downloads/spider Dataset101_SpineMR --midline",
)
def convert(
    name: Annotated[
        str, typer.Argument(callback=one_of(*DATA_SETS), help="Which data set; 'verdiff data list' names them.")
    ],
    source: Annotated[Path, typer.Argument(help="Folder of the unpacked download.")],
    output: Annotated[Path, typer.Argument(help="The nnU-Net raw data set to make.")],
    labels: Annotated[
        str,
        typer.Option(
            callback=one_of(*DATA_LABELS),
            metavar=metavar(*DATA_LABELS),
            help="structures: one label for all vertebrae; levels: one for each.",
        ),
    ] = "structures",
    contrasts: Annotated[
        str | None,
        typer.Option(callback=listed(*CONTRASTS), help=f"spider: of {', '.join(CONTRASTS)}, joined by commas; all."),
    ] = None,
    midline: Annotated[
        bool, typer.Option("--midline", help="spider: slices near the midline, as in Dataset101_SpineMR.")
    ] = False,
    subset: Annotated[str | None, typer.Option(help="Only what lies in folders of this name.")] = None,
    folds: Folds = 5,
    seed: Seed = 35,
    first: First = None,
    leave_out_bad: Annotated[
        bool, typer.Option("--leave-out-bad", help="Leave out cases that cannot be converted, by name.")
    ] = False,
) -> None:
    """Make an nnU-Net raw data set, with folds by patient, from a public download."""
    from verdiff.commands import data_sets

    with busy("converting"):
        data_sets.convert(
            name,
            source,
            output,
            data_sets.options(labels, contrasts, midline=midline, subset=subset),
            data_sets.fold_options(folds, seed, first),
            leave_out_bad=leave_out_bad,
            say=say,
        )


@app.command(
    short_help="Find what would spoil a training.",
    epilog="Example: verdiff data check $VERDIFF_DATA/Dataset101_SpineMR",
)
def check(
    folders: Annotated[list[Path], typer.Argument(help="nnU-Net raw data sets; several are also checked together.")],
    patients: Patients = None,
    as_json: AsJson = False,
    orientation: Orientation = None,
) -> None:
    """Find mismatched grids, unknown labels, empty masks, patients in two splits; exit code 9: not usable."""
    from verdiff.commands import data_sets

    with busy("checking"):
        code = data_sets.check(folders, patients=patients, as_json=as_json, orientation=orientation, say=show)
    raise typer.Exit(code)


@app.command(epilog="Example: verdiff data split $VERDIFF_DATA/Dataset104_SpineCT --folds 2")
def split(
    folder: DataSet,
    folds: Folds = 5,
    seed: Seed = 35,
    first: First = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over the folds that are there.")] = False,
) -> None:
    """Write splits_final.json: folds by patient."""
    from verdiff.commands import data_sets

    data_sets.split(folder, data_sets.fold_options(folds, seed, first), replace=replace, say=say)
