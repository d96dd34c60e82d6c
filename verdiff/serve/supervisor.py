"""The supervisor: one thread that owns the worker, hands it jobs, and is its watchdog.

A job is cancelled at its deadline or limit, and its worker killed when it does not end then. A worker that is gone, for
whatever reason, costs the job that it had; the next worker is started at once.
"""

from __future__ import annotations

import math
import os
import select
import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition, Thread, current_thread
from time import monotonic
from typing import Any

from verdiff.errors import VerdiffError
from verdiff.limits import Limits
from verdiff.runtime import Cancelled
from verdiff.serve import failures
from verdiff.serve.channel import ChannelClosed
from verdiff.serve.job import Job
from verdiff.serve.process import WorkerProcess
from verdiff.serve.replies import reply_of, surfaces_of
from verdiff.serve.wording import error_of

# The system's calls take no more than some millions of seconds.
_LONGEST_SLEEP = 3600.0
LOADING, READY, BUSY, FAILED, CLOSED = "loading", "ready", "busy", "failed", "closed"


@dataclass(frozen=True)
class Waiting:
    """A job that waits for the worker, its message, and the block with its voxels, which the supervisor closes."""

    job: Job
    message: dict[str, Any]
    block: int


@dataclass
class _Running:
    """The job that the worker has, when it is to be cancelled, and when its worker is to be killed.

    ``late`` is why it was cancelled without having been asked to be.
    """

    job: Job
    cancel_at: float
    kill_at: float | None = None
    late: str = ""


