"""TLS in front of every server and to every destination: without a certificate nobody is served nor sent to."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

pytest.importorskip("highdicom")
pytest.importorskip("pynetdicom")

from tests import peers
from tests.runtime.scans import mr_scan
from tests.serve.certificates import Authority, key_in_pem
from tests.serve.dicom_peers import Receiver, eventually, orthanc, storescu
from tests.serve.igtl.wire import Peer as IgtlPeer
from tests.serve.igtl.wire import image_body, pack
from tests.serve.test_dicom_node import assert_masks, node, send
from tests.serve.test_dicom_stow import KIND, files, multipart
from verdiff.cli import app
from verdiff.errors import InputError, ServiceError
from verdiff.options import TlsOptions
from verdiff.serve import Client
from verdiff.serve.dicom import Delivery, DicomNode, NodeLimits, Peer, web
from verdiff.serve.dicom.multipart import parts
from verdiff.serve.igtl import IgtlLimits, IgtlServer
from verdiff.serve.tls import sending, serving

SCAN = mr_scan()
QUICK = NodeLimits(network_s=2, retry_s=0.05)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server_side(authority: Authority) -> ssl.SSLContext:
    context = serving(authority.options("server"))
    assert context is not None
    return context


def over_tls(authority: Authority, name: str = "scanner") -> list[str]:
    """What DCMTK is told to show a certificate and to check the other's."""
    certificate, key = authority.issue(name)
    return ["+tls", str(key), str(certificate), "+cf", str(authority.ca)]


@peers.needs("storescu")
def test_dcmtk_stores_over_tls_and_only_with_a_certificate(
    client: Client,
    bundle: Path,
    series: Path,
    receiver: Receiver,
    said: list[str],
    authority: Authority,
    server_side: ssl.SSLContext,
    tmp_path: Path,
) -> None:
    with node(client, receiver, said, limits=QUICK, tls=server_side) as listening:
        port = listening.address[1]
        assert storescu(port, series).returncode != 0
        assert storescu(port, series, tls=["+tla", "+cf", str(authority.ca)]).returncode != 0
        assert storescu(port, series, tls=over_tls(Authority(tmp_path, "stranger"))).returncode != 0
        assert said == []
        done = storescu(port, series, tls=over_tls(authority))
        assert done.returncode == 0, done.stderr
        eventually(lambda: len(receiver.objects) == 2)
    assert_masks(receiver.objects, series, bundle)


@peers.needs("Orthanc")
def test_a_pacs_takes_masks_over_tls(
    client: Client, bundle: Path, series: Path, said: list[str], authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue("pacs")
    settings = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(certificate),
        "DicomTlsPrivateKey": str(key),
        "DicomTlsTrustedCertificates": str(authority.ca),
    }
    with orthanc(tmp_path / "pacs", **settings) as pacs:
        peer = Peer("PACS", "127.0.0.1", pacs.dicom, tls=True)
        delivery = Delivery(peer=peer, context=sending(authority.options("verdiff")))
        with node(client, Receiver(), said, delivery=delivery) as listening:
            assert set(send(listening.address[1], series)) == {0}
            eventually(lambda: len(pacs.objects("SEG") + pacs.objects("RTSTRUCT")) == 2)
        assert_masks(pacs.objects("SEG") + pacs.objects("RTSTRUCT"), series, bundle)


def test_only_a_destination_that_can_be_trusted_is_sent_to(
    client: Client, series: Path, said: list[str], authority: Authority, server_side: ssl.SSLContext, tmp_path: Path
) -> None:
    ours, others = sending(authority.options("us")), sending(Authority(tmp_path, "others").options("verdiff"))
    with node(client, Receiver(), [], limits=QUICK, stow_in=0, tls=server_side, delivery=NOWHERE) as pacs:
        address = pacs.stow_url
        assert address is not None and address.startswith("https://")
        peer = Peer("VERDIFF", *pacs.address, tls=True)
        for delivery, words in (
            (Delivery(peer=peer, context=others), "no association was made over TLS"),
            (Delivery(stow=address, context=others), "CERTIFICATE_VERIFY_FAILED"),
            (Delivery(stow=address.replace("127.0.0.1", "localhost"), context=ours), "match"),
            # A node takes no masks, and says so once it was spoken to.
            (Delivery(stow=address, context=ours), "HTTP status 409"),
        ):
            with node(client, Receiver(), said, limits=NodeLimits(network_s=2, attempts=1), delivery=delivery) as own:
                send(own.address[1], series)
                line = eventually(lambda: next((line for line in said if "did not take" in line), ""))
                assert words in line
            said.clear()


NOWHERE = Delivery(stow="http://127.0.0.1:9/dicom-web")


@contextmanager
def https(listening: DicomNode, context: ssl.SSLContext) -> Iterator[http.client.HTTPSConnection]:
    port = urlsplit(listening.stow_url or "").port
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    try:
        yield connection
    finally:
        connection.close()


def post(listening: DicomNode, context: ssl.SSLContext, body: bytes) -> int:
    with https(listening, context) as connection:
        connection.request("POST", "/dicom-web/studies", body, {"Content-Type": KIND})
        return connection.getresponse().status


def test_series_come_by_https_and_only_with_a_certificate(
    client: Client,
    bundle: Path,
    series: Path,
    receiver: Receiver,
    said: list[str],
    authority: Authority,
    server_side: ssl.SSLContext,
) -> None:
    with node(client, receiver, said, limits=QUICK, stow_in=0, tls=server_side) as listening:
        body = multipart(files(series))
        with pytest.raises(OSError):
            post(listening, authority.client(None), body)
        assert post(listening, authority.client(), b"--edge") == 400
        assert post(listening, authority.client(), body) == 200
        eventually(lambda: len(receiver.objects) == 2)
    assert_masks(receiver.objects, series, bundle)


