"""A thread that works for others: their errors, their context, its end; and a lock that may be entered there again."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from threading import Barrier, current_thread

import pytest

from verdiff.errors import BackendError
from verdiff.runtime.backends import capturing
from verdiff.runtime.backends.capturing import capture_lock
from verdiff.runtime.backends.run_thread import RunThread

ASKED: ContextVar[str] = ContextVar("asked", default="nobody")


def fail() -> None:
    raise KeyError("what went wrong")


def test_an_error_comes_to_the_caller_and_the_thread_goes_on() -> None:
    thread = RunThread("runs")
    with pytest.raises(KeyError, match="what went wrong"):
        thread.run(fail)
    assert thread.run(lambda: 4) == 4
    thread.close()


def test_what_a_call_referred_to_is_gone_when_it_is_done() -> None:
    class Held:
        def work(self) -> None:
            raise KeyError

    thread, held = RunThread("runs"), Held()
    gone = weakref.ref(held)
    gc.disable()
    try:
        with pytest.raises(KeyError):
            thread.run(held.work)
        # The queue is served in order: after this the first call is over.
        thread.run(str)
        del held
        gc.collect()
        assert gone() is None
    finally:
        gc.enable()
        thread.close()


def test_a_call_sees_the_caller_s_context_and_leaves_it_alone() -> None:
    thread, token = RunThread("runs"), ASKED.set("the caller")
    assert thread.run(ASKED.get) == "the caller"
    thread.run(lambda: ASKED.set("the thread"))
    assert ASKED.get() == "the caller"
    ASKED.reset(token)
    thread.close()


def test_a_call_within_a_call_and_a_close_within_a_call_do_not_wait_for_themselves() -> None:
    thread = RunThread("runs")
    assert thread.run(lambda: thread.run(current_thread)) is not current_thread()
    thread.run(thread.close)
    thread.close()


def test_a_closed_thread_refuses_and_can_be_closed_again() -> None:
    thread = RunThread("runs")
    own = thread.run(current_thread)
    thread.close()
    thread.close()
    own.join(30)
    assert not own.is_alive()
    with pytest.raises(BackendError, match="a thread that has ended"):
        thread.run(str)


def test_a_thread_that_is_forgotten_ends() -> None:
    thread = RunThread("runs")
    own = thread.run(current_thread)
    del thread
    gc.collect()
    own.join(30)
    assert not own.is_alive()


def test_who_holds_the_lock_may_have_its_thread_take_it() -> None:
    thread = RunThread("runs")

    def locked() -> str:
        with capture_lock():
            return "done"

    with capture_lock(), capture_lock():
        assert thread.run(locked) == "done"
    assert thread.run(locked) == "done"
    thread.close()


def test_two_threads_hold_the_lock_one_after_the_other() -> None:
    together, inside, most = Barrier(4), list[int](), list[int]()

    def work(number: int) -> None:
        together.wait()
        for _ in range(200):
            with capture_lock():
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert max(most) == 1


def test_the_lock_is_free_after_an_error() -> None:
    with pytest.raises(KeyError), capture_lock():
        fail()
    assert not capturing._LOCK.locked()


@pytest.mark.parametrize("ending", ["", "thread.close()", "import atexit; atexit.register(lambda: thread.run(print))"])
def test_the_interpreter_ends_with_a_thread_that_is_open_and_closing_at_its_end_works(ending: str) -> None:
    program = f"from verdiff.runtime.backends.run_thread import RunThread; thread = RunThread('runs'); {ending}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
