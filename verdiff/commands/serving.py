"""Parsing of ``verdiff serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from verdiff.commands.ending import Ended
from verdiff.commands.options import (
    BackendName,
    Device,
    Force,
    Fusion,
    Policy,
    Precision,
    PriorOnly,
    Sampler,
    Samples,
    Seed,
    Steps,
    Threads,
    above_zero,
    written_as,
)
from verdiff.commands.printing import say


def serve(
    igtl: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="Speak OpenIGTLink (18944); 0 takes a free port."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. The protocols know no passwords: whoever reaches it may use it.")
    ] = "127.0.0.1",
    model: Annotated[str | None, typer.Option(help="A shipped model's name or a bundle.")] = None,
    deadline_ms: Annotated[
        float | None, typer.Option(callback=above_zero, help="The best mask of each scan in so many milliseconds.")
    ] = None,
    surfaces: Annotated[bool, typer.Option("--surfaces", help="Send surfaces after each last mask too.")] = False,
    suffix: Annotated[
        str,
        typer.Option(
            callback=written_as(r"[A-Za-z0-9_.-]{0,8}", "at most 8 letters, digits or _.-"),
            help="Behind a scan's OpenIGTLink device name for its mask, for hosts that keep one image a name.",
        ),
    ] = "",
    max_mb: Annotated[int, typer.Option(min=1, max=16384, help="The largest OpenIGTLink message, in MiB.")] = 512,
    steps: Steps = None,
    samples: Samples = None,
    seed: Seed = None,
    sampler: Sampler = None,
    fusion: Fusion = None,
    policy: Policy = None,
    prior_only: PriorOnly = False,
    backend: BackendName = "auto",
    device: Device = "cpu",
    precision: Precision = "fp32",
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Serve masks to navigation software: scans in, masks out, until Ctrl-C or SIGTERM."""
    if igtl is None:
        raise typer.BadParameter("nothing to serve: --igtl PORT.")
    from verdiff.serve import Client
    from verdiff.serve.igtl import IgtlLimits, IgtlServer
    from verdiff.serve.igtl.frames import checksum
    from verdiff.serve.running import run

    # What is not installed is said before a model is loaded.
    checksum(b"")
    options = {
        "steps": steps,
        "samples": samples,
        "seed": seed,
        "sampler": sampler,
        "fusion": fusion,
        "policy": policy,
        "prior_only": prior_only,
        "force": force,
    }
    client = Client(model, backend=backend, device=device, precision=precision, threads=threads)
    run(
        client,
        [
            lambda client: IgtlServer(
                client,
                igtl,
                host=host,
                limits=IgtlLimits(body_mb=max_mb),
                options=options,
                deadline_ms=deadline_ms,
                surfaces=surfaces,
                suffix=suffix,
            )
        ],
        say=say,
        ending=(KeyboardInterrupt, Ended),
    )
