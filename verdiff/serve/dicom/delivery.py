"""DICOM objects to those that asked for them: by C-STORE to a node, by STOW-RS to a DICOMweb service.

Each destination has a queue and a thread of its own.
"""

from __future__ import annotations

import http.client
import io
import logging
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, Full, Queue
from threading import Event, Thread
from types import TracebackType
from typing import Any
from uuid import uuid4

from verdiff.errors import ServiceError
from verdiff.interop.dicom.libraries import library
from verdiff.limits import NodeLimits
from verdiff.serve.dicom.settings import Delivery, Peer

_LOG = logging.getLogger("verdiff.serve.dicom")
_TICK_S = 0.05
_CRLF = b"\r\n"


@dataclass(frozen=True)
class Parcel:
    """What goes to each destination.

    Attributes:
        number: Number of the series.
        objects: DICOM files.
    """

    number: int
    objects: tuple[bytes, ...]


def encoded(data: Any) -> bytes:
    """A pydicom data set as a file."""
    body = io.BytesIO()
    data.save_as(body, enforce_file_format=True)
    return body.getvalue()


class Courier:
    """Takes parcels to one destination, in their order, in a thread of its own: no destination waits for another.

    Args:
        where: The destination, as it is called in messages.
        send: Sends objects there; raises :class:`ServiceError`.
        limits: Attempts, pauses, and how many parcels may wait.
        closed: Set when nothing is to be sent any more.
        say: Takes a line about each parcel.
    """

    def __init__(
        self,
        where: str,
        send: Callable[[Sequence[bytes]], None],
        limits: NodeLimits,
        closed: Event,
        say: Callable[[str], None],
    ) -> None:
        self._where, self._send, self._limits, self._closed, self._say = where, send, limits, closed, say
        self._parcels: Queue[Parcel] = Queue(limits.waiting)
        self._thread = Thread(target=self._work, name="verdiff-courier", daemon=True)

    def __enter__(self) -> Courier:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._closed.set()
        self._thread.join()

    def take(self, parcel: Parcel) -> None:
        """Put a parcel behind those that wait; where too many do, it is given up, with a line."""
        try:
            self._parcels.put_nowait(parcel)
        except Full:
            waiting = f"{self._limits.waiting} results wait for it already"
            self._say(f"series {parcel.number}: not sent to {self._where}: {waiting}; to do: send the series again")

    def _work(self) -> None:
        while not self._closed.is_set():
            try:
                parcel = self._parcels.get(timeout=_TICK_S)
            except Empty:
                continue
            try:
                self._deliver(parcel)
            except ServiceError as error:
                self._say(f"series {parcel.number}: {error.found}; to do: {error.remedy}")
            except Exception as error:
                # One parcel that goes wrong must not keep the next.
                _LOG.exception("series %d", parcel.number)
                self._say(f"series {parcel.number}: not sent to {self._where} ({type(error).__name__})")

    def _deliver(self, parcel: Parcel) -> None:
        for attempt in range(self._limits.attempts):
            try:
                self._send(parcel.objects)
                break
            except ServiceError:
                last = attempt + 1 == self._limits.attempts
                if last or self._closed.wait(self._limits.retry_s * 5**attempt):
                    raise
        self._say(f"series {parcel.number}: {len(parcel.objects)} objects sent to {self._where}")


def couriers(
    delivery: Delivery, own_title: str, limits: NodeLimits, closed: Event, say: Callable[[str], None]
) -> list[Courier]:
    """One for each destination.

    Args:
        delivery: Where to.
        own_title: The AE title of the sender.
        limits: Attempts, pauses, and how many parcels may wait.
        closed: Set when nothing is to be sent any more.
        say: Takes a line about each parcel.
    """
    sends: dict[str, Callable[[Sequence[bytes]], None]] = {}
    context = delivery.context or ssl.create_default_context()
    settings: dict[str, Any] = {"context": context, "timeout_s": limits.network_s}
    if delivery.peer is not None:
        sends[str(delivery.peer)] = partial(store, peer=delivery.peer, own_title=own_title, **settings)
    if delivery.stow is not None:
        sends[delivery.stow] = partial(stow, address=delivery.stow, **settings)
    return [Courier(where, send, limits, closed, say) for where, send in sends.items()]


def store(objects: Sequence[bytes], peer: Peer, own_title: str, context: ssl.SSLContext, timeout_s: float) -> None:
    """Send DICOM files by C-STORE over one association.

    Raises:
        ServiceError: The node cannot be reached, refuses the association, or does not take an object.
    """
    dcmread = library("pydicom").dcmread
    data_sets = [dcmread(io.BytesIO(each)) for each in objects]
    entity = library("pynetdicom").AE(ae_title=own_title)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout_s
    for each in {(str(data.SOPClassUID), str(data.file_meta.TransferSyntaxUID)) for data in data_sets}:
        entity.add_requested_context(*each)
    tls = (context, peer.host) if peer.tls else None
    association = entity.associate(peer.host, peer.port, ae_title=peer.title, tls_args=tls)
    if not association.is_established:
        raise _refused(str(peer), f"no association was made{' over TLS' if tls else ''}")
    try:
        for data in data_sets:
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


def stow(objects: Sequence[bytes], address: str, context: ssl.SSLContext, timeout_s: float) -> None:
    """Send DICOM files by STOW-RS (PS3.18, 10.5) in one request.

    Raises:
        ServiceError: The service cannot be reached, does not take all of them, or sends on to another address.
    """
    boundary = f"verdiff-{uuid4().hex}"
    body = io.BytesIO()
    for each in objects:
        body.write(f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode())
        body.write(each + _CRLF)
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
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect)
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            code = answer.status
    except urllib.error.HTTPError as error:
        code = error.code
    except http.client.HTTPException as error:
        raise _refused(address, f"what answers there does not speak HTTP ({type(error).__name__})") from error
    except (OSError, ValueError) as error:
        raise _refused(address, f"it cannot be reached ({getattr(error, 'reason', error)})") from error
    # 202 is "some of them".
    if code != 200:
        raise _refused(address, f"HTTP status {code}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves an answer that names another address an error.

    The standard library would ask there without the objects, and take a login page's 200 for the service's.
    """

    def redirect_request(self, *_: Any) -> None:
        """No request follows."""


def _refused(where: str, why: str) -> ServiceError:
    return ServiceError(
        f"{where} did not take the result: {why}",
        "a node that accepts segmentations and structure sets from this AE title",
        "check its address, its list of known nodes and its log",
    )
