"""What several commands parse alike."""

from __future__ import annotations

from typing import Annotated

import typer

Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; every core by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def say(line: str) -> None:
    """Print a line."""
    typer.echo(line)
