"""Parsing of the commands that finish a bundle: calibrate, sign."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from verdiff.commands.options import Overwrite, takes_options
from verdiff.commands.printing import say
from verdiff.options import CalibrateOptions


@takes_options
def calibrate(
    model: Annotated[str | None, typer.Argument(help="A shipped model's name or a bundle.")] = None,
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
    from verdiff.export import calibrate as command

    command.run(data, fold, output, replace(options, model=model), say=say)


def sign(
    model: Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle or a shipped model's name.")],
    key: Annotated[
        Path,
        typer.Option(metavar="PEM", help="Ed25519 private key; VERDIFF_KEY_PASSPHRASE has its passphrase, if any."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The signature; BUNDLE.sig, where it is looked for.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Sign a bundle, so that --trusted-key can tell it from any other: the signature lies beside it."""
    from verdiff.commands import sign as command

    command.run(model, key, output=output, overwrite=overwrite, say=say)
