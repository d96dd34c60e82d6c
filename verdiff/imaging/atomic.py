"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from verdiff.errors import OutputError

_DOUBLE_SUFFIXES = (".nii.gz", ".tar.gz")


def full_suffix(path: Path) -> str:
    """The suffix that says what a file is, `.nii.gz` included, in lower case."""
    name = path.name.lower()
    return next((suffix for suffix in _DOUBLE_SUFFIXES if name.endswith(suffix)), path.suffix.lower())


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path in the same folder with the same suffix, renamed to `path` when the block succeeds.

    Interrupted at any moment, `path` is either the old file or the complete new one. Whatever ends the block early
    removes the temporary file.

    Raises:
        OutputError: If the folder is missing or cannot be written, the disk is full, or `path` is a folder.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{full_suffix(path)}")
    _check_target(path)
    try:
        # Created here, so that a folder that cannot be written is found before any work, and with its reason.
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise _not_writable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    _flush(path.parent)


def _check_target(path: Path) -> None:
    if path.is_dir():
        raise OutputError(f"{path} is a folder", "the name of a file to write", "give a file name")
    if not path.parent.is_dir():
        raise OutputError(
            f"there is no folder {path.parent}", "a folder that exists and can be written", "create it first"
        )


def _not_writable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written: {error.strerror or error}",
        "a folder that can be written, with room on its disk",
        "choose another output folder, or change its permissions",
    )


def _flush(path: Path) -> None:
    """Have the disk keep what was written; folders can be flushed on POSIX only, and not on every file system."""
    if not path.is_dir():
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    elif os.name == "posix":
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
