"""Which scan a report is of: a fingerprint of its files, whatever their folder, and when they were last changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from verdiff.imaging.reading import files_of

# Of a file no more than this many pieces of this size, spread over it evenly: going on with a batch of many scans does
# not read all of them again. Of the many files of a series the first piece alone, which holds the header.
_PIECES, _PIECE = 16, 1 << 16


def fingerprint(scan: Path) -> str:
    """SHA-256 of the names and sizes of a scan's files, and of pieces of them.

    Raises:
        OSError: A file cannot be read.
    """
    scan = Path(os.path.realpath(scan))
    series, found = scan.is_dir(), hashlib.sha256()
    for path in files_of(scan):
        size = path.stat().st_size
        # The scan's own name is in the command that repeats it.
        found.update(f"{path.name if series else ''}\0{size}\0".encode())
        with path.open("rb") as stream:
            for piece in range(1 if series or size <= _PIECE else _PIECES):
                stream.seek(piece * max(0, size - _PIECE) // (_PIECES - 1))
                found.update(stream.read(_PIECE))
    return found.hexdigest()


def last_changed(scan: Path) -> int:
    """Time of a scan's last change, in ns; a copy that keeps its old time has a new one of its own."""

    def times(path: Path) -> Iterator[int]:
        found = path.stat()
        yield found.st_mtime_ns
        # On POSIX when the file was put there; elsewhere when it was made.
        yield found.st_ctime_ns

    return max((time for path in files_of(scan) for time in times(path)), default=0)
