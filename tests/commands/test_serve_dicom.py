"""`verdiff serve --dicom`: the command between a sender and a receiver, and the settings it refuses at once."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner

pytest.importorskip("highdicom")
pytest.importorskip("pynetdicom")

from tests.interop.dicom.series import save_oriented
from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import write_tiny
from tests.serve.dicom_peers import eventually
from tests.serve.test_dicom_node import Receiver, send
from verdiff.cli import app
from verdiff.errors import USAGE, InputError, ServiceError


def test_it_serves_until_it_is_asked_to_end(tmp_path: Path) -> None:
    scan, bundle = mr_scan(), write_tiny(tmp_path / "tiny.verdiff")
    series = save_oriented(tmp_path / "series", scan.array, scan.geometry)
    with Receiver().listening() as receiver:
        words = ["serve", "--dicom", "0", "--allow", "PACS", "--send-to", str(receiver.peer), "--quiet-s", "0.4"]
        words += ["--stow-in", "0", "--model", str(bundle), "--threads", "1", "--force"]
        process = subprocess.Popen([sys.executable, "-m", "verdiff.cli", *words], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            web = process.stdout.readline()
            assert web.startswith("DICOMweb at http://127.0.0.1:")
            with pytest.raises(HTTPError, match="415"):
                urlopen(f"{web.split()[-1]}/studies", b"no parts", timeout=20)
            line = process.stdout.readline()
            assert "DICOM as VERDIFF on 127.0.0.1:" in line
            assert set(send(int(line.rsplit(":", 1)[1]), series)) == {0}
            eventually(lambda: len(receiver.objects) == 2)
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0 and "2 objects sent" in rest and "shutting down" in rest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--allow", "PACS"], "nowhere to send"),
        (["--send-to", "PACS@127.0.0.1:104"], "nobody may send"),
        (["--allow", "PACS", "--send-to", "PACS@127.0.0.1:70000"], "TITLE@HOST:PORT"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_a_model_is_loaded(words: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["serve", "--dicom", "0", "--model", "no-such-model", *words])
    assert done.exit_code == InputError.exit_code and message in done.output


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--igtl", "0", "--stow-in", "0"], "--stow-in without --dicom"),
        (["--igtl", "0", "--allow", "PACS", "--send-to", "A@b:1"], "--allow, --send-to without --dicom"),
        (["--igtl", "0", "--stow", "http://b/c", "--objects", "seg,rtstruct"], "--stow, --objects without --dicom"),
        # Also where the value is the one that it has by default.
        (["--igtl", "0", "--quiet-s", "10", "--instances", "2"], "--quiet-s, --instances without --dicom"),
        (["--dicom", "0", "--surfaces", "--suffix", "", "--max-mb", "512"], "--surfaces, --suffix, --max-mb without"),
        (["--dicom", "0", "--allow", "PACS", "--send-tls"], "--send-tls without --send-to"),
    ],
)
def test_an_option_that_does_nothing_without_another_is_a_wrong_command_line(words: list[str], named: str) -> None:
    done = CliRunner().invoke(app, ["serve", *words, "--model", "no-such-model"])
    assert done.exit_code == USAGE and named in " ".join(done.output.split())


def test_nothing_to_serve_is_a_wrong_command_line() -> None:
    assert CliRunner().invoke(app, ["serve", "--model", "no-such-model"]).exit_code == 2


@pytest.mark.parametrize("words", [["--igtl", "104", "--dicom", "104"], ["--dicom", "104", "--stow-in", "104"]])
def test_two_protocols_on_one_port_are_refused_before_a_model_is_loaded(words: list[str]) -> None:
    done = CliRunner().invoke(app, ["serve", *words, "--allow", "PACS", "--model", "no-such-model"])
    assert done.exit_code == USAGE and f"{words[0]} and {words[2]} on the one port 104" in done.output


@pytest.mark.parametrize("option", ["--igtl", "--dicom", "--stow-in"])
def test_a_port_in_use_is_refused_before_a_model_is_loaded(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = [option, port] if option != "--stow-in" else ["--dicom", "0", option, port]
        node = [] if option == "--igtl" else ["--allow", "PACS", "--send-to", "PACS@127.0.0.1:104"]
        done = CliRunner().invoke(app, ["serve", *ports, *node, "--model", "no-such-model"])
    assert done.exit_code == ServiceError.exit_code
    assert f"127.0.0.1:{port} cannot be listened on" in done.output and f"choose another {option}" in done.output


@pytest.mark.parametrize("host", ["192.0.2.1", "10..0.1"])
def test_an_address_of_another_machine_or_of_none_is_refused_before_a_model_is_loaded(host: str) -> None:
    done = CliRunner().invoke(app, ["serve", "--igtl", "18944", "--host", host, "--model", "no-such-model"])
    assert done.exit_code == ServiceError.exit_code and f"{host}:18944 cannot be listened on" in done.output
