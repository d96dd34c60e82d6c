"""The files of one call appear together: written in a hidden folder beside their places, then renamed.

Whatever ends a call before its files are complete (an error, a full disk, Ctrl-C, SIGTERM) leaves the old files, and
nothing else. Only SIGKILL and a loss of power can come between two renames. The file that says that all are there is
taken away first and comes back last, so what they leave can be told from a finished result, and the next call into the
same folder finishes it (:mod:`verdiff.files.leftovers`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from verdiff.errors import OutputError
from verdiff.files.leftovers import COMPLETE, OLD, STAGED, clear, fresh_name
from verdiff.files.locks import lock_folder, one_at_a_time, release
from verdiff.files.marks import mark_file
from verdiff.files.places import absolute, not_writable, require_folder
from verdiff.files.signals import uninterrupted


def _anything(path: Path) -> None:
    """A check that refuses nothing."""


class Staging:
    """Places to write the files of one call at; at the end of the block all of them appear, or none.

    Args:
        folder: Where the files go, or below; made if it is missing.
        check: Refuses a file's place with an OutputError; asked again right before the files appear.
        mark: Whether files get verdiff's mark, where their format has a place and they have none yet.

    Raises:
        OutputError: On entering: the folder cannot be made or written. On leaving: a place has been taken, or the disk
            is full; then nothing has changed.
    """

    def __init__(self, folder: Path, *, check: Callable[[Path], None] = _anything, mark: bool = False) -> None:
        self.folder = absolute(folder)
        self._check, self._mark = check, mark
        self._here = self.folder / (fresh_name() + STAGED)
        self._made: list[Path] = []
        # In the order they were asked for.
        self._targets: dict[Path, None] = {}
        self._stale: list[Path] = []
        self._lock: int | None = None

    @property
    def room(self) -> Path:
        """The hidden folder, for what is put in its place by other means; it is removed at the end of the block."""
        return self._here

    def complete(self) -> None:
        """Say that all is written: if the process is killed from now on, the next call finishes this one."""
        whole = self._here.with_suffix(COMPLETE)
        os.replace(self._here, whole)
        self._here = whole

    def __getitem__(self, target: Path) -> Path:
        """Where to write what is to appear at ``target``, which is the last so far."""
        target = absolute(target)
        self._targets.pop(target, None)
        self._targets[target] = None
        place = self._place(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def remove(self, path: Path) -> None:
        """Have a file of an earlier call go when the new ones appear."""
        self._stale.append(absolute(path))

    def __enter__(self) -> Staging:
        require_folder(self.folder, make=True)
        clear(self.folder)
        try:
            self._make(self.folder)
            self._open()
        except OSError as error:
            self._leave()
            raise not_writable(self.folder, error) from error
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._appear()
        except OSError as problem:
            raise self._named(problem) from problem
        finally:
            self._leave()
        if isinstance(error, OSError) and (error.filename is None or self._is_here(error.filename)):
            raise self._named(error) from error
        if isinstance(error, OutputError):
            raise self._said(error) from error

    def _make(self, folder: Path) -> None:
        missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            self._made.append(each)

    def _open(self) -> None:
        while True:
            self._here.mkdir(mode=0o700)
            try:
                self._lock = lock_folder(self._here, wait=True)
                return
            except FileNotFoundError:
                # Another call took it for a dead one's in the moment before it was locked.
                self._here = self.folder / (fresh_name() + STAGED)

    def _appear(self) -> None:
        for target in (*self._targets, *self._stale):
            self._check(target)
        for target in self._targets:
            if self._mark:
                mark_file(self._place(target))
            flush(self._place(target))
        if not self._targets:
            return
        with uninterrupted():
            self.complete()
            with one_at_a_time(self.folder):
                self._put()
            # Before a signal that waited ends the process.
            self._leave()
        for folder in {target.parent for target in self._targets}:
            flush(folder)

    def _put(self) -> None:
        """Rename the complete files into their places; put everything back if one cannot be."""
        *others, last = self._targets
        placed: list[Path] = []
        try:
            # One file alone is replaced in one step.
            for target in (last, *self._stale) if others or self._stale else ():
                self._set_aside(target, keep=False)
            for target in (*others, last):
                self._make(target.parent)
                if target != last:
                    self._set_aside(target, keep=True)
                os.replace(self._place(target), target)
                # Not before: where the renaming fails, what lies there is still the old file.
                placed.append(target)
        except BaseException:
            for target in placed:
                if not self._old(target).exists():
                    with suppress(OSError):
                        target.unlink()
            for target in (*self._targets, *self._stale):
                with suppress(OSError):
                    os.replace(self._old(target), target)
            raise

    def _set_aside(self, target: Path, *, keep: bool) -> None:
        if not os.path.lexists(target):
            return
        old = self._old(target)
        old.parent.mkdir(parents=True, exist_ok=True)
        if keep:
            # A second name for the old file, so that one or the other is always there; not every disk has that.
            with suppress(OSError, NotImplementedError):
                os.link(target, old, follow_symlinks=False)
                return
        os.replace(target, old)

    def _place(self, target: Path) -> Path:
        return self._here / target.relative_to(self.folder)

    def _old(self, target: Path) -> Path:
        return self._here / OLD / target.relative_to(self.folder)

    def _leave(self) -> None:
        with uninterrupted():
            shutil.rmtree(self._here, ignore_errors=True)
            release(self._lock)
            self._lock = None
            for folder in reversed(self._made):
                # Stays where it holds something.
                with suppress(OSError):
                    folder.rmdir()
            self._made.clear()

    def _named(self, error: OSError) -> OutputError:
        """An error of the disk, with the file as the user knows it."""
        path = self.folder
        if error.filename is not None and self._is_here(error.filename):
            path = self.folder / Path(os.fsdecode(error.filename)).relative_to(self._here)
        elif self._targets:
            path = next(reversed(self._targets))
        return not_writable(path, error)

    def _is_here(self, name: Any) -> bool:
        return isinstance(name, str | bytes) and Path(os.fsdecode(name)).is_relative_to(self._here)

    def _said(self, error: OutputError) -> OutputError:
        here, there = str(self._here), str(self.folder)
        return OutputError(*(part.replace(here, there) for part in (error.found, error.expected, error.remedy)))


def flush(path: Path) -> None:
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
