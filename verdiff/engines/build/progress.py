"""TensorRT's nested build phases as one share of the work that is done."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

Progress = Callable[[float, str], bool | None]
"""(share of the build from 0 to 1, what is being done) -> ``False`` to give the build up."""


@dataclass
class _Phase:
    name: str
    parent: str | None
    steps: int
    done: int = 0


class PhaseTree:
    """Turns phases that open, step and close, one inside another and from any thread, into calls of ``progress``.

    Nothing is raised into TensorRT, which could not pass it on: what ``progress`` raises ends the build, and is kept
    for whoever started it.

    Attributes:
        given_up: Whether ``progress`` ended the build.
        error: What it raised to do so.
        interrupted: Asked at every step whether somebody pressed Ctrl-C.
    """

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.given_up = False
        self.error: BaseException | None = None
        self.interrupted: Callable[[], bool] = lambda: False
        self._open: dict[str, _Phase] = {}
        self._lock = threading.Lock()
        self._share = 0.0

    def give_up(self, error: BaseException) -> None:
        """End the build at its next step, with ``error`` for whoever started it."""
        self.error, self.given_up = self.error or error, True

    def started(self, name: str, parent: str | None, steps: int) -> None:
        """A phase opens, inside another or at the top."""
        with self._lock:
            self._open[name] = _Phase(name, parent, max(1, steps))
            self._tell(name)

    def stepped(self, name: str, step: int) -> bool:
        """A step of a phase is done; returns whether to go on."""
        with self._lock:
            if name in self._open:
                self._open[name].done = step + 1
            self._tell(name)
            if self.interrupted():
                self.give_up(KeyboardInterrupt())
            return not self.given_up

    def finished(self, name: str) -> None:
        """A phase closes."""
        with self._lock:
            phase = self._open.pop(name, None)
            if phase is not None and phase.parent is None:
                self._share = 1.0
                self._tell(name)

    def _tell(self, name: str) -> None:
        if self.progress is None or self.given_up:
            return
        # A parent's step is counted when its phases are over, and several may be open in it: the bar never goes back.
        self._share = max(self._share, min(1.0, self._share_of(name)))
        try:
            self.given_up = self.progress(self._share, name) is False
        except BaseException as error:
            self.give_up(error)

    def _share_of(self, name: str) -> float:
        share, phase = 0.0, self._open.get(name)
        while phase is not None:
            share = (phase.done + share) / phase.steps
            share, phase = min(1.0, share), self._open.get(phase.parent) if phase.parent else None
        return share


@contextmanager
def interrupts_end(tree: PhaseTree) -> Iterator[None]:
    """Have Ctrl-C end a build at its next step.

    Python runs a signal's handler in its main thread, which is in TensorRT until the build is over, and a
    KeyboardInterrupt raised there would be lost. The byte that a signal writes into the wake-up socket can be read from
    any thread. A host that has its own handler or socket keeps them.
    """
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield
        return
    pressed: list[int] = []
    with ExitStack() as undo:
        # The handler is the first that comes and the last that goes: in between nothing is raised.
        undo.callback(signal.signal, signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
        reader, writer = map(undo.enter_context, socket.socketpair())
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        undo.callback(signal.set_wakeup_fd, before)
        if before != -1:
            signal.set_wakeup_fd(before)

        def interrupted() -> bool:
            with suppress(BlockingIOError):
                pressed.extend(number for number in reader.recv(64) if number == signal.SIGINT)
            return bool(pressed)

        tree.interrupted = interrupted
        yield
        # One that came after the last step ends the build too.
        if interrupted():
            tree.give_up(KeyboardInterrupt())
