"""What a command prints, where nobody reads it, the reader has gone, or the stream was never open.

Files that are in their places stay so whatever becomes of the lines about them, and the exit code is the files'. Where
the lines are all that a command gives, losing them is an error.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import IO, TextIO

import typer

from verdiff.errors import OutputError

# What a shell reports of a program that SIGPIPE ended, which Python ignores.
READER_GONE = 141
_STREAMS = ("stdin", "stdout", "stderr")


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


def say(line: str) -> None:
    """Print a line about what was done; one that cannot be printed changes nothing."""
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
