"""TensorRT's nested build phases as one share of the work that is done."""

from __future__ import annotations

import threading
from collections.abc import Callable
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
    """

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.given_up = False
        self.error: BaseException | None = None
        self._open: dict[str, _Phase] = {}
        self._lock = threading.Lock()
        self._share = 0.0

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
            self.error, self.given_up = error, True

    def _share_of(self, name: str) -> float:
        share, phase = 0.0, self._open.get(name)
        while phase is not None:
            share = (phase.done + share) / phase.steps
            share, phase = min(1.0, share), self._open.get(phase.parent) if phase.parent else None
        return share
