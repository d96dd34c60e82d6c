"""Parsing of ``verdiff serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from verdiff.commands.ending import Ended
from verdiff.commands.options import takes_options, within, written_as
from verdiff.commands.printing import say
from verdiff.options import LoadOptions, ScanOptions
from verdiff.settings import Bounds, plain


@takes_options
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
        float | None,
        typer.Option(
            callback=within(Bounds(0, above=True)), help="The best mask of each scan in so many milliseconds."
        ),
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
    *,
    sampling: ScanOptions,
    load: LoadOptions,
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
    if surfaces:
        from verdiff.anatomy.libraries import require_libraries

        require_libraries()
    client = Client(model, **plain(load))
    run(
        client,
        [
            lambda client: IgtlServer(
                client,
                igtl,
                host=host,
                limits=IgtlLimits(body_mb=max_mb),
                options=plain(sampling),
                deadline_ms=deadline_ms,
                surfaces=surfaces,
                suffix=suffix,
            )
        ],
        say=say,
        ending=(KeyboardInterrupt, Ended),
    )
