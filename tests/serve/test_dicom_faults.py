"""What goes wrong around a node, whichever way a series comes: one series is lost or none, and the next is served."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("highdicom")
pytest.importorskip("pynetdicom")

from tests.runtime.scans import mr_scan
from tests.serve.dicom_peers import Receiver, eventually
from tests.serve.test_client import failing
from tests.serve.test_dicom_node import assert_masks, node, send
from tests.serve.test_dicom_stow import FAILED, HEAD, QUICK, files, instances_of, multipart, port_of, post, web
from verdiff.errors import ServiceError
from verdiff.serve import Client
from verdiff.serve.dicom import Delivery, DicomNode, NodeLimits

SCAN = mr_scan()


def by_c_store(listening: DicomNode, series: Path) -> bool:
    return set(send(listening.address[1], series)) == {0}


def by_stow(listening: DicomNode, series: Path) -> bool:
    return post(listening, multipart(files(series)))[0] == 200


either_way = pytest.mark.parametrize("deliver", [by_c_store, by_stow])
Deliver = Callable[[DicomNode, Path], bool]


@either_way
def test_a_scan_that_fails_in_the_middle_sends_nothing_and_the_next_is_tried(
    bundle: Path, series: Path, receiver: Receiver, said: list[str], tmp_path: Path, deliver: Deliver
) -> None:
    python = failing(tmp_path, "raise ZeroDivisionError('of all things')")
    with Client(bundle, threads=1, python=python) as client, web(client, receiver, said) as listening:
        for number in (1, 2):
            assert deliver(listening, series)
            eventually(lambda n=number: sum("of all things" in line for line in said) == n)  # type: ignore[misc]
        assert client.state == "ready" and receiver.objects == []


@either_way
def test_a_worker_that_is_killed_costs_one_series_and_the_next_is_served(
    short_tempered: Client, bundle: Path, series: Path, receiver: Receiver, said: list[str], deliver: Deliver
) -> None:
    with web(short_tempered, receiver, said) as listening:
        short_tempered.model  # noqa: B018 - it waits until the worker is up
        os.kill(short_tempered.worker_pid or 0, signal.SIGSTOP)
        assert deliver(listening, series)
        eventually(lambda: any("complete" in line for line in said))
        time.sleep(0.2)
        os.kill(short_tempered.worker_pid or 0, signal.SIGKILL)
        line = eventually(lambda: next((line for line in said if "; to do: " in line), None))
        assert line.startswith("series 1: ") and receiver.objects == []
        assert deliver(listening, series)
        eventually(lambda: len(receiver.objects) == 2)
    assert_masks(receiver.objects, series, bundle)


def test_a_full_disk_is_told_of_over_dicomweb_and_leaves_no_file(
    client: Client, series: Path, receiver: Receiver, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    with web(client, receiver, said) as listening:
        monkeypatch.setattr(Path, "write_bytes", full)
        status, answer = post(listening, multipart(files(series)))
        assert status == 409
        assert {reason for name in (FAILED, "0008119A") for _, reason in instances_of(answer, name)} == {0xA700}
        monkeypatch.undo()
        assert by_stow(listening, series)
        eventually(lambda: len(receiver.objects) == 2)


def test_a_port_of_dicomweb_in_use_is_refused_by_name_and_the_other_is_free_again(
    client: Client, receiver: Receiver, said: list[str]
) -> None:
    with web(client, receiver, said) as listening:
        other = DicomNode(
            client, 0, Delivery(peer=receiver.peer), allowed=("PACS",), stow_in=port_of(listening), say=said.append
        )
        with pytest.raises(ServiceError, match=f"{port_of(listening)} cannot be listened on"):
            other.__enter__()
        # What was open already is closed: the port of C-STORE is nobody's.
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", other._server.server_address[1]), timeout=5)


def reset(connection: socket.socket) -> None:
    """End as a crashed program's connection does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_clients_that_crash_in_the_middle_are_forgotten(
    client: Client, bundle: Path, series: Path, receiver: Receiver, said: list[str]
) -> None:
    with web(client, receiver, said, limits=QUICK) as listening:
        body = multipart(files(series))
        request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
        for port, data in (
            (listening.address[1], struct.pack(">BBI", 1, 0, 500) + bytes(90)),
            (listening.address[1], b""),
            (port_of(listening), request[:40]),
            # It lacks the last instance, and the answer finds nobody.
            (port_of(listening), request[: -len(files(series)[-1])]),
            (port_of(listening), request),
        ):
            for _ in range(3):
                connection = socket.create_connection(("127.0.0.1", port), timeout=20)
                connection.sendall(data)
                reset(connection)
        # Until the node has noticed that they are gone, they hold its places, and others are told to come again.
        assert eventually(lambda: by_c_store(listening, series))
        eventually(lambda: len(receiver.objects) >= 2 and any("from PACS" in line for line in said))
        eventually(lambda: len(receiver.objects) >= 2 * sum("complete" in line for line in said))
    assert not [line for line in said if "failed" in line]
    assert_masks(receiver.objects[-2:], series, bundle)


def test_a_client_that_drips_its_association_is_cut_off(
    client: Client, series: Path, receiver: Receiver, said: list[str]
) -> None:
    with node(client, receiver, said, limits=NodeLimits(network_s=0.5, retry_s=0.05)) as listening:
        with socket.create_connection(("127.0.0.1", listening.address[1]), timeout=20) as stream:
            stream.sendall(struct.pack(">BBI", 1, 0, 500))
            end = time.monotonic() + 20
            with pytest.raises(OSError):
                while time.monotonic() < end:
                    stream.sendall(b"\0")
                    time.sleep(0.05)
            assert time.monotonic() < end
        assert by_c_store(listening, series)


def test_a_client_in_the_middle_of_an_association_is_aborted_when_the_node_ends(
    client: Client, series: Path, receiver: Receiver, said: list[str]
) -> None:
    from pynetdicom import AE

    with node(client, receiver, said) as listening:
        entity = AE("PACS")
        entity.add_requested_context("1.2.840.10008.5.1.4.1.1.4")
        association = entity.associate("127.0.0.1", listening.address[1], ae_title="VERDIFF")
        assert association.is_established
    assert eventually(lambda: association.is_aborted)
    assert receiver.objects == []
