"""A thread that works for others, for libraries that keep something for every thread that ever called them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import Context, copy_context
from queue import SimpleQueue
from threading import Lock, Thread, current_thread
from typing import Any, TypeVar

from verdiff.errors import BackendError

Result = TypeVar("Result")
Job = tuple[Context, Callable[[], Any], "Future[Any]"]


class RunThread:
    """One thread that runs what it is handed, one call after the other, until it is closed.

    A daemon, unlike an executor's threads: those are joined when the interpreter ends, before the handlers that close
    what is still open, so that nothing could be closed in its own thread any more.

    Args:
        name: Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock, self._closed = Lock(), False
        # The thread knows the queue only: an object that is forgotten can go, and its thread with it.
        self._thread = Thread(target=_serve, args=(self._jobs,), name=name, daemon=True)
        self._thread.start()
        weakref.finalize(self, self._jobs.put, None).atexit = False

    def run(self, call: Callable[[], Result]) -> Result:
        """What ``call`` returns or raises, from the thread, in a copy of this thread's context.

        Raises:
            BackendError: The thread was closed, or is that of a process that this one was forked from.
        """
        if current_thread() is self._thread:
            return call()
        done: Future[Result] = Future()
        with self._lock:
            # What is put behind the end would never be done.
            if self._closed or not self._thread.is_alive():
                raise BackendError(
                    "a thread that has ended (a Segmenter that was closed, or a process forked after it was loaded)",
                    "an open Segmenter, in the process that loaded it",
                    "load the Segmenter again; start processes with 'spawn'",
                )
            self._jobs.put((copy_context(), call, done))
        try:
            return done.result()
        except BaseException:
            # Interrupted while waiting: what was begun must not go on behind the caller's back.
            wait([done])
            raise
        finally:
            # An error refers to this frame, and what is to come of the call to the error.
            del done

    def close(self) -> None:
        """Let the thread end after what it was handed.

        Nobody waits for that: it may be the garbage collector that calls, in the midst of threading's own work, and
        whoever hands something in has waited for it already.
        """
        with self._lock:
            if not self._closed:
                self._jobs.put(None)
            self._closed = True


def _serve(jobs: SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        _do(*job)
        # What a call refers to must not live until the next one comes.
        del job


def _do(context: Context, call: Callable[[], Any], done: Future[Any]) -> None:
    try:
        result = context.run(call)
    except BaseException as error:
        done.set_exception(error)
        # The error's frames refer to this one: without it there is no cycle.
        del done
    else:
        done.set_result(result)
