"""Ctrl-C and SIGTERM in a training: the iteration is finished and the weights are kept before the process ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class StopRequest:
    """The signal that asked to stop, if one did."""

    number: int | None = None

    def obey(self) -> None:
        """Let the signal act as it would have done at once; nothing where none came."""
        if self.number is not None:
            signal.raise_signal(self.number)


@contextmanager
def stopping(ask: Callable[[], None]) -> Iterator[StopRequest]:
    """Have the first Ctrl-C or SIGTERM within the block call ``ask``; the second acts as it would anywhere.

    Handlers can be set in the main thread alone; in any other the block changes nothing.
    """
    asked = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        asked.number = number
        ask()

    for number, handler in before.items():
        # A process that was started to ignore a signal goes on ignoring it.
        if handler is not signal.SIG_IGN:
            signal.signal(number, first)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
