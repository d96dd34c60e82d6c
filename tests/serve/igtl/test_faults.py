"""Clients that are slow, silent, rude or gone, a worker that dies, a server that ends: everybody else is served."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.runtime.scans import mr_scan
from tests.serve.igtl.wire import HEADER, Peer, image_body, pack
from tests.serve.test_client import eventually, failing, resident
from verdiff.errors import ServiceError
from verdiff.serve import Client
from verdiff.serve.igtl import IgtlLimits, IgtlServer
from verdiff.serve.igtl.frames import Message
from verdiff.serve.igtl.outbox import Outbox
from verdiff.serve.igtl.session import Session

QUICK = IgtlLimits(body_mb=1, clients=3, stall_s=0.3, message_s=1.0, waiting=4, leave_s=0.5)
LONG = {"steps": 500, "samples": 200}


@pytest.fixture
def strict(client: Client) -> Iterator[IgtlServer]:
    """A server of little patience."""
    with IgtlServer(client, 0, limits=QUICK) as server:
        yield server


def is_served(server: IgtlServer) -> None:
    """A client that behaves gets its mask."""
    with Peer(server.address[1]) as peer:
        peer.send("IMAGE", image_body(mr_scan(2)))
        assert peer.answer()[-1].status[2] == "complete"


def hung_up(peer: Peer) -> bool:
    try:
        return not peer.socket.recv(1)
    except OSError:
        return True


def test_many_clients_are_served_at_once(server: IgtlServer) -> None:
    peers = [Peer(server.address[1]) for _ in range(8)]
    for number, peer in enumerate(peers):
        peer.send("IMAGE", image_body(mr_scan(2 + number % 3)), stamp=number)
    for number, peer in enumerate(peers):
        seen = peer.answer()
        assert seen[-1].status[2] == "complete"
        assert {got.stamp for got in seen if got.kind == "IMAGE"} == {number}
        peer.socket.close()


def test_a_client_that_says_nothing_keeps_nobody_waiting(strict: IgtlServer) -> None:
    with Peer(strict.address[1]) as silent:
        silent.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            silent.socket.recv(1)
        is_served(strict)
        silent.send("GET_STATUS")
        assert silent.receive().status[0] == 1


@pytest.mark.parametrize("part", [1, 57, 58, 200])
def test_a_message_that_stops_in_the_middle_is_given_up_and_the_client_told(strict: IgtlServer, part: int) -> None:
    with Peer(strict.address[1]) as peer:
        peer.socket.sendall(pack("IMAGE", image_body(mr_scan(2)))[:part])
        assert peer.receive().status[0] == 7
        assert hung_up(peer)
    is_served(strict)


def test_a_message_that_drips_is_given_up_as_a_whole(strict: IgtlServer) -> None:
    with Peer(strict.address[1]) as peer:
        drops = iter(pack("IMAGE", image_body(mr_scan(2))))
        while not select.select([peer.socket], [], [], 0.05)[0]:
            peer.socket.sendall(bytes([next(drops)]))
        assert peer.receive().status[0] == 7


def test_a_header_in_pieces_is_a_header(server: IgtlServer) -> None:
    data = pack("GET_STATUS")
    with Peer(server.address[1]) as peer:
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), 7):
            peer.socket.sendall(data[start : start + 7])
        assert peer.receive().status[2] == "ready"


@pytest.mark.parametrize("part", [0, 30, 58, 500])
def test_a_client_that_is_gone_in_the_middle_of_a_message_is_forgotten(server: IgtlServer, part: int) -> None:
    with Peer(server.address[1]) as peer:
        peer.socket.sendall(pack("IMAGE", image_body(mr_scan(2)))[:part])
    is_served(server)


def test_clients_that_close_without_a_word_lock_nobody_out(server: IgtlServer) -> None:
    for end in [socket.create_connection(server.address) for _ in range(10)]:
        end.close()
    is_served(server)


def test_a_client_that_crashes_while_its_scan_is_computed_frees_the_worker(client: Client) -> None:
    with IgtlServer(client, 0, options=LONG) as server:
        peer = Peer(server.address[1])
        peer.send("IMAGE", image_body(mr_scan(20)))
        peer.until(lambda got: got.kind == "IMAGE")
        # Closed over unread bytes with no time to linger: the server gets a reset.
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        peer.socket.close()
        eventually(lambda: client.state == "ready")


@pytest.mark.parametrize("size", [(1 << 20) + 1, 1 << 40, (1 << 64) - 1])
def test_a_body_beyond_the_limit_is_refused_before_it_comes(strict: IgtlServer, size: int) -> None:
    with Peer(strict.address[1]) as peer:
        peer.socket.sendall(pack("IMAGE", b"x" * 5000, size=size, crc=0))
        code, _, _, text = peer.receive().status
        assert code == 8 and "1 MiB" in text
        assert hung_up(peer)
    is_served(strict)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\nAccept: */*\r\n\r\n",
        b"\x16\x03\x01" + bytes(80),
        bytes(58),
        b"\xff" * 58,
        HEADER.pack(3, b"IMAGE", b"", 0, 0, 0),
    ],
    ids=["http", "tls", "zeros", "ones", "version 3"],
)
def test_who_speaks_something_else_is_told_and_hung_up_on(server: IgtlServer, data: bytes) -> None:
    with Peer(server.address[1]) as peer:
        peer.socket.sendall(data)
        code, _, _, text = peer.receive().status
        assert code == 17 and "header of version" in text
        assert hung_up(peer)


def test_one_client_too_many_is_told_that_the_server_is_busy(strict: IgtlServer) -> None:
    peers = [Peer(strict.address[1]) for _ in range(3)]
    for peer in peers:
        peer.send("GET_STATUS")
        assert peer.receive().status[0] == 1
    with Peer(strict.address[1]) as more:
        assert more.receive().status[0] == 6
        assert hung_up(more)
    peers.pop().socket.close()
    eventually(lambda: is_let_in(strict))
    for peer in peers:
        peer.socket.close()


def is_let_in(server: IgtlServer) -> bool:
    with Peer(server.address[1]) as peer:
        peer.send("GET_STATUS")
        return peer.receive().status[0] == 1


def test_a_client_that_does_not_read_is_cut_off_and_the_others_go_on(strict: IgtlServer) -> None:
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", strict.address[1]))
    with pytest.raises(OSError):
        for _ in range(100_000):
            deaf.sendall(pack("GET_CAPABIL"))
    deaf.close()
    is_served(strict)


def test_too_many_scans_are_busy(bundle: Path) -> None:
    from verdiff.serve import Limits

    with (
        Client(bundle, threads=1, limits=Limits(waiting=1)) as client,
        IgtlServer(client, 0, options=LONG) as server,
        Peer(server.address[1]) as peer,
    ):
        peer.send("IMAGE", image_body(mr_scan(20)), device=b"one")
        peer.until(lambda got: got.kind == "IMAGE")
        for name in (b"two", b"three"):
            peer.send("IMAGE", image_body(mr_scan(20)), device=name)
        busy = peer.until(lambda got: got.kind == "STATUS" and got.status[0] == 6)[-1]
        assert busy.device == b"three" and "waiting already" in busy.status[3]


def test_a_worker_that_is_killed_is_told_of_and_the_next_scan_is_served(bundle: Path) -> None:
    with (
        Client(bundle, threads=1) as client,
        IgtlServer(client, 0) as server,
        IgtlServer(client, 0, options=LONG) as slow,
        Peer(slow.address[1]) as peer,
    ):
        peer.send("IMAGE", image_body(mr_scan(20)))
        peer.until(lambda got: got.kind == "IMAGE")
        os.kill(client.worker_pid or 0, signal.SIGKILL)
        code, sub_code, name, text = peer.answer()[-1].status
        assert (code, sub_code, name) == (18, 15, "ServiceError") and "SIGKILL" in text
        is_served(server)


def test_a_scan_that_fails_in_the_middle_has_its_priors_mask_and_an_error(bundle: Path, tmp_path: Path) -> None:
    with (
        Client(bundle, threads=1, python=failing(tmp_path, "raise ZeroDivisionError('of all things')")) as client,
        IgtlServer(client, 0) as server,
        Peer(server.address[1]) as peer,
    ):
        for _ in range(2):
            peer.send("IMAGE", image_body(mr_scan(2)))
            seen = peer.answer()
            assert [got.kind for got in seen] == ["STATUS", "IMAGE", "STATUS"]
            assert seen[-1].status[:3] == (18, 15, "ServiceError") and "of all things" in seen[-1].status[3]


def test_surfaces_that_are_asked_for_again_take_the_place_of_those_that_wait(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, asked = threading.Event(), 0
    send, answer = Outbox._send_piece, Session._last_surfaces

    async def slowly(self: Outbox, piece: memoryview) -> None:
        while not taken.is_set():
            await asyncio.sleep(0.01)
        await send(self, piece)

    def counted(self: Session, message: Message) -> None:
        nonlocal asked
        answer(self, message)
        asked += 1

    monkeypatch.setattr(Outbox, "_send_piece", slowly)
    monkeypatch.setattr(Session, "_last_surfaces", counted)
    with (
        IgtlServer(client, 0, surfaces=True, limits=IgtlLimits(waiting=8)) as server,
        Peer(server.address[1]) as peer,
    ):
        taken.set()
        peer.send("IMAGE", image_body(mr_scan(4)))
        names = [got.device for got in peer.answer() if got.kind == "POLYDATA"]
        taken.clear()
        for _ in range(20):
            peer.send("GET_POLYDATA")
        eventually(lambda: asked == 20)
        taken.set()
        peer.send("GET_STATUS")
        again = [got.device for got in peer.until(lambda got: got.kind == "STATUS")[:-1]]
    # One more may have left the queue to wait for the client.
    assert len(names) > 1 and again in (names, [names[0], *names])


def test_what_waits_for_a_client_is_bounded_by_its_bytes_too() -> None:
    class Writer:
        cut = False

        @property
        def transport(self) -> Writer:
            return self

        def abort(self) -> None:
            self.cut = True

    writer = Writer()
    outbox = Outbox(cast(Any, writer), IgtlLimits(waiting_mb=1))
    for name in ("first", "second"):
        outbox.put([bytes(10), bytes(600_000)], of=name)
        outbox.put([bytes(600_000)], of=name)
    assert not writer.cut, "a newer one takes the place of one that waits, and the newest always may"
    outbox.put([b"one more"])
    assert writer.cut


def test_a_port_that_is_taken_is_named(client: Client, server: IgtlServer) -> None:
    with pytest.raises(ServiceError, match=f"127.0.0.1:{server.address[1]} cannot be listened on"):
        IgtlServer(client, server.address[1]).start()
    with pytest.raises(ServiceError, match=re.escape("203.0.113.7")):
        IgtlServer(client, 0, host="203.0.113.7").start()
    with pytest.raises(ServiceError, match=":70000 cannot be listened on"):
        IgtlServer(client, 70000).start()
    with pytest.raises(ServiceError, match=r"10\.\.0\.1:0 cannot be listened on"):
        IgtlServer(client, 0, host="10..0.1").start()


def test_an_error_that_nobody_foresees_is_raised_where_the_server_is_started(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("nobody foresees this")

    monkeypatch.setattr(asyncio, "start_server", fail)
    with pytest.raises(ValueError, match="nobody foresees this"):
        IgtlServer(client, 0).start()


def test_it_listens_to_this_machine_alone_unless_told_otherwise(server: IgtlServer) -> None:
    assert server.address[0] == "127.0.0.1"


def test_a_server_that_ends_in_the_middle_of_a_request_says_so(client: Client) -> None:
    server = IgtlServer(client, 0, options=LONG)
    server.start()
    with Peer(server.address[1]) as working, Peer(server.address[1]) as idle:
        working.send("IMAGE", image_body(mr_scan(20)))
        working.until(lambda got: got.kind == "IMAGE")
        server.close()
        server.close()
        assert working.until(lambda got: got.kind == "STATUS" and got.status[0] == 19)
        assert idle.receive().status[0] == 19
        assert hung_up(idle)
    eventually(lambda: client.state == "ready")


def start_command(*arguments: object) -> tuple[subprocess.Popen[str], int]:
    """``verdiff serve`` as a process, and its port."""
    command = [
        sys.executable,
        "-c",
        "from verdiff.cli import main; main()",
        "serve",
        "--igtl",
        "0",
        *map(str, arguments),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"tiny-mr 1\.2\.3: OpenIGTLink on 127\.0\.0\.1:(\d+)\n", line)
    assert found, line or (process.stderr and process.stderr.read())
    return process, int(found[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_asked_to_end_and_tells_its_clients(
    bundle: Path, number: signal.Signals
) -> None:
    process, port = start_command("--model", bundle, "--threads", 1)
    with Peer(port) as peer:
        peer.send("IMAGE", image_body(mr_scan(2)))
        assert peer.answer()[-1].status[2] == "complete"
        process.send_signal(number)
        assert peer.receive().status[0] == 19
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "") and out == "shutting down\n"


def test_the_command_names_a_port_that_is_taken(bundle: Path, server: IgtlServer) -> None:
    command = [sys.executable, "-c", "from verdiff.cli import main; main()", "serve", "--model", bundle]
    done = subprocess.run([*command, "--igtl", str(server.address[1])], capture_output=True, text=True)
    assert done.returncode == 15
    assert re.fullmatch(
        rf"found: 127.0.0.1:{server.address[1]} cannot be listened on: .+\nexpected: .+\nto do: .+\n", done.stderr
    )


def test_many_requests_and_clients_take_no_more_memory_and_no_more_files(client: Client) -> None:
    server = IgtlServer(client, 0, options={"prior_only": True})
    server.start()
    body = image_body(mr_scan(1, 24, 20))

    def a_few(number: int) -> None:
        for _ in range(number // 50):
            with Peer(server.address[1]) as peer:
                for _ in range(50):
                    peer.send("IMAGE", body)
                    peer.answer()

    def files() -> int:
        return len(os.listdir("/proc/self/fd"))

    a_few(100)
    eventually(lambda: client.state == "ready")
    memory, opened = resident(os.getpid()), files()
    a_few(1000)
    eventually(lambda: files() <= opened)
    assert resident(os.getpid()) - memory < 4 << 20
    server.close()
