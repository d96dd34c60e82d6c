"""DICOM objects to those that asked for them: by C-STORE to a node, by STOW-RS to a DICOMweb service."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from verdiff.errors import ServiceError
from verdiff.interop.dicom.libraries import library
from verdiff.serve.dicom.settings import Delivery, NodeLimits, Peer

_CRLF = b"\r\n"


def deliver(
    objects: Sequence[Any], delivery: Delivery, own_title: str, limits: NodeLimits, wait: Callable[[float], bool]
) -> None:
    """Send data sets to every destination, each a few times before it is given up.

    Args:
        objects: pydicom data sets with file meta information.
        delivery: Where to.
        own_title: The AE title of the sender.
        limits: Attempts and pauses.
        wait: Sleeps so many seconds; True when the node is closed meanwhile.

    Raises:
        ServiceError: A destination did not take them.
    """
    sends: list[Callable[[], None]] = []
    if delivery.peer is not None:
        peer = delivery.peer
        sends.append(lambda: store(objects, peer, own_title, limits.network_s))
    if delivery.stow is not None:
        address = delivery.stow
        sends.append(lambda: stow(objects, address, limits.network_s))
    for send in sends:
        for attempt in range(limits.attempts):
            try:
                send()
                break
            except ServiceError:
                if attempt + 1 == limits.attempts or wait(limits.retry_s * 5**attempt):
                    raise


def store(objects: Sequence[Any], peer: Peer, own_title: str, timeout_s: float) -> None:
    """Send data sets by C-STORE over one association.

    Raises:
        ServiceError: The node cannot be reached, refuses the association, or does not take an object.
    """
    entity = library("pynetdicom").AE(ae_title=own_title)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout_s
    for each in {(str(data.SOPClassUID), str(data.file_meta.TransferSyntaxUID)) for data in objects}:
        entity.add_requested_context(*each)
    association = entity.associate(peer.host, peer.port, ae_title=peer.title)
    if not association.is_established:
        raise _refused(str(peer), "no association was made")
    try:
        for data in objects:
            try:
                status = association.send_c_store(data)
            except (ValueError, RuntimeError, AttributeError) as error:
                # Of a context that the node did not accept, or a connection that is gone.
                raise _refused(str(peer), f"{data.Modality}: {error}") from error
            code = status.get("Status")
            # B000, B006 and B007 are warnings: it was stored.
            if code not in (0x0000, 0xB000, 0xB006, 0xB007):
                raise _refused(
                    str(peer), f"{data.Modality}: " + ("no answer" if code is None else f"status {code:04X}")
                )
    finally:
        association.release()


def stow(objects: Sequence[Any], address: str, timeout_s: float) -> None:
    """Send data sets by STOW-RS (PS3.18, 10.5) in one request.

    Raises:
        ServiceError: The service cannot be reached, or does not take all of them.
    """
    boundary = f"verdiff-{uuid4().hex}"
    body = io.BytesIO()
    for data in objects:
        body.write(f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode())
        data.save_as(body, enforce_file_format=True)
        body.write(_CRLF)
    body.write(f"--{boundary}--\r\n".encode())
    request = urllib.request.Request(
        address.rstrip("/") + "/studies",
        data=body.getvalue(),
        headers={
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Accept": "application/dicom+json",
        },
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            code = answer.status
    except urllib.error.HTTPError as error:
        code = error.code
    except (OSError, ValueError) as error:
        raise _refused(address, f"it cannot be reached ({getattr(error, 'reason', error)})") from error
    # 202 is "some of them".
    if code != 200:
        raise _refused(address, f"HTTP status {code}")


def _refused(where: str, why: str) -> ServiceError:
    return ServiceError(
        f"{where} did not take the result: {why}",
        "a node that accepts segmentations and structure sets from this AE title",
        "check its address, its list of known nodes and its log",
    )
