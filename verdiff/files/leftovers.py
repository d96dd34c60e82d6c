"""What calls that were killed left in a folder: removed, or finished where only the renaming was missing."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from verdiff.files.locks import abandoned
from verdiff.files.marks import made_by_verdiff

STAGED, COMPLETE = ".staged", ".complete"
OLD = ".old"
_NAME = re.compile(r"\.verdiff-[0-9a-f]{16}\.(staged|complete)")


def fresh_name() -> str:
    """A name for a folder of files that are not in their places yet, without its suffix."""
    return f".verdiff-{secrets.token_hex(8)}"


def is_staged(path: Path) -> bool:
    """Whether a path lies in a folder of files that are not in their places yet."""
    return any(_NAME.fullmatch(part) for part in path.parts[:-1])


def clear(folder: Path) -> None:
    """Remove what calls that are gone left in ``folder``; of those that run nothing is touched.

    A call that was killed while its complete files were being put in their places is finished, unless one of those
    places has meanwhile been taken by a file that is not verdiff's.
    """
    for left in list(_left_in(folder)):
        if left.name.endswith(COMPLETE):
            with suppress(OSError):
                _finish(left, folder)
        shutil.rmtree(left, ignore_errors=True)


def files_below(folder: Path) -> list[Path]:
    """Files below a folder of staged ones, as paths relative to it; without those that were moved aside."""
    found = []
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != OLD)
        found += [(Path(at) / name).relative_to(folder) for name in sorted(names)]
    return found


def _left_in(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            named = [Path(entry.path) for entry in entries if _NAME.fullmatch(entry.name)]
    except OSError:
        return
    for path in named:
        with suppress(OSError):
            status = path.lstat()
            owned = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
            if path.is_dir() and not path.is_symlink() and owned and abandoned(path):
                yield path


def _finish(left: Path, folder: Path) -> None:
    waiting = files_below(left)
    old = left / OLD
    if all(not os.path.lexists(folder / name) or made_by_verdiff(folder / name) for name in waiting):
        for name in waiting:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(left / name, folder / name)
        return
    for name in files_below(old) if old.is_dir() else []:
        if not os.path.lexists(folder / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(old / name, folder / name)
