"""Where a command that takes its time stands: a line drawn again and again on a terminal, plain lines elsewhere.

All of it goes to standard error. What takes less than three seconds says nothing where nobody watches.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from time import monotonic

from verdiff.commands.printing import QUIET, detail, draw, erase, loudness, warn, watched
from verdiff.progress import watched_by

# On a terminal: nothing of what is quick, then often enough to see that it lives.
_FIRST_SECONDS, _EVERY_SECONDS = 1.0, 0.25
# Elsewhere, such as in a log: when a line is due, and how often after the last.
_TOLD_EVERY_SECONDS = 0.5
_PROGRAM: ContextVar[bool] = ContextVar("for programs", default=False)
_LINES_AT_SECONDS, _LINES_EVERY_SECONDS = (3.0, 10.0, 30.0), 60.0


@contextmanager
def drawn(state: Callable[[float], str]) -> Iterator[None]:
    """Say how something stands while the block runs.

    Args:
        state: What to say, given the seconds since the block began; it is called from another thread.
    """
    if loudness() == QUIET:
        yield
        return
    over = threading.Event()
    on_terminal = watched()
    keep = _redraw if on_terminal else _line_by_line
    thread = threading.Thread(target=copy_context().run, args=(keep, state, over), name="verdiff-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if on_terminal:
            erase()


@contextmanager
def for_programs() -> Iterator[None]:
    """Have :func:`busy` write JSON objects within the block, one a line, for a program that reads along.

    ``{"doing": "segmenting", "share": 0.4}``; ``share`` is the part of it that is done, null where nobody knows.
    """
    before = _PROGRAM.set(True)
    try:
        yield
    finally:
        _PROGRAM.reset(before)


def _tell(what: str, share: float | None = None) -> None:
    warn(json.dumps({"doing": what, "share": None if share is None else round(share, 4)}))


class _Telling:
    """What the work tells of itself, for a program: its share, twice a second at most, and its end."""

    def __init__(self, what: str) -> None:
        self._what, self._last = what, monotonic()
        _tell(what)

    def within(self, share: float) -> None:
        if share >= 1 or monotonic() - self._last >= _TOLD_EVERY_SECONDS:
            self._last = monotonic()
            _tell(self._what, min(1.0, share))

    def doing(self, what: str) -> None:
        """Smaller steps are not told."""

    def stage(self) -> None:
        _tell(self._what)


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Say that something runs, and how far it is where the work tells of it (:mod:`verdiff.progress`)."""
    if _PROGRAM.get():
        with watched_by(_Telling(what)):
            yield
        return
    detail(what)
    begun, state = monotonic(), _State()
    with drawn(lambda seconds: f"{what} {clock(seconds)}{state.told()}"), watched_by(state):
        yield
    detail(f"{what}: {monotonic() - begun:.2f} s")


class _State:
    """What the work tells of itself."""

    def __init__(self) -> None:
        self._remaining, self._doing = Remaining(1), ""

    def within(self, share: float) -> None:
        self._remaining.within(share)

    def doing(self, what: str) -> None:
        self._doing = what

    def stage(self) -> None:
        self._remaining = Remaining(1)

    def told(self) -> str:
        """What stands behind the time."""
        share = self._remaining.share
        parts = [self._doing, f"{100 * share:.0f} %{self._remaining.left()}" if share > 0 else ""]
        return "".join(f", {part}" for part in parts if part)


class Remaining:
    """The time left of a number of things that take about as long as each other."""

    def __init__(self, count: int) -> None:
        self._count, self._done, self._within, self._share = count, 0, 0.0, 0.0
        self._begun: float | None = None
        # Of a work that goes on where it was stopped.
        self._first = 0.0

    def start(self) -> None:
        """The first of them begins now: what went before, such as loading a model, will not come again."""
        self._begun = monotonic()

    def step(self) -> None:
        """One is done."""
        self._done, self._within = self._done + 1, 0.0

    def within(self, share: float) -> None:
        """The one in work is done to this share, 0 to 1."""
        if self._begun is None:
            self.start()
            self._first = min(1.0, share) if self._count == 1 else 0.0
        self._within = min(1.0, share)

    @property
    def share(self) -> float:
        """The part of all that is done, 0 to 1."""
        # The next may be in work before the last is counted as done; what was done stays done.
        now = (self._done + self._within) / self._count if self._count else 1.0
        self._share = max(self._share, min(1.0, now))
        return self._share

    def left(self) -> str:
        """``", about 1:20 left"``, or nothing while that is not known, and at the end."""
        share = self.share
        if self._begun is None or not self._first < share < 1:
            return ""
        return f", about {clock((monotonic() - self._begun) * (1 - share) / (share - self._first))} left"


def clock(seconds: float) -> str:
    """Seconds as ``1:05`` or ``2:01:05``."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _redraw(state: Callable[[float], str], over: threading.Event) -> None:
    begun, pause = monotonic(), _FIRST_SECONDS
    while not over.wait(pause):
        draw(state(monotonic() - begun))
        pause = _EVERY_SECONDS


def _line_by_line(state: Callable[[float], str], over: threading.Event) -> None:
    begun, due = monotonic(), list(_LINES_AT_SECONDS)
    while not over.wait(due[0] - (monotonic() - begun)):
        warn(state(monotonic() - begun))
        due = due[1:] or [due[0] + _LINES_EVERY_SECONDS]
