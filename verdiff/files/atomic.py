"""One file that appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from verdiff.errors import OutputError
from verdiff.files.leftovers import is_staged
from verdiff.files.staging import Staging

_DOUBLE_SUFFIXES = (".nii.gz", ".tar.gz")


def full_suffix(path: Path) -> str:
    """The suffix that says what a file is, `.nii.gz` included, in lower case."""
    name = path.name.lower()
    return next((suffix for suffix in _DOUBLE_SUFFIXES if name.endswith(suffix)), path.suffix.lower())


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path of the same name in a hidden folder beside it, renamed to `path` when the block succeeds.

    Interrupted at any moment, `path` is either the old file or the complete new one. Whatever ends the block early
    removes the temporary file. Whatever was at `path` is replaced: who may not do that asks
    :func:`verdiff.files.plan_files` first. A path that :class:`~verdiff.files.Staging` gave is yielded as it is, since
    the files of that call appear together.

    Raises:
        OutputError: If the folder is missing or cannot be written, the disk is full, or `path` is a folder.
    """
    path = Path(path)
    if is_staged(path):
        yield path
        return
    _check_target(path)
    with Staging(path.parent) as staged:
        yield staged[path]


def _check_target(path: Path) -> None:
    if os.path.isdir(path):
        raise OutputError(f"{path} is a folder", "the name of a file to write", "give a file name")
    if not path.parent.is_dir():
        raise OutputError(
            f"there is no folder {path.parent}", "a folder that exists and can be written", "create it first"
        )
