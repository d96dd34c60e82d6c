"""A model on a device: its engines, its memory and graphs, one call at a time."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Lock, get_ident
from typing import TYPE_CHECKING

from verdiff.errors import BackendError
from verdiff.runtime.device.block import quietly
from verdiff.runtime.device.driver import RESTART, DeviceError, Event, Stream
from verdiff.runtime.device.kernels import Kernels
from verdiff.runtime.device.spaces import Spaces

if TYPE_CHECKING:
    from verdiff.runtime.device.driver import Driver
    from verdiff.runtime.device.network import Networks


class DeviceBackend:
    """One model on one device. Several of them live in one process, in any threads, and share nothing.

    Attributes:
        name: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        version: Version of its library.
        device: ``"cuda:N"``.
        precision: What the networks compute in.
        threads: 0, since no processor thread computes.
        batch: Images of a network call, of the shape that was used last.
        stream: Where the work is put: the caller's stream, or one of its own.
        release: Gives everything back without a lock, once; :meth:`close` calls it, or the garbage collector.

    Args:
        driver: The device.
        networks: The engines, closed with this object.
        classes: Foreground channels.
        limit: Bytes of device memory to take beside the engines, or None for a share of what is free.
        stream: The caller's stream, or None.
        priority: Priority of a stream of its own: lower numbers go first; None is the default.
        keep: Object that keeps the caller's stream alive, such as its library's object.
    """

    threads = 0

    def __init__(
        self,
        driver: Driver,
        networks: Networks,
        classes: int,
        *,
        limit: int | None = None,
        stream: Stream | None = None,
        priority: int | None = None,
        keep: object = None,
    ) -> None:
        self.driver, self.networks, self.classes = driver, networks, classes
        self.name, self.version, self.precision = networks.name, networks.version, networks.precision
        self.device, self.batch = f"cuda:{driver.gpu.index}", 1
        self.keep = keep
        self._lock, self._caller, self._closing = Lock(), 0, False
        self._lost: DeviceError | None = None
        self._running: Stream | None = None
        events: list[Event] = []
        with driver.active(), ExitStack() as undo:
            undo.callback(networks.close)
            own = driver.open_stream(priority)
            undo.callback(quietly, driver.close_stream, own)
            for _ in range(3):
                events.append(driver.open_event())
                undo.callback(quietly, driver.close_event, events[-1])
            kernels = Kernels(driver, classes)
            undo.pop_all()
        self.kernels, self.events = kernels, (events[0], events[1])
        # Marks the end of the work that a call left on a stream. The event is our own: it outlives a caller's stream.
        self._left = events[2]
        self.spaces = Spaces(driver, kernels, networks, own, limit)
        self.stream = own if stream is None else stream
        self.release = weakref.finalize(self, _release, driver, networks, self.spaces, own, tuple(events), os.getpid())

    @contextmanager
    def held(self, stream: Stream | None = None) -> Iterator[Stream]:
        """Hold the device for one call; other threads wait. Gives the stream that the call's work is put on.

        Args:
            stream: Where to put the work of this call, which need not be done at its end; None is :attr:`stream`.

        Raises:
            BackendError: The device was lost in an earlier call, this object was closed, or this thread is in another
                call of it already.
        """
        if self._caller == get_ident():
            raise BackendError(
                "a call within another call of the same Segmenter (a stream that is not finished, or a callback)",
                "one call at a time",
                "finish or close the stream first, or load a second Segmenter",
            )
        with self._lock:
            self._check_alive()
            self._caller = get_ident()
            try:
                self._follow(stream)
                yield self.stream if stream is None else stream
                if stream is not None:
                    with self.working():
                        self.driver.record(self._left, stream)
                self._running = stream
            except BaseException:
                # The next call must find no work of this one on the device.
                with suppress(DeviceError), self.driver.active():
                    self.driver.synchronise(self.stream if stream is None else stream)
                raise
            finally:
                self._caller = 0
                if self._closing:
                    self.release()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other thread is in a call; within a call of its own a thread does not wait."""
        if self._caller == get_ident():
            yield
            return
        with self._lock:
            yield

    def close(self) -> None:
        """Give everything back, once a call in another thread is over and what was left on a stream is done.

        Within a call of this thread's own (a stream that is not finished, a callback) that call goes on, and all is
        given back at its end. Closing twice does no harm.
        """
        self._closing = True
        with self.alone():
            if not self._caller:
                self.release()

    def settle(self) -> None:
        """Wait for the work that the last call left on its stream."""
        if self._running is not None:
            with self.working():
                self.driver.finish(self._left)
            self._running = None

    def _follow(self, stream: Stream | None) -> None:
        """Make this call's work start after the work of the call before it."""
        if stream is None or stream != self._running:
            self.settle()
            return
        with self.working():
            # The device waits, not the host. The wait is needed: a new stream may have a destroyed one's address.
            self.driver.wait(stream, self._left)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Make the device current in this thread for one piece of work; notice when it is lost."""
        try:
            with self.driver.active():
                yield
        except DeviceError as error:
            if error.lost:
                self._lost = error
            raise

    def _check_alive(self) -> None:
        if self._lost is not None:
            raise BackendError(
                f"{self.device} was lost in an earlier call ({self._lost.call}: {self._lost.code})",
                "a process whose device is there",
                RESTART,
            )
        if self._closing:
            raise BackendError("a Segmenter that was closed", "an open one", "load the Segmenter again")


def _release(
    driver: Driver, networks: Networks, spaces: Spaces, own: Stream, events: tuple[Event, ...], process: int
) -> None:
    """Give everything back without a lock, as the garbage collector may call this; a forked process owns nothing."""
    if os.getpid() != process:
        return
    with ExitStack() as undo:
        with suppress(DeviceError):
            undo.enter_context(driver.active(relaxed=True))
        undo.callback(networks.close)
        undo.callback(quietly, driver.close_stream, own)
        for event in events:
            undo.callback(quietly, driver.close_event, event)
        undo.callback(spaces.close)
        undo.callback(quietly, driver.finish, events[-1])
