"""What a decoder prints is taken off standard output and error: it is judged, and stands in nobody's terminal or JSON.

libjpeg tells of damaged data in lines that it prints itself, and goes on; inside of GDCM it does so on standard error,
inside of ITK on standard output. Only the descriptors can be turned aside, which are the whole process's: what another
thread printed meanwhile is handed on.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import RLock

from verdiff.imaging.voxels import damaged

# As libjpeg begins its warnings (jerror.h) about data that it then fills up.
_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG file", "Premature end of input file", "Inconsistent progression")
# Its other warnings, of which an image loses nothing.
_HARMLESS = (
    *("Invalid SOS parameters", "Warning: unknown JFIF revision", "Unknown Adobe color transform"),
    # Of chunks beside the image; of damaged image data libpng makes an error.
    "libpng warning:",
)
_STDOUT, _STDERR = 1, 2
_LOCK = RLock()


@contextmanager
def heard(path: Path) -> Iterator[None]:
    """Run a decoder with both standard streams turned aside.

    Where the block fails, what was printed is dropped: the exception says it.

    Args:
        path: The file that is decoded, for messages.

    Raises:
        InputError: The block ended well, and the decoder said that the data are damaged.
    """
    with _LOCK:
        with _aside(_STDOUT) as out, _aside(_STDERR) as err:
            yield
            printed = {_STDOUT: out(), _STDERR: err()}
        lines = {stream: text.splitlines(keepends=True) for stream, text in printed.items()}
        if said := [line.strip() for line in (*lines[_STDOUT], *lines[_STDERR]) if line.startswith(_DAMAGE)]:
            raise damaged(path, f"its decoder says: {said[0]}")
        for stream, some in lines.items():
            others = "".join(line for line in some if not line.startswith(_HARMLESS))
            if others:
                with suppress(OSError):
                    os.write(stream, others.encode("utf-8", "surrogateescape"))


@contextmanager
def _aside(stream: int) -> Iterator[Callable[[], str]]:
    """What is printed to a descriptor meanwhile, which goes to memory, or nowhere where the system has no such file."""
    try:
        kept = os.dup(stream)
    except OSError:
        # It is closed, and nobody hears anything.
        yield str
        return
    _flush()
    in_memory = getattr(os, "memfd_create", None)
    place: int = os.open(os.devnull, os.O_RDWR) if in_memory is None else in_memory("printed")

    def printed() -> str:
        _flush()
        os.lseek(place, 0, os.SEEK_SET)
        return os.read(place, 1 << 20).decode("utf-8", "surrogateescape")

    with ExitStack() as after:
        after.callback(os.close, place)
        after.callback(os.close, kept)
        after.callback(os.dup2, kept, stream)
        after.callback(_flush)
        os.dup2(place, stream)
        yield printed


def _flush() -> None:
    """Empty the buffers of the C library, in which a decoder's lines would outlast the block."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)
