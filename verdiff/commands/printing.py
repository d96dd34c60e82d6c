"""What a command prints, where nobody reads it, the reader has gone, or the stream was never open.

Files that are in their places stay so whatever becomes of the lines about them, and the exit code is the files'. Where
the lines are all that a command gives, losing them is an error.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, TextIO

import typer

from verdiff.errors import OutputError

# What a shell reports of a program that SIGPIPE ended, which Python ignores.
READER_GONE = 141
_STREAMS = ("stdin", "stdout", "stderr")
QUIET, NORMAL, VERBOSE = -1, 0, 1
_LOUDNESS = ContextVar("loudness", default=NORMAL)
# To the beginning of a terminal's line, and away with what stands there (ECMA-48).
_CLEAR = "\r\x1b[2K"
_WIDTH = 80


def open_streams() -> None:
    """Give the process the three standard streams that it may have been started without.

    Else the next file that is opened would get their number, and what a library prints would be written into a mask.
    Characters that a terminal's encoding lacks are written as escapes.
    """
    for number, name in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            _give(number, name)
        stream = getattr(sys, name)
        if number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _printable(text: str, stream: TextIO) -> str:
    """Text that a stream can take: what its encoding lacks, such as names that are not UTF-8, is spelled out."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


@contextmanager
def as_loud_as(level: int) -> Iterator[None]:
    """How much is said in this block: :data:`QUIET`, :data:`NORMAL` or :data:`VERBOSE`."""
    before = _LOUDNESS.set(level)
    try:
        yield
    finally:
        _LOUDNESS.reset(before)


def loudness() -> int:
    """How much is to be said."""
    return _LOUDNESS.get()


class _Live:
    """The line of a terminal that says how things stand, which gives way to every other line."""

    def __init__(self) -> None:
        self.shown = False
        self.lock = threading.RLock()

    def write(self, text: str) -> None:
        with self.lock:
            try:
                sys.stderr.write(_CLEAR + _printable(text, sys.stderr))
                sys.stderr.flush()
            except (OSError, ValueError):
                # The terminal may be closed meanwhile, which is no reason to lose a mask.
                _silence(sys.stderr)
            self.shown = bool(text)


_LIVE = _Live()


def watched() -> bool:
    """Whether somebody sees what is drawn."""
    return sys.stderr is not None and sys.stderr.isatty()


def draw(text: str) -> None:
    """Put a line on the terminal in place of the one that was drawn there; it is cut to the terminal's width."""
    try:
        # Some terminals do not know their width and say 0.
        width = os.get_terminal_size(sys.stderr.fileno()).columns or _WIDTH
    except (OSError, ValueError):
        width = _WIDTH
    _LIVE.write(text[: max(1, width - 1)])


def erase() -> None:
    """Take the drawn line away."""
    if _LIVE.shown:
        _LIVE.write("")


def say(line: str) -> None:
    """Print a line about what was done, unless all is to be quiet; one that cannot be printed changes nothing."""
    if loudness() != QUIET:
        give(line)


def detail(line: str) -> None:
    """Print what only those want to know who asked for more."""
    if loudness() == VERBOSE:
        warn(line)


def give(line: str) -> None:
    """Print what was asked for beside files; one that cannot be printed changes nothing."""
    with _LIVE.lock:
        erase()
        try:
            typer.echo(_printable(line, sys.stdout))
        except (OSError, ValueError) as error:
            _silence(sys.stdout)
            if getattr(error, "errno", None) != errno.EPIPE:
                warn(f"note: what was done cannot be printed ({getattr(error, 'strerror', None) or error})")


def show(text: str) -> None:
    """Print what the command is for.

    Raises:
        OutputError: It cannot be written.
        typer.Exit: Nobody reads it any more; the code is :data:`READER_GONE`.
    """
    erase()
    try:
        typer.echo(_printable(text, sys.stdout))
    except (OSError, ValueError) as error:
        _silence(sys.stdout)
        if getattr(error, "errno", None) == errno.EPIPE:
            raise typer.Exit(READER_GONE) from error
        raise OutputError(
            f"standard output cannot be written: {getattr(error, 'strerror', None) or error}",
            "a terminal, a pipe or a file with room on its disk",
            "send the output elsewhere",
        ) from error


def warn(text: str) -> None:
    """Print to stderr; what cannot be printed there is lost."""
    with _LIVE.lock:
        erase()
        try:
            typer.echo(_printable(text, sys.stderr), err=True)
        except (OSError, ValueError):
            _silence(sys.stderr)


def _give(number: int, name: str) -> None:
    null = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    if getattr(sys, name) is None:
        setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))


def _silence(stream: IO[str] | None) -> None:
    """Send the rest nowhere, what is waiting to be written at exit included."""
    try:
        number = stream.fileno() if stream is not None else -1
    except (OSError, ValueError):
        return
    if number in (1, 2):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
