"""What a session holds on the device: memory that lives until the last array in it is gone, and callers' inputs."""

from __future__ import annotations

import weakref
from contextlib import ExitStack, suppress
from threading import Lock
from typing import TYPE_CHECKING

from verdiff.runtime.device.block import Block, quietly
from verdiff.runtime.device.driver import DeviceError, Event, Pointer, Stream

if TYPE_CHECKING:
    from verdiff.runtime.device.backend import DeviceBackend
    from verdiff.runtime.device.driver import Driver


class InFlight:
    """Callers' arrays, kept until the device has read them; nobody waits.

    The arrays are in two groups. Each group has an event, which the device passes when it has read the group. New
    arrays join the younger group and move its event. The older group's event stays in its place, so the device passes
    it however fast new calls follow. Then the younger group becomes the older one.

    Args:
        driver: The device.
        marks: Two events.
    """

    def __init__(self, driver: Driver, marks: tuple[Event, Event]) -> None:
        self._driver, self._lock = driver, Lock()
        self._older, self._younger = marks
        self._old: list[object] = []
        self._young: list[object] = []

    def add(self, given: object, stream: Stream) -> None:
        """Keep ``given`` until ``stream`` has come to this place."""
        with self._lock:
            self._let_go()
            if not self._old:
                self._older, self._younger = self._younger, self._older
                self._old, self._young = self._young, []
            self._young.append(given)
            self._driver.record(self._younger, stream)

    def sweep(self) -> None:
        """Let go of the arrays that the device has read."""
        with self._lock:
            self._let_go()

    def clear(self) -> None:
        """Let go of everything; the caller knows that the device has read it."""
        self._old, self._young = [], []

    def _let_go(self) -> None:
        if self._old and self._driver.passed(self._older):
            self._old = []
        if self._young and self._driver.passed(self._younger):
            self._young = []


class Holding:
    """A session's block and events. Exported arrays own it, so a session that is closed leaves it to them.

    Attributes:
        block: The memory.
        ready: The event after the last call.
        given: The event after which an input is there.
        inputs: Callers' arrays on which work is enqueued.

    Args:
        backend: The model on its device; it is not kept alive.
        size: Bytes of device memory.
        staging: Bytes of page-locked memory.
        stream: Where the session's work is put.
        keep: Object that keeps that stream alive.

    Raises:
        BudgetError: The memory is not there.
        DeviceError: The device failed; nothing is left taken.
    """

    def __init__(self, backend: DeviceBackend, size: int, staging: int, stream: Stream, keep: object = None) -> None:
        driver = self._driver = backend.driver
        self._stream, self._keep, self._settled = stream, keep, False
        self._loaded = backend.release
        events: list[Event] = []
        with ExitStack() as undo:
            self.block = Block(driver, size, staging)
            undo.callback(self.block.close)
            for _ in range(4):
                events.append(driver.open_event())
                undo.callback(quietly, driver.close_event, events[-1])
            undo.pop_all()
        self.ready, self.given, *marks = events
        self.inputs = InFlight(driver, (marks[0], marks[1]))
        backend.spaces.beside[self.block.base] = size
        self.release = weakref.finalize(self, _release, driver, self.block, tuple(events), backend.spaces.beside)

    @property
    def stream(self) -> Stream | None:
        """Stream on which the arrays become ready; None once they are, since the stream may be closed by then."""
        return None if self._settled or not self._loaded.alive else self._stream

    def hold_back(self, consumer: Stream) -> None:
        """Make a consumer's stream wait for the last call.

        Raises:
            DeviceError: The device failed.
        """
        with self._driver.active():
            self._driver.wait(consumer, self.ready)

    def leave(self) -> None:
        """End the session: wait for its work, then leave the memory to the exported arrays."""
        with suppress(DeviceError), self._driver.active():
            self._driver.finish(self.ready)
        self._settled = True
        self.inputs.clear()


def _release(driver: Driver, block: Block, events: tuple[Event, ...], counted: dict[Pointer, int]) -> None:
    with ExitStack() as undo:
        with suppress(DeviceError):
            undo.enter_context(driver.active(relaxed=True))
        # These run in reverse: the count ends before the memory is freed, as a new block may get the address at once.
        undo.callback(block.close)
        undo.callback(counted.pop, block.base, None)
        for event in events:
            undo.callback(quietly, driver.close_event, event)
        undo.callback(quietly, driver.finish, events[0])
