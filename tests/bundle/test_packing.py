"""A bundle is written whole or not at all, and the same bundle gives the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.bundle.factory import FILES, make_bundle, make_manifest
from verdiff.bundle import MANIFEST, graph_name, open_bundle, packing, write_bundle
from verdiff.errors import BundleError, OutputError

FORMS = pytest.mark.parametrize("name", ["new.verdiff", "new"])


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_same_bundle_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, files in (("a", FILES), ("b", dict(reversed(FILES.items())))):
        write_bundle(tmp_path / f"{name}.verdiff", make_manifest(), files)
    assert (tmp_path / "a.verdiff").read_bytes() == (tmp_path / "b.verdiff").read_bytes()


def test_the_zip_is_stored_sorted_and_without_time(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a.verdiff", make_manifest(), FILES)
    with zipfile.ZipFile(tmp_path / "a.verdiff") as archive:
        entries = archive.infolist()
        assert archive.testzip() is None
    assert [entry.filename for entry in entries] == [MANIFEST, *sorted(FILES)]
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


@FORMS
def test_the_returned_manifest_is_the_written_one(tmp_path: Path, name: str) -> None:
    written = write_bundle(tmp_path / "deep" / name, make_manifest(), FILES)
    assert written == open_bundle(tmp_path / "deep" / name).manifest
    assert set(written.files) == set(FILES)


def test_as_zip_overrules_the_suffix(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a.zip", make_manifest(), FILES, as_zip=True)
    write_bundle(tmp_path / "b.verdiff", make_manifest(), FILES, as_zip=False)
    assert (tmp_path / "a.zip").is_file() and (tmp_path / "b.verdiff").is_dir()


@FORMS
def test_a_new_bundle_takes_the_place_of_the_old(tmp_path: Path, name: str) -> None:
    make_bundle(tmp_path / name)
    make_bundle(tmp_path / name, files={graph_name("prior"): b"new"}, version="2.0.0")
    bundle = open_bundle(tmp_path / name)
    assert (bundle.manifest.version, bundle.read(graph_name("prior"))) == ("2.0.0", b"new")
    assert _names(tmp_path) == [name]


@FORMS
@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_bundle_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, failing: str, error: BaseException
) -> None:
    make_bundle(tmp_path / name)

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        patch.setattr(packing, "exchange", lambda one, other: False)
        with pytest.raises((OutputError, KeyboardInterrupt)):
            write_bundle(tmp_path / name, make_manifest(version="2.0.0"), FILES)
    assert open_bundle(tmp_path / name).manifest.version == "1.2.3"
    assert _names(tmp_path) == [name]


def test_an_old_folder_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bundle(tmp_path / "b")
    replace, calls = os.replace, []

    def second_fails(source: Path, target: Path) -> None:
        # Before the two of the exchange, the hidden folder is said to be complete.
        calls.append(target)
        if len(calls) == 3:
            raise OSError("busy")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", second_fails)
        patch.setattr(packing, "exchange", lambda one, other: False)
        with pytest.raises(OutputError, match="busy"):
            write_bundle(tmp_path / "b", make_manifest(version="2.0.0"), FILES)
    assert len(calls) == 4
    assert open_bundle(tmp_path / "b").manifest.version == "1.2.3"
    assert _names(tmp_path) == ["b"]


def test_a_folder_that_is_not_a_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("ten years", "utf-8")
    with pytest.raises(OutputError, match="not a bundle"):
        write_bundle(tmp_path / "home", make_manifest(), FILES)
    assert (tmp_path / "home" / "thesis.txt").read_text("utf-8") == "ten years"
    with pytest.raises(OutputError, match="a folder at"):
        write_bundle(tmp_path / "home", make_manifest(), FILES, as_zip=True)
    with pytest.raises(OutputError, match="a file at"):
        write_bundle(tmp_path / "home" / "thesis.txt", make_manifest(), FILES, as_zip=False)


def test_a_bundle_with_a_file_of_someone_else_is_never_replaced(tmp_path: Path) -> None:
    make_bundle(tmp_path / "b")
    (tmp_path / "b" / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        write_bundle(tmp_path / "b", make_manifest(), FILES)
    assert (tmp_path / "b" / "notes.txt").exists()


def test_a_place_below_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        write_bundle(tmp_path / "file" / "b.verdiff", make_manifest(), FILES)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a\\b", MANIFEST, "graphs/PRIOR.fp32.onnx"])
def test_a_name_that_could_not_be_read_is_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "b", make_manifest(), {**FILES, name: b""})
    assert _names(tmp_path) == []


def test_a_file_that_is_no_bundle_is_replaced_only_if_asked(tmp_path: Path) -> None:
    (tmp_path / "b.verdiff").write_bytes(b"somebody's own")
    with pytest.raises(OutputError, match="not a bundle"):
        write_bundle(tmp_path / "b.verdiff", make_manifest(), FILES)
    assert (tmp_path / "b.verdiff").read_bytes() == b"somebody's own"
    write_bundle(tmp_path / "b.verdiff", make_manifest(), FILES, overwrite=True)
    assert open_bundle(tmp_path / "b.verdiff").manifest.version == "1.2.3"


def test_a_pipe_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "b.verdiff")
    with pytest.raises(OutputError, match="device or pipe"):
        write_bundle(tmp_path / "b.verdiff", make_manifest(), FILES, overwrite=True)
    assert (tmp_path / "b.verdiff").is_fifo()


def test_a_name_that_fits_the_file_system_can_be_written_and_a_longer_one_says_so(tmp_path: Path) -> None:
    name = "m" * (255 - len(".verdiff")) + ".verdiff"
    assert make_bundle(tmp_path / name).manifest.version == "1.2.3"
    with pytest.raises(OutputError, match="256 bytes"):
        write_bundle(tmp_path / f"m{name}", make_manifest(), FILES)
    assert _names(tmp_path) == [name]


def test_a_bundle_killed_in_its_exchange_is_finished_by_the_next_call(tmp_path: Path) -> None:
    """Where two folders cannot be exchanged in one step, there is a moment with none."""
    make_bundle(tmp_path / "b")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.bundle.factory import make_bundle\n"
        "from verdiff.bundle import packing\n"
        "packing.exchange = lambda one, other: False\n"
        "replace = os.replace\n"
        "def killed(source, target):\n"
        "    replace(source, target)\n"
        "    if Path(source) == Path(sys.argv[1]):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.replace = killed\n"
        "make_bundle(Path(sys.argv[1]), version='2.0.0')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "b")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "b").exists()
    make_bundle(tmp_path / "another.verdiff")
    assert open_bundle(tmp_path / "b").manifest.version == "2.0.0"
    assert _names(tmp_path) == ["another.verdiff", "b"]
