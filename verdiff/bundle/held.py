"""A file of a bundle, opened once: what is read later is what was there then, whatever happens to its name."""

from __future__ import annotations

import os
import stat
import weakref
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NoReturn

from verdiff.errors import BundleError

_LINKS_REFUSED = getattr(os, "O_NOFOLLOW", 0)


class HeldFile:
    """A plain file that stays open as long as somebody refers to it.

    Args:
        path: The file.
        follow: Whether it may be a link.

    Raises:
        OSError: It cannot be opened, or is no plain file; pipes are not waited for.
    """

    def __init__(self, path: Path, *, follow: bool = True) -> None:
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        self._descriptor = os.open(path, flags | (0 if follow else _LINKS_REFUSED))
        self._close = weakref.finalize(self, os.close, self._descriptor)
        self._lock = Lock()
        status = os.fstat(self._descriptor)
        self.size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            self._close()
            raise OSError(f"not a plain file: {path}")

    def read(self, offset: int, count: int) -> bytes:
        """Read at most ``count`` bytes from ``offset`` on; fewer at the end of the file."""
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, count, offset)
        with self._lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, count)

    def stream(self) -> BinaryIO:
        """The same open file as a stream, from its beginning."""
        stream = os.fdopen(os.dup(self._descriptor), "rb")
        stream.seek(0)
        return stream

    def __reduce__(self) -> NoReturn:
        raise BundleError("a bundle to be pickled or copied", "its path, which can be sent", "open it in each process")
