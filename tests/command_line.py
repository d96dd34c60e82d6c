"""The command line in this process."""

from __future__ import annotations

from click.testing import Result
from typer.testing import CliRunner

from verdiff.cli import app


def verdiff(*words: object) -> Result:
    """What a command says and ends with."""
    return CliRunner().invoke(app, [str(word) for word in words])


def infer_forced(scan: object, bundle: object, *more: object) -> Result:
    """`verdiff infer` of a scan that the tiny model is not made for."""
    return verdiff("infer", scan, "--model", bundle, "--threads", 1, "--force", *more)
