"""Telling what a dead process left from what a running one works on: a lock that ends with its owner."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows has no such lock on a folder
    fcntl = None

# Where no lock can be had, nobody works on one call's files for so long.
_DAY_SECONDS = 86_400.0
# Some renames take milliseconds; whoever has the lock for longer than this in all is no call of verdiff.
_TRIES, _BETWEEN_SECONDS = 200, 0.01


def lock_folder(folder: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock of ``folder`` until it is closed; None where there are no such locks.

    Raises:
        BlockingIOError: Another process has it, and not ``wait``.
        FileNotFoundError: The folder is gone.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if os.stat(folder).st_ino != os.fstat(descriptor).st_ino:
            raise FileNotFoundError(f"another folder at {folder}")
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        raise
    except OSError:
        # Some network file systems have no locks on folders.
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Only one call at a time is in this block for a folder; who waits in vain for a moment goes on without."""
    held = None
    for _ in range(_TRIES):
        try:
            held = lock_folder(folder, wait=False)
            break
        except OSError:
            time.sleep(_BETWEEN_SECONDS)
    try:
        yield
    finally:
        release(held)


def release(descriptor: int | None) -> None:
    """Give a lock back."""
    if descriptor is not None:
        os.close(descriptor)


def abandoned(folder: Path) -> bool:
    """Whether whoever made ``folder`` is gone."""
    try:
        descriptor = lock_folder(folder, wait=False)
    except OSError:
        return False
    if descriptor is None:
        try:
            return time.time() - folder.stat().st_mtime > _DAY_SECONDS
        except OSError:
            return False
    os.close(descriptor)
    return True
