"""How far a long work is, told to whoever watches: a command draws it, other callers hear nothing.

What tells and what watches need not know each other; both are of one thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Watcher(Protocol):
    """Who is told."""

    def within(self, share: float) -> None:
        """Tell the share of the present stage that is done, 0 to 1."""

    def doing(self, what: str) -> None:
        """What is being done now, in a few words."""

    def stage(self) -> None:
        """Something else begins, of which nothing is done yet."""


@dataclass(frozen=True)
class _Part:
    """A part of what is watched, from one share of the stage to another."""

    watcher: Watcher
    first: float = 0.0
    last: float = 1.0

    def tell(self, share: float) -> None:
        self.watcher.within(self.first + share * (self.last - self.first))

    def part(self, first: float, last: float) -> _Part:
        width = self.last - self.first
        return _Part(self.watcher, self.first + first * width, self.first + last * width)


_PART: ContextVar[_Part | None] = ContextVar("part", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Tell a watcher of the work in this block."""
    before = _PART.get()
    _PART.set(_Part(watcher))
    try:
        yield
    finally:
        _PART.set(before)


@contextmanager
def stage(what: str) -> Iterator[None]:
    """The work in this block is told of by itself, from 0 to 1, and not as a part of what it lies in."""
    before = _PART.get()
    if before is None:
        yield
        return
    _PART.set(_Part(before.watcher))
    before.watcher.stage()
    before.watcher.doing(what)
    try:
        yield
    finally:
        _PART.set(before)
        before.watcher.stage()
        before.watcher.doing("")


def tracked(items: Sequence[Item]) -> Iterator[Item]:
    """Go through items that take about as long as each other; what one tells of itself counts as its part."""
    whole = _PART.get()
    if whole is None:
        yield from items
        return
    try:
        for number, item in enumerate(items):
            whole.tell(number / len(items))
            _PART.set(whole.part(number / len(items), (number + 1) / len(items)))
            yield item
        if (whole.first, whole.last) == (0.0, 1.0):
            # What comes after them, such as writing, is no part of theirs.
            whole.watcher.stage()
        else:
            whole.tell(1.0)
    finally:
        _PART.set(whole)


def done(share: float) -> None:
    """Tell the share of the present part that is done, 0 to 1."""
    if (part := _PART.get()) is not None:
        part.tell(share)


def doing(what: str) -> None:
    """What is being done now, in a few words."""
    if (part := _PART.get()) is not None:
        part.watcher.doing(what)
