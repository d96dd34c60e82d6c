"""Parsing of ``verdiff serve``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from verdiff.choices import AE_TITLE, AE_TITLE_WORDS, DICOM_NODE, DICOM_OBJECTS, DICOMWEB
from verdiff.commands.ending import Ended
from verdiff.commands.options import A_MODEL, listed, require_used, takes_options, unfit, within, written_as
from verdiff.commands.printing import say, warn
from verdiff.limits import Completion, IgtlLimits
from verdiff.options import LoadOptions, ScanOptions, TlsOptions
from verdiff.settings import Bounds, option_name, options_of, plain

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_MISSING = {
    False: "its protocols know neither passwords nor encryption",
    True: "without --tls-ca no client is asked for a certificate",
}
# Options that say something about another one alone.
_USED = {
    "--dicom": (
        *("--stow-in", "--ae-title", "--allow", "--send-to", "--stow", "--objects"),
        *(option_name(each) for each in options_of(Completion)),
    ),
    "--igtl": ("--surfaces", "--suffix", *(option_name(each) for each in options_of(IgtlLimits))),
    "--send-to": ("--send-tls",),
}


@takes_options
def serve(
    context: typer.Context,
    igtl: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="Speak OpenIGTLink (18944); 0 takes a free port."),
    ] = None,
    dicom: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="Take DICOM series by C-STORE (11112); 0: a free port."),
    ] = None,
    stow_in: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="With --dicom: take them by STOW-RS, too; 0: a free port."),
    ] = None,
    ae_title: Annotated[
        str, typer.Option(callback=written_as(AE_TITLE, AE_TITLE_WORDS), help="Own AE title.")
    ] = "VERDIFF",
    allow: Annotated[
        list[str] | None,
        typer.Option(
            callback=written_as(AE_TITLE, AE_TITLE_WORDS),
            metavar="TITLE",
            help="An AE title that may send; once for each.",
        ),
    ] = None,
    send_to: Annotated[
        str | None,
        typer.Option(
            callback=written_as(DICOM_NODE, "TITLE@HOST:PORT, such as ORTHANC@127.0.0.1:4242"),
            metavar="TITLE@HOST:PORT",
            help="The DICOM node that gets the results by C-STORE.",
        ),
    ] = None,
    stow: Annotated[
        str | None,
        typer.Option(
            callback=written_as(DICOMWEB, "a DICOMweb address, such as http://HOST:PORT/dicom-web"),
            metavar="URL",
            help="The DICOMweb service that gets the results by STOW-RS.",
        ),
    ] = None,
    objects: Annotated[
        str, typer.Option(callback=listed(*DICOM_OBJECTS), help=f"What is sent, of {', '.join(DICOM_OBJECTS)}.")
    ] = ",".join(DICOM_OBJECTS[:2]),
    *,
    completion: Completion,
    host: Annotated[
        str, typer.Option(help="Address to listen on. The protocols know no passwords: whoever reaches it may use it.")
    ] = "127.0.0.1",
    model: Annotated[str | None, typer.Option(help=A_MODEL)] = None,
    deadline_ms: Annotated[
        float | None,
        typer.Option(
            callback=within(Bounds(0, above=True)), help="Time for the best mask of each scan in milliseconds."
        ),
    ] = None,
    surfaces: Annotated[bool, typer.Option("--surfaces", help="Send surfaces after each last mask too.")] = False,
    suffix: Annotated[
        str,
        typer.Option(
            callback=written_as(r"[A-Za-z0-9_.-]{0,8}", "at most 8 letters, digits or _.-"),
            help="Suffix of a mask's OpenIGTLink device name, for hosts that keep one image a name.",
        ),
    ] = "",
    limits: IgtlLimits,
    tls: TlsOptions,
    sampling: ScanOptions,
    load: LoadOptions,
) -> None:
    """Serve masks to navigation software: scans in, masks out, until Ctrl-C or SIGTERM."""
    if igtl is None and dicom is None:
        raise typer.BadParameter("nothing to serve: --igtl PORT or --dicom PORT.")
    require_used(context, _USED)
    ports = [("--igtl", igtl), ("--dicom", dicom), ("--stow-in", stow_in)]
    for port in (each for _, each in ports if each):
        if len(same := [name for name, each in ports if each == port]) > 1:
            raise typer.BadParameter(f"{' and '.join(same)} on the one port {port}: each wants one of its own.")
    sends_over_tls = tls.send_tls or (stow is not None and stow.startswith("https:"))
    if tls.tls_ca is not None and tls.tls_cert is None and not sends_over_tls:
        # Clients would be served without TLS, and so without being asked for a certificate.
        raise unfit("--tls-ca with nothing over TLS", "add --tls-cert PEM, or leave it out")
    from verdiff.serve import Client
    from verdiff.serve.running import Server, require_ports, run
    from verdiff.serve.tls import sending, serving

    # What is not installed, or makes no sense, is said before a model is loaded.
    servers: list[Callable[[Client], Server]] = []
    served = serving(tls)
    shared: dict[str, Any] = {"host": host, "options": plain(sampling), "deadline_ms": deadline_ms, "tls": served}
    if igtl is not None:
        from verdiff.serve.igtl import IgtlServer
        from verdiff.serve.igtl.frames import checksum

        checksum(b"")
        if surfaces:
            from verdiff.anatomy.libraries import require_libraries

            require_libraries()
        servers.append(
            lambda client: IgtlServer(client, igtl, limits=limits, surfaces=surfaces, suffix=suffix, **shared)
        )
    if dicom is not None:
        from verdiff.serve.dicom import Delivery, DicomNode, Peer, check_node

        allowed = tuple(allow or ())
        check_node(ae_title, allowed)
        names = tuple(dict.fromkeys(name.strip() for name in objects.split(",") if name.strip()))
        peer = None if send_to is None else Peer.parse(send_to, tls=tls.send_tls)
        delivery = Delivery(names, peer, stow, sending(tls))
        servers.append(
            lambda client: DicomNode(
                client,
                dicom,
                delivery,
                stow_in=stow_in,
                title=ae_title,
                allowed=allowed,
                completion=completion,
                say=say,
                **shared,
            )
        )
    if host not in LOOPBACK and (served is None or tls.tls_ca is None):
        hidden = "" if served is None else ", over TLS"
        warn(f"note: whoever reaches {host} may use this server{hidden}: {_MISSING[served is not None]}")
    require_ports(host, dict(ports))
    run(Client(model, **plain(load)), servers, say=say, ending=(KeyboardInterrupt, Ended))
