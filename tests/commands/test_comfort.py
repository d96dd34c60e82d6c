"""What every command has: short options, completion, more and less to read, and a word about what takes long."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.command_line import verdiff
from tests.runtime.scans import mr_scan
from verdiff.cli import app
from verdiff.commands import printing, progress
from verdiff.errors import USAGE, InputError
from verdiff.imaging import write_array

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    write_array(mr_scan().array, mr_scan(), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.mark.parametrize("words", [(), ("infer",), ("data",), ("data", "convert")])
def test_h_is_help(words: tuple[str, ...]) -> None:
    assert verdiff(*words, "-h").stdout == verdiff(*words, "--help").stdout != ""


def test_v_is_the_version_and_the_package_is_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "verdiff", "-V"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == verdiff("--version").stdout


def test_the_shell_completes_commands_and_options() -> None:
    environment = {"_VERDIFF_COMPLETE": "complete_bash", "COMP_WORDS": "verdiff infer --man", "COMP_CWORD": "2"}
    result = CliRunner().invoke(app, [], prog_name="verdiff", env=environment)
    assert result.stdout.split() == ["--manifest"]


def test_quiet_leaves_files_and_errors_alone(scan: Path, bundle: Path) -> None:
    said = verdiff("infer", scan, "--model", bundle, "--threads", 1, "-q")
    assert (said.exit_code, said.output) == (0, "") and scan.with_name("scan_seg.nii.gz").exists()
    wrong = verdiff("infer", scan.with_name("no.nii.gz"), "--model", bundle, "-q")
    assert wrong.exit_code == InputError.exit_code and "found: " in wrong.stderr


def test_verbose_says_each_step_and_where_an_error_arose(scan: Path, bundle: Path) -> None:
    said = verdiff("infer", scan, "--model", bundle, "--threads", 1, "-v")
    assert "loading the model: " in said.stderr and said.exit_code == 0
    wrong = verdiff("infer", scan.with_name("no.nii.gz"), "--model", bundle, "-v")
    assert "reading.py" in wrong.stderr and "found: " in wrong.stderr
    assert verdiff("infer", scan, "-v", "-q").exit_code == USAGE


def test_what_takes_long_says_so_in_plain_lines_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LINES_AT_SECONDS", (0.0,))
    monkeypatch.setattr(progress, "_LINES_EVERY_SECONDS", 600.0)
    with progress.busy("thinking"):
        text, until = "", time.monotonic() + 30
        while not text and time.monotonic() < until:
            text = capsys.readouterr().err
    assert text == "thinking 0:00\n"
    with printing.as_loud_as(printing.QUIET), progress.busy("thinking"):
        pass
    assert capsys.readouterr().err == ""


def test_a_terminals_line_gives_way_to_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printing.draw("half of it")
    printing.warn("a word")
    printing.erase()
    assert capsys.readouterr().err == "\r\x1b[2Khalf of it\r\x1b[2Ka word\n"


def test_time_left_follows_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    left = progress.Remaining(4)
    assert left.left() == ""
    left.start()
    now[0] += 30
    left.step()
    assert left.left() == ", about 1:30 left"
    left.within(1.0)
    assert left.left() == ", about 0:30 left"
    # The next one begins before this one is counted.
    left.within(0.0)
    assert left.left() == ", about 0:30 left"
    for _ in range(3):
        left.step()
    assert left.left() == "" and progress.clock(7325) == "2:02:05"
