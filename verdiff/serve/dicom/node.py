"""A DICOM node: series come in by C-STORE and STOW-RS, masks go back as segmentation objects and structure sets.

What a client says reaches no path, no shell and no log but as a checked AE title; the images are read by verdiff's own
parser, and computed in the worker's process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from ssl import SSLContext
from threading import Event, Thread
from time import monotonic
from types import MappingProxyType, TracebackType
from typing import Any

from verdiff.bundle import Label
from verdiff.errors import VerdiffError
from verdiff.files import scratch_folder
from verdiff.imaging import read_volume
from verdiff.imaging.terms import structures
from verdiff.interop.dicom import Mask, segmentation_of, source_of, structure_set_of, uncertainty_of
from verdiff.interop.dicom.libraries import library, require_libraries
from verdiff.interop.dicom.mask import require_source, settings_of
from verdiff.limits import Completion, NodeLimits
from verdiff.serve.client import Client
from verdiff.serve.dicom.delivery import Parcel, couriers, encoded
from verdiff.serve.dicom.inbox import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, Inbox, ReceivedSeries
from verdiff.serve.dicom.settings import (
    CONTOURS,
    IMAGES,
    SEGMENTATION,
    SYNTAXES,
    UNCERTAINTY,
    Delivery,
    check_titles,
)
from verdiff.serve.dicom.web import StowServer
from verdiff.serve.failures import listening
from verdiff.serve.tls import Deferred, shake_hands

_LOG = logging.getLogger("verdiff.serve.dicom")
_TICK_S = 0.05
# Of a PDU (PS3.8, 9.3.1): what it may claim beyond the 16 KiB that are negotiated; association requests are longer.
_LARGEST_PDU = 1 << 20
_BLOCK = 1 << 16
_MB = 1 << 20


def check_node(title: str, allowed: tuple[str, ...]) -> None:
    """Refuse what could only fail once a model is loaded.

    Raises:
        InputError: A title that is none, or nobody may send.
        BackendError: The extra ``[dicom]`` is not installed.
    """
    require_libraries("pydicom", "highdicom", "pynetdicom")
    check_titles(title, allowed)


class DicomNode:
    """A C-STORE provider, and a STOW-RS service if asked for, in front of a worker; it listens while it is entered.

    Args:
        client: The worker; it stays the caller's.
        port: Port to listen on; 0 takes a free one.
        delivery: What goes back, and where to.
        stow_in: Port of a DICOMweb service that takes series by STOW-RS, too; 0 takes a free one, None serves none.
        host: Address to listen on.
        title: Own AE title.
        allowed: AE titles that may send.
        completion: Rule by which a series is complete.
        limits: How much it takes.
        options: Options of :meth:`verdiff.serve.Client.submit`.
        deadline_ms: Time that a job has.
        tls: TLS context for those that send, which :func:`verdiff.serve.tls.serving` gives; None speaks plain.
        say: Takes a line about each series; it names no patient and no UID.

    Raises:
        InputError: A title that is none, or nobody may send.
        BackendError: The extra ``[dicom]`` is not installed.
    """

    def __init__(
        self,
        client: Client,
        port: int,
        delivery: Delivery,
        *,
        allowed: tuple[str, ...],
        stow_in: int | None = None,
        host: str = "127.0.0.1",
        title: str = "VERDIFF",
        completion: Completion | None = None,
        limits: NodeLimits | None = None,
        options: Mapping[str, Any] = MappingProxyType({}),
        deadline_ms: float | None = None,
        tls: SSLContext | None = None,
        say: Callable[[str], None] = _LOG.info,
    ) -> None:
        check_node(title, allowed)
        self._client, self._listen, self._delivery = client, (host, port), delivery
        self._own, self._allowed, self._stow_in = title, allowed, stow_in
        self.stow_url: str | None = None
        self._completion, self._limits = completion or Completion(), limits or NodeLimits()
        self._options, self._deadline_ms, self._say = dict(options), deadline_ms, say
        self._tls = tls
        self._closed = Event()
        self._stack = ExitStack()
        self._received: dict[Any, int] = {}

    @property
    def title(self) -> str:
        """What it speaks."""
        return f"DICOM as {self._own}{' over TLS' if self._tls else ''}"

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.socket.getsockname()[:2]
        return str(host), int(port)

    def __enter__(self) -> DicomNode:
        with ExitStack() as stack:
            self._inbox = Inbox(stack.enter_context(scratch_folder()), self._completion, self._limits)
            self._couriers = [
                stack.enter_context(each)
                for each in couriers(self._delivery, self._own, self._limits, self._closed, self._say)
            ]
            entity = self._entity()
            stack.callback(entity.shutdown)
            with listening(*self._listen, "--dicom"):
                self._server = entity.start_server(
                    self._listen,
                    block=False,
                    ssl_context=None if self._tls is None else Deferred(self._tls),
                    evt_handlers=self._handlers(),
                )
            if self._stow_in is not None:
                with listening(self._listen[0], self._stow_in, "--stow-in"):
                    web = StowServer((self._listen[0], self._stow_in), self._inbox, self._limits, self._tls)
                self.stow_url = stack.enter_context(web).url
                self._say(f"DICOMweb at {self.stow_url}")
            self._thread = Thread(target=self._watch, name="verdiff-dicom", daemon=True)
            self._thread.start()
            stack.callback(self._end_watch)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _end_watch(self) -> None:
        self._closed.set()
        self._thread.join()

    def _entity(self) -> Any:
        pynetdicom, classes = library("pynetdicom"), library("pynetdicom.sop_class")
        entity = pynetdicom.AE(ae_title=self._own)
        entity.require_called_aet = True
        entity.require_calling_aet = list(self._allowed)
        entity.maximum_associations = self._limits.associations
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = self._limits.network_s
        entity.add_supported_context(classes.Verification)
        for image in IMAGES:
            entity.add_supported_context(image, list(SYNTAXES))
        return entity

    def _handlers(self) -> list[Any]:
        evt = library("pynetdicom").evt
        return [
            (evt.EVT_CONN_OPEN, self._shaken),
            (evt.EVT_CONN_OPEN, self._bounded),
            (evt.EVT_CONN_OPEN, _guarded),
            (evt.EVT_DATA_RECV, self._counted),
            (evt.EVT_CONN_CLOSE, self._gone),
            (evt.EVT_C_STORE, self._stored),
        ]

    def _shaken(self, event: Any) -> None:
        """Shake hands over TLS, in the connection's own thread."""
        stream = event.assoc.dul.socket
        try:
            shake_hands(stream.socket, self._limits.network_s, self._closed.is_set)
        except OSError as error:
            _LOG.info("no handshake over TLS (%s)", type(error).__name__)
            stream.close()

    def _bounded(self, event: Any) -> None:
        """Have a PDU end its connection that claims more than any needs, or that does not come in time.

        pynetdicom takes memory for what a header claims, and waits for the rest of it without an end.
        """
        stream, longest = event.assoc.dul.socket, self._limits.network_s

        def bounded(count: int) -> bytearray:
            if count > _LARGEST_PDU:
                raise OSError(f"a PDU of {count} bytes")
            received, end = bytearray(), monotonic() + longest
            while len(received) < count:
                stream.socket.settimeout(max(0.001, end - monotonic()))
                block = stream.socket.recv(min(count - len(received), _BLOCK))
                if not block:
                    break
                received += block
                if monotonic() > end:
                    raise TimeoutError("a PDU that comes too slowly")
            stream.socket.settimeout(longest)
            return received

        stream.recv = bounded

    def _counted(self, event: Any) -> None:
        """End the association of a message that is longer than an instance may be."""
        total = self._received.get(event.assoc, 0) + len(event.data)
        self._received[event.assoc] = total
        if total > self._limits.instance_mb * _MB:
            self._received.pop(event.assoc, None)
            self._say(f"an instance of more than {self._limits.instance_mb} MiB: its association was ended")
            event.assoc.abort()

    def _gone(self, event: Any) -> None:
        self._received.pop(event.assoc, None)

    def _stored(self, event: Any) -> int:
        """An instance came; the status that its sender is told."""
        self._received.pop(event.assoc, None)
        sender = str(event.assoc.requestor.ae_title)
        try:
            data = event.encoded_dataset()
        except (ValueError, AttributeError, TypeError):
            return CANNOT_UNDERSTAND
        except MemoryError:
            return OUT_OF_RESOURCES
        return self._inbox.store(sender, data).status

    def _watch(self) -> None:
        while not self._closed.wait(_TICK_S):
            for series in self._inbox.complete():
                try:
                    self._answer(series)
                except VerdiffError as error:
                    self._say(f"series {series.number}: {error.found}; to do: {error.remedy}")
                except Exception as error:
                    # One series that goes wrong must not end the node.
                    _LOG.exception("series %d", series.number)
                    self._say(f"series {series.number}: failed ({type(error).__name__})")
                finally:
                    self._inbox.done_with(series)
                if self._closed.is_set():
                    return

    def _answer(self, series: ReceivedSeries) -> None:
        """Read a series, have it segmented, send what was asked for."""
        self._say(f"series {series.number} from {series.sender}: {len(series.files)} images, complete")
        scan = read_volume(series.folder)
        require_source(scan)
        job = self._client.submit(
            scan,
            deadline_ms=self._deadline_ms,
            uncertainty=UNCERTAINTY in self._delivery.objects,
            **self._options,
        )
        while True:
            try:
                reply = job.result(_TICK_S)
                break
            except TimeoutError:
                if self._closed.is_set():
                    job.cancel()
                    return
        model = reply.provenance["model"]
        labels = [Label(number, name, model.get("codes", {}).get(name)) for name, number in reply.label_ids.items()]
        mask = Mask(reply.labels, scan, structures(labels), model, settings_of(reply.provenance), reply.uncertainty)
        source = source_of(scan)
        made = {
            SEGMENTATION: segmentation_of,
            CONTOURS: structure_set_of,
            UNCERTAINTY: uncertainty_of,
        }
        film = not scan.geometry.oriented
        objects = [made[name](mask, source) for name in self._delivery.objects if not (film and name == CONTOURS)]
        if not self._closed.is_set():
            found = ", ".join(f"{name} {volume:.1f} ml" for name, volume in reply.volumes_ml.items())
            self._say(f"series {series.number}: {found or 'empty mask'}")
            parcel = Parcel(series.number, tuple(encoded(each) for each in objects))
            for courier in self._couriers:
                courier.take(parcel)


def _guarded(event: Any) -> None:
    """Have what a damaged message raises in pynetdicom's thread end the connection, and not the thread alone."""
    provider = event.assoc.dul
    act = provider.state_machine.do_action

    def guarded(what: str) -> None:
        try:
            act(what)
        except Exception as error:
            # Whatever a command set that makes no sense leads to; the thread would leave the connection open.
            _LOG.info("a message that makes no sense (%s)", type(error).__name__)
            provider.socket.close()
            provider.event_queue.put("Evt17")

    provider.state_machine.do_action = guarded