def test_a_client_in_the_middle_of_a_request_over_tls_is_told_that_the_node_ends(
    client: Client,
    receiver: Receiver,
    said: list[str],
    authority: Authority,
    server_side: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading = threading.Event()

    def noticed(*given: Any) -> Iterator[bytes]:
        reading.set()
        return parts(*given)

    monkeypatch.setattr(web, "parts", noticed)
    with node(client, receiver, said, stow_in=0, tls=server_side) as listening:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", urlsplit(listening.stow_url or "").port, timeout=20, context=authority.client()
        )
        connection.putrequest("POST", "/dicom-web/studies")
        connection.putheader("Content-Type", KIND)
        connection.putheader("Content-Length", "500")
        connection.endheaders(b"--edge")
        assert reading.wait(20)
    assert connection.getresponse().status == 503
    connection.close()


@pytest.mark.parametrize("opening", [b"", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\n\r\n", bytes(300)])
def test_who_is_silent_or_speaks_plain_keeps_nobody_waiting(
    client: Client,
    series: Path,
    receiver: Receiver,
    said: list[str],
    authority: Authority,
    server_side: ssl.SSLContext,
    opening: bytes,
) -> None:
    with (
        node(client, receiver, said, limits=QUICK, stow_in=0, tls=server_side) as listening,
        IgtlServer(client, 0, limits=IgtlLimits(stall_s=2), tls=server_side) as igtl,
    ):
        ports = listening.address[1], urlsplit(listening.stow_url or "").port, igtl.address[1]
        rude = [socket.create_connection(("127.0.0.1", port), timeout=20) for port in ports for _ in range(3)]
        for each in rude:
            each.sendall(opening)
        assert set(send(ports[0], series, tls=authority.client())) == {0}
        assert post(listening, authority.client(), multipart(files(series))) == 200
        with IgtlPeer(ports[2], tls=authority.client()) as peer:
            peer.send("GET_STATUS")
            assert peer.receive().status[0] in (1, 6)
        for each in rude:
            assert ended(each)
            each.close()


def ended(connection: socket.socket) -> bool:
    """Whether it is hung up on, whatever is said before."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        return True
    return True


def test_masks_go_out_over_tls_to_navigation_software(
    client: Client, authority: Authority, server_side: ssl.SSLContext
) -> None:
    with IgtlServer(client, 0, tls=server_side) as server:
        assert server.title == "OpenIGTLink over TLS"
        with IgtlPeer(server.address[1], tls=authority.client()) as peer:
            peer.send("IMAGE", image_body(mr_scan(2)))
            assert peer.answer()[-1].status[2] == "complete"
            # What breaks the protocol is told over TLS, too, before the connection ends.
            peer.socket.sendall(pack("IMAGE", b"x" * 100, size=1 << 40, crc=0))
            assert peer.receive().status[0] == 8
        with pytest.raises((OSError, EOFError)), IgtlPeer(server.address[1], tls=authority.client(None)) as stranger:
            stranger.send("GET_STATUS")
            stranger.receive()


def wrong(change: Callable[[Authority, Path], TlsOptions], words: str) -> Any:
    return pytest.param(change, words, id=words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        wrong(lambda own, folder: TlsOptions(tls_cert=folder / "gone.pem"), "No such file"),
        wrong(lambda own, folder: TlsOptions(tls_key=own.issue("a")[1]), "--tls-key without --tls-cert"),
        wrong(lambda own, folder: TlsOptions(tls_cert=own.issue("a")[0]), "PEM lib"),
        wrong(lambda own, folder: TlsOptions(tls_cert=own.issue("a")[0], tls_key=own.issue("b")[1]), "MISMATCH"),
        wrong(lambda own, folder: TlsOptions(tls_cert=own.issue("a")[0], tls_key=locked(folder)), "with a password"),
        wrong(lambda own, folder: TlsOptions(**vars(own.options("a")) | {"tls_ca": locked(folder)}), "NO_CERTIFICATE"),
    ],
)
def test_files_that_make_no_sense_are_refused(
    authority: Authority, tmp_path: Path, change: Callable[[Authority, Path], TlsOptions], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        serving(change(authority, tmp_path))


def locked(folder: Path) -> Path:
    path = folder / "locked.key"
    path.write_bytes(key_in_pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))
    return path


def test_nothing_older_than_tls_1_2_is_spoken(authority: Authority, server_side: ssl.SSLContext) -> None:
    for context in (server_side, sending(authority.options("client")), sending(TlsOptions())):
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_the_command_names_what_its_options_lack(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "verdiff", "serve", "--model", str(bundle), "--igtl", "0"]
    for options, code, words in (
        (["--tls-cert", str(tmp_path / "gone.pem")], 3, "gone.pem"),
        (["--send-tls"], 2, "--send-to"),
        (["--tls-ca", str(tmp_path / "gone.pem")], 2, "--tls-cert"),
    ):
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
        assert done.returncode == code and words in done.stderr


def test_who_serves_plain_is_warned_also_where_authorities_check_the_destinations(authority: Authority) -> None:
    words = ["--stow", "https://pacs.hospital/dicom-web", "--allow", "PACS", "--tls-ca", str(authority.ca)]
    done = CliRunner().invoke(app, ["serve", "--dicom", "104", "--host", "192.0.2.1", *words])
    assert done.exit_code == ServiceError.exit_code and "192.0.2.1:104 cannot be listened on" in done.output
    assert "neither passwords nor encryption" in done.output
