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
    """Within the block :func:`busy` and :func:`counting` write a JSON object a line, for a program that reads along.

    ``{"doing": "segmenting", "share": 0.4}``; ``share`` is the part of it that is done, null where nobody knows.
    """
    before = _PROGRAM.set(True)
    try:
        yield
    finally:
        _PROGRAM.reset(before)


def _tell(what: str, share: float | None = None) -> None:
    warn(json.dumps({"doing": what, "share": None if share is None else round(share, 4)}))


def _telling(what: str) -> Callable[[float], None]:
    """Takes the share that is done, and tells it twice a second at most, and its end."""
    last = [monotonic()]

    def tell(share: float) -> None:
        if share >= 1 or monotonic() - last[0] >= _TOLD_EVERY_SECONDS:
            last[0] = monotonic()
            _tell(what, min(1.0, share))

    _tell(what, 0.0)
    return tell


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Say that something runs whose duration nobody knows."""
    if _PROGRAM.get():
        _tell(what)
        yield
        return
    detail(what)
    begun = monotonic()
    with drawn(lambda seconds: f"{what} {clock(seconds)}"):
        yield
    detail(f"{what}: {monotonic() - begun:.2f} s")


@contextmanager
def counting(what: str) -> Iterator[Callable[[float], None]]:
    """Say how much of something is done, and how long the rest will take; the block is given what is told the share."""
    if _PROGRAM.get():
        yield _telling(what)
        return
    remaining = Remaining(1)
    with drawn(lambda seconds: f"{what} {100 * remaining.share:3.0f} %{remaining.left()}"):
        yield remaining.within


class Remaining:
    """The time left of a number of things that take about as long as each other."""

    def __init__(self, count: int) -> None:
        self._count, self._done, self._within, self._share = count, 0, 0.0, 0.0
        self._begun: float | None = None

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
        if self._begun is None or not 0 < self.share < 1:
            return ""
        return f", about {clock((monotonic() - self._begun) * (1 - self.share) / self.share)} left"


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