class Supervisor:
    """Keeps one worker process running and gives it one job at a time."""

    def __init__(self, load: Mapping[str, Any], limits: Limits, python: str | None) -> None:
        self._load, self._limits, self._python = load, limits, python
        self._state, self._model = LOADING, {}  # type: tuple[str, Mapping[str, Any]]
        self._failure: VerdiffError | None = None
        self._changed = Condition()
        self._waiting: deque[Waiting] = deque()
        self._to_cancel: set[str] = set()
        self._running: _Running | None = None
        self._worker: WorkerProcess | None = None
        self._closing = False
        self._bell, self._ring = socket.socketpair()
        self._bell.setblocking(False)
        self._ring.setblocking(False)
        self._thread = Thread(target=self._run, name="verdiff-supervisor", daemon=True)

    @property
    def state(self) -> str:
        """See :attr:`verdiff.serve.Client.state`."""
        trying_again = self._state == LOADING and self._failure is not None
        return FAILED if trying_again else self._state

    @property
    def model(self) -> Mapping[str, Any]:
        """What the worker said of its model."""
        return self._model

    @property
    def pid(self) -> int | None:
        """Process number of the worker."""
        worker = self._worker
        return None if worker is None else worker.pid

    def start(self) -> None:
        """Start the first worker and wait for it.

        Raises:
            VerdiffError: It does not come up.
        """
        self._thread.start()
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._state != LOADING)
            if self._failure is not None:
                raise self._failure
            if self._state == CLOSED:
                raise failures.shutting_down()
        except BaseException:
            self.close()
            raise

    def submit(self, waiting: Waiting) -> None:
        """Queue a job.

        Raises:
            ServiceError: The queue is full, the worker does not come up, or the end has come.
        """
        with self._changed:
            if self._closing:
                raise failures.shutting_down()
            if self._failure is not None:
                raise failures.no_worker(self._failure) from self._failure
            if len(self._waiting) >= self._limits.waiting:
                raise failures.queue_is_full(len(self._waiting), self._limits.waiting)
            self._waiting.append(waiting)
        self._wake()

    def cancel(self, job: Job) -> None:
        """Have a job end soon."""
        with self._changed:
            self._to_cancel.add(job.id)
        self._wake()

    def close(self) -> None:
        """End the worker and the thread."""
        with self._changed:
            self._closing = True
        self._wake()
        if current_thread() is not self._thread:
            self._thread.join()

    def _wake(self) -> None:
        # A full bell rings already; one that is gone has nobody to wake.
        with suppress(OSError):
            self._ring.send(b"!")

    # What follows runs in the supervisor's thread.

    def _run(self) -> None:
        try:
            self._keep_up()
        finally:
            self._closing = True
            self._end_worker("", patience_s=self._limits.grace_s)
            self._fail_all(failures.shutting_down())
            self._set(CLOSED)
            self._bell.close()
            self._ring.close()

    def _keep_up(self) -> None:
        """Have a worker until the end has come."""
        failed = 0
        while not self._closing:
            self._set(LOADING)
            failure = self._bring_up()
            if failure is None:
                failed = 0
                self._serve()
                continue
            with self._changed:
                self._failure = failure
            self._set(FAILED)
            self._fail_all(failure)
            failed += 1
            self._pause(min(self._limits.pause_s, 0.5 * 2.0**failed))

    def _bring_up(self) -> VerdiffError | None:
        """Start a worker and wait until it is ready; why it is not, otherwise."""
        until = monotonic() + self._limits.load_s
        try:
            self._worker = worker = WorkerProcess(python=self._python)
            worker.channel.send(dict(self._load))
            while not self._heard(until - monotonic()):
                if self._closing:
                    return None
                self._expire_waiting(self._asked())
                if monotonic() > until:
                    raise failures.load_took_too_long(self._limits.load_s)
            message, _ = worker.channel.receive()
            if "ready" not in message:
                raise error_of(message)
        except VerdiffError as error:
            self._end_worker("")
            return error
        except ChannelClosed:
            return failures.ended_while_loading(self._end_worker("", patience_s=1.0))
        with self._changed:
            self._model, self._failure = message["ready"], None
        self._set(READY)
        return None

    def _serve(self) -> None:
        """Hand out jobs until the worker is gone or the end has come."""
        while self._worker is not None and not self._closing:
            try:
                self._hand_out()
                if self._heard(self._until_next()):
                    self._listen()
                self._watch()
            except ChannelClosed:
                self._end_worker("while it had the job", patience_s=0.5)
            except (MemoryError, OSError) as error:
                self._end_worker(f"since its mask could not be taken ({error})")

    def _heard(self, seconds: float) -> bool:
        """Wait for the worker, the bell or the clock; whether the worker has something to say."""
        assert self._worker is not None
        # Not select, which takes no descriptor beyond 1023: a host may have more files open.
        poll = select.poll()
        poll.register(self._worker.channel, select.POLLIN)
        poll.register(self._bell, select.POLLIN)
        heard = [descriptor for descriptor, _ in poll.poll(1000 * max(0.0, seconds))]
        with suppress(BlockingIOError):
            self._bell.recv(4096)
        return self._worker.channel.fileno() in heard

    def _pause(self, seconds: float) -> None:
        until = monotonic() + seconds
        while not self._closing and (left := until - monotonic()) > 0:
            poll = select.poll()
            poll.register(self._bell, select.POLLIN)
            if poll.poll(1000 * left):
                self._bell.recv(4096)

    def _hand_out(self) -> None:
        assert self._worker is not None
        with self._changed:
            if self._running is not None or not self._waiting:
                return
            waiting = self._waiting.popleft()
            job = waiting.job
            late = monotonic() + self._limits.job_s
            if job.deadline is not None:
                late = min(late, job.deadline + self._limits.late_s)
            self._running = _Running(job, late)
        job.begin()
        self._set(BUSY)
        try:
            self._worker.channel.send(waiting.message, waiting.block)
        finally:
            os.close(waiting.block)

    def _listen(self) -> None:
        assert self._worker is not None
        message, blocks = self._worker.channel.receive()
        running = self._running
        if running is None:
            raise ChannelClosed(f"an answer without a question: {sorted(message)}")
        job = running.job
        if "reply" in message:
            job.reply(reply_of(job, message, blocks, self._model["labels"]))
            return
        self._running = None
        self._set(READY)
        if "error" in message:
            error = error_of(message)
            job.end(failures.too_late(running.late) if running.late and isinstance(error, Cancelled) else error)
        else:
            job.end(surfaces=surfaces_of(message, blocks))

    def _watch(self) -> None:
        """Cancel what is asked for or late, and kill what does not end then."""
        asked = self._asked()
        self._expire_waiting(asked)
        running, now = self._running, monotonic()
        if running is None or self._worker is None:
            return
        if running.kill_at is None and (running.job.id in asked or now >= running.cancel_at):
            if running.job.id not in asked:
                running.late = "its deadline" if running.job.past_deadline else f"{self._limits.job_s:g} s"
            running.kill_at = now + self._limits.grace_s
            self._worker.channel.send({"cancel": running.job.id})
        if running.kill_at is not None and now >= running.kill_at:
            self._end_worker(f"since it went on for {self._limits.grace_s:g} s after it was told to end")

    def _asked(self) -> set[str]:
        """The jobs that have been told to end since this was last asked."""
        with self._changed:
            asked, self._to_cancel = self._to_cancel, set()
        return asked

    def _expire_waiting(self, asked: set[str]) -> None:
        """End the waiting jobs that are cancelled or late."""
        with self._changed:
            over = [each for each in self._waiting if each.job.id in asked or each.job.past_deadline]
            for each in over:
                self._waiting.remove(each)
        for each in over:
            os.close(each.block)
            cancelled = each.job.id in asked
            each.job.end(failures.cancelled_while_waiting() if cancelled else failures.waited_too_long())

    def _until_next(self) -> float:
        """Seconds to the next thing to do by the clock."""
        running = self._running
        times = [] if running is None else [running.cancel_at if running.kill_at is None else running.kill_at]
        with self._changed:
            times += [each.job.deadline for each in self._waiting if each.job.deadline is not None]
        return min(_LONGEST_SLEEP, min(times, default=math.inf) - monotonic())

    def _end_worker(self, why: str, *, patience_s: float = 0.0) -> str:
        """End the worker, and the job that it had; says how it ended."""
        worker, running = self._worker, self._running
        self._worker = self._running = None
        how = "" if worker is None else worker.end(patience_s)
        if running is not None:
            running.job.end(failures.shutting_down() if self._closing else failures.worker_was_ended(how, why))
        return how

    def _fail_all(self, error: VerdiffError) -> None:
        with self._changed:
            waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            os.close(each.block)
            each.job.end(error)

    def _set(self, state: str) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
