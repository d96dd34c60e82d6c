"""``--dry-run``: a command does everything up to its first computation, says what would follow, and ends there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_REHEARSING = ContextVar("rehearsing", default=False)


class Rehearsed(Exception):
    """A rehearsal came to the point where work would begin; everything was checked by then, and nothing written.

    Attributes:
        lines: What would be read, computed and written.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__()
        self.lines = tuple(lines)


@contextmanager
def rehearsing() -> Iterator[None]:
    """Have :func:`rehearse` end the work of this block."""
    before = _REHEARSING.set(True)
    try:
        yield
    finally:
        _REHEARSING.reset(before)


def is_rehearsal() -> bool:
    """Whether the work of this block ends at :func:`rehearse`: for checks that the work itself makes later."""
    return _REHEARSING.get()


def rehearse(reads: Mapping[str, object], computes: Iterable[str], writes: Iterable[Path | str]) -> None:
    """Where a command has checked everything and computed nothing: end here if this is a rehearsal.

    Args:
        reads: What is read, by what it is; None is left out.
        computes: What is done with it, a phrase each.
        writes: The files and folders that would be written.

    Raises:
        Rehearsed: It is one.
    """
    if not _REHEARSING.get():
        return
    raise Rehearsed(
        [
            *(f"would read {what}: {value}" for what, value in reads.items() if value is not None),
            *(f"would {what}" for what in computes),
            *([f"would write {place}" for place in writes] or ["would write no file"]),
        ]
    )
