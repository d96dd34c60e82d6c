"""Interrupted at any moment, either the old file or the complete new one is there."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from verdiff.errors import OutputError
from verdiff.imaging import atomic_path


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "scan_seg.nii.gz"
    with atomic_path(target) as temporary:
        assert temporary.is_relative_to(tmp_path) and temporary.name.endswith(".nii.gz")
        temporary.write_text("new", "utf-8")
        assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_text("utf-8") == "new"


def test_whoever_reads_the_old_file_meanwhile_reads_it_to_its_end(tmp_path: Path) -> None:
    target = tmp_path / "scan_seg.json"
    target.write_text("old and long", "utf-8")
    with target.open() as reader:
        assert reader.read(3) == "old"
        with atomic_path(target) as temporary:
            temporary.write_text("new", "utf-8")
        reader.seek(0)
        assert reader.read() == "old and long"
    assert target.read_text("utf-8") == "new"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interruption_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    target = tmp_path / "scan_seg.json"
    target.write_text("old", "utf-8")
    with pytest.raises(interruption), atomic_path(target) as temporary:
        temporary.write_text("half of the n", "utf-8")
        raise interruption
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_text("utf-8") == "old"


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "scan_seg.json"
    target.write_text("old", "utf-8")
    script = (
        "import os, signal, sys\n"
        "from verdiff.imaging.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half of the n')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text("utf-8") == "old"


def test_a_full_disk_is_an_output_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "scan_seg.json"
    target.write_text("old", "utf-8")
    with pytest.raises(OutputError, match="No space left"), atomic_path(target):
        raise OSError(28, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_text("utf-8") == "old"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    for target in (tmp_path / "missing" / "a.json", tmp_path / "file" / "a.json", tmp_path):
        with pytest.raises(OutputError, match="folder"), atomic_path(target):
            pytest.fail("the block must not run")


def test_a_folder_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match="Permission denied"), atomic_path(tmp_path / "a.json"):
        pytest.fail("the block must not run")
