"""``verdiff calibrate``: how far surfaces must be moved to hold the true structure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from verdiff.commands.options import A_MODEL, takes_options
from verdiff.commands.printing import say
from verdiff.commands.progress import busy
from verdiff.options import CalibrateOptions


@takes_options
def calibrate(
    model: Annotated[str | None, typer.Argument(help=A_MODEL)] = None,
    *,
    data: Annotated[
        Path, typer.Option(help="An nnU-Net raw data set with the masks of patients that training did not see.")
    ],
    fold: Annotated[int, typer.Option(min=0, help="Fold of --data whose validation cases are taken.")] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The bundle with margins: NAME.verdiff is one file, else a folder.")
    ],
    options: CalibrateOptions,
) -> None:
    """Measure on labelled patients how far surfaces must be moved to hold the true structure, into a new bundle."""
    from verdiff.export.calibrate import run

    with busy("calibrating"):
        run(data, fold, output, replace(options, model=model), say=say)
