"""The commands where nobody reads them, without a home folder, without a folder for temporary files."""

from __future__ import annotations

import gzip
import io
import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import write_tiny
from verdiff.bundle import resolve_model
from verdiff.cli import app
from verdiff.commands import printing
from verdiff.commands.printing import READER_GONE
from verdiff.engines import cache_path
from verdiff.errors import BackendError, BundleError, OutputError
from verdiff.files import scratch_folder
from verdiff.imaging import write_array
from verdiff.imaging.itk import simpleitk

MAIN = "from verdiff.cli import main; main()"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    write_tiny(folder / "tiny.verdiff")
    write_array(mr_scan().array, mr_scan(), folder / "scan.nii.gz")
    return folder


def run(*arguments: str, shell: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", MAIN, *arguments]
    if shell:
        command = ["sh", "-c", f'exec "$0" "$@" {shell}', *command]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.run(command, **options)


def infer(case: Path, output: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    words = ("infer", str(case / "scan.nii.gz"), "--model", str(case / "tiny.verdiff"), "--threads", "1")
    return run(*words, "--prior-only", "-o", f"{output}/", **options)


@contextmanager
def reader_gone() -> Iterator[int]:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


@contextmanager
def full() -> Iterator[int]:
    device = os.open("/dev/full", os.O_WRONLY)
    try:
        yield device
    finally:
        os.close(device)


def voxels(folder: Path) -> bytes:
    assert sorted(path.name for path in folder.iterdir()) == ["scan_seg.json", "scan_seg.nii.gz"]
    assert json.loads((folder / "scan_seg.json").read_text("utf-8"))["outcome"] == "prior"
    return gzip.decompress((folder / "scan_seg.nii.gz").read_bytes())


def test_the_mask_and_its_exit_code_do_not_depend_on_who_reads_what_is_printed(case: Path, tmp_path: Path) -> None:
    assert infer(case, tmp_path / "plain").returncode == 0
    right = voxels(tmp_path / "plain")
    for number, shell in enumerate((">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full")):
        done = infer(case, tmp_path / f"closed{number}", shell=shell)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), (shell, done.stderr)
        assert voxels(tmp_path / f"closed{number}") == right
    for name, opened in (("gone", reader_gone), ("full", full)):
        with opened() as stdout:
            done = infer(case, tmp_path / name, stdout=stdout)
        assert done.returncode == 0, done.stderr
        assert done.stderr == (
            "" if name == "gone" else "note: what was done cannot be printed (No space left on device)\n"
        )
        assert voxels(tmp_path / name) == right


def test_a_command_that_only_prints_ends_as_unix_has_it_or_says_why(case: Path) -> None:
    for words in (("models",), ("info", str(case / "scan.nii.gz")), ("--version",), ("data", "list")):
        with reader_gone() as stdout:
            done = run(*words, stdout=stdout)
        assert (done.returncode, done.stderr) == (READER_GONE, ""), words
    with full() as stdout:
        done = run("models", stdout=stdout)
    assert done.returncode == OutputError.exit_code
    assert done.stderr.startswith("found: standard output cannot be written: No space left on device\nexpected: ")


def test_an_error_that_cannot_be_printed_keeps_its_exit_code(case: Path) -> None:
    with full() as stderr:
        assert run("info", str(case / "none.nii.gz"), stderr=stderr).returncode == 3
    assert run("info", str(case / "none.nii.gz"), shell="2>&-").returncode == 3


def test_a_character_that_a_terminal_lacks_is_written_as_an_escape(case: Path, tmp_path: Path) -> None:
    name = tmp_path / "Wirbelsäule.verdiff"
    name.write_bytes((case / "tiny.verdiff").read_bytes())
    done = run("info", str(name), env={**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number without an entry in the list of users, and no HOME."""

    def unknown(number: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("HOME", "XDG_CACHE_HOME", "VERDIFF_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_gets_a_mask_and_a_message_where_a_home_is_needed(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["infer", case / "scan.nii.gz", "--model", case / "tiny.verdiff", "--threads", 1, "--prior-only"]
    done = CliRunner().invoke(app, [str(word) for word in (*words, "-o", f"{tmp_path}/")])
    assert done.exit_code == 0, done.output
    with pytest.raises(BundleError, match="no home folder"):
        resolve_model("~/m.verdiff")
    with pytest.raises(BackendError, match="VERDIFF_CACHE"):
        cache_path()
    monkeypatch.setenv("VERDIFF_CACHE", "~/x")
    with pytest.raises(BackendError, match="no home folder"):
        cache_path()
    for command in (["build", "--list"], ["models"], ["doctor"]):
        result = CliRunner().invoke(app, command)
        assert result.exception is None or isinstance(result.exception, SystemExit), command
        assert "force-reinstall" not in result.output


@pytest.fixture
def no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp', '/var/tmp']")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", none)


@pytest.mark.usefixtures("no_temporary_folder")
def test_a_mask_needs_no_folder_for_temporary_files_and_what_does_says_so(case: Path, tmp_path: Path) -> None:
    words = ["infer", case / "scan.nii.gz", "--model", case / "tiny.verdiff", "--threads", 1, "--prior-only"]
    more = ["--preview", "--uncertainty", "--stats", "--mesh", "-o", f"{tmp_path}/masks/"]
    done = CliRunner().invoke(app, [str(word) for word in (*words, *more)])
    assert done.exit_code == 0, done.output
    with pytest.raises(OutputError, match="no folder for temporary files"), scratch_folder():
        pytest.fail("the block must not run")


def test_the_three_standard_streams_are_there_whatever_a_program_is_started_with() -> None:
    program = (
        "import os, sys\n"
        "from verdiff.commands.printing import open_streams\n"
        "open_streams()\n"
        "made = os.open(os.devnull, os.O_RDONLY)\n"
        "print('lost')\n"
        "sys.exit(0 if made > 2 and sys.stdin.read() == '' else 1)\n"
    )
    command = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, program]
    assert subprocess.run(command).returncode == 0


@pytest.mark.parametrize("print_line", [printing.say, printing.warn])
def test_what_cannot_be_printed_is_lost_without_an_error(
    print_line: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object, **__: object) -> None:
        raise ValueError("I/O operation on closed file")

    monkeypatch.setattr(printing.typer, "echo", closed)
    print_line("a line")


def test_a_terminal_that_is_closed_meanwhile_does_not_end_the_computing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Gone(io.TextIOBase):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    printing.draw("segmenting  50 %")
    printing.erase()


def test_memory_that_cannot_be_had_is_one_message(monkeypatch: pytest.MonkeyPatch, case: Path) -> None:
    def nothing_left(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("verdiff.commands.info.facts_of", nothing_left)
    done = CliRunner().invoke(app, ["info", str(case / "scan.nii.gz")])
    assert done.exit_code == 1
    assert done.stderr.startswith("found: more memory is needed than this process can have\nexpected: ")


def test_a_library_that_cannot_be_loaded_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the import system raises where an address space is too small for a library.
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(BackendError, match="SimpleITK cannot be loaded"):
        simpleitk()
