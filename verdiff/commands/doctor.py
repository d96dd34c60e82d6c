"""``verdiff doctor``: whether this installation works on this machine."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from verdiff.commands.options import (
    AsJson,
    Device,
    takes_options,
)
from verdiff.commands.printing import show
from verdiff.commands.progress import busy
from verdiff.errors import SUCCESS, VerdiffError
from verdiff.options import TrustOptions


@takes_options
def doctor(
    device: Device = "cpu",
    model: Annotated[str | None, typer.Option(help="A bundle to check beside the shipped models.")] = None,
    as_json: AsJson = False,
    *,
    trust: TrustOptions,
) -> None:
    """Check that this installation works on this machine; exit code 1 when something needs to be done."""
    from verdiff import doctor as room

    with busy("examining"):
        checks = room.examine(device=device, model=model, trust=trust)
    show(json.dumps(room.as_json(checks), indent=1) if as_json else "\n".join(room.lines(checks)))
    raise typer.Exit(SUCCESS if room.healthy(checks) else VerdiffError.exit_code)
