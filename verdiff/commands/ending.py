"""Ending a command from outside: SIGTERM and a closed terminal are met as Ctrl-C is, so that files are put in order."""

from __future__ import annotations

import signal
from types import FrameType

from verdiff.errors import SIGNALLED

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Ended(SystemExit):
    """A signal asked the process to end; its exit code is 128 and the signal's number, as a shell reports it."""

    def __init__(self, number: int) -> None:
        super().__init__(SIGNALLED + number)
        self.name = signal.Signals(number).name


def end_in_order() -> None:
    """Have the signals that end a process raise :class:`Ended` in the main thread; a second one ends it at once."""
    for number in _ENDING:
        # What the caller ignores (nohup) or handles stays as it is.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Ended(number)
