"""One lock of the process: nobody takes device memory while ONNX Runtime writes a CUDA graph down.

ONNX Runtime captures in CUDA's global mode (``cudaStreamCaptureModeGlobal``; up to 1.31 there is no option). In that
mode a call that may synchronise (``cudaMalloc``, ``cudaFree``, loading a module, a copy that waits) fails with error
900 in *every* thread of the process, and may spoil the capture as well. The device path's own captures are of the
thread-local mode and need no lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

_LOCK = Lock()
_HELD: ContextVar[bool] = ContextVar("verdiff_capture_lock_held", default=False)


@contextmanager
def capture_lock() -> Iterator[None]:
    """Hold the process's lock against captures in global mode.

    To be held around what may capture (the first runs of a binding), and around whatever takes or gives back device or
    page-locked memory, loads modules or opens sessions beside it. Hold it for one such piece of work: no other lock is
    to be taken inside, and a generator must not yield inside.

    It may be entered again by whoever holds it, also in a thread that works for the holder in a copy of its
    :mod:`contextvars` context, as :class:`~verdiff.runtime.backends.run_thread.RunThread` does: an owner by thread
    would wait for itself there. A host's own threads do not know of it.
    """
    if _HELD.get():
        yield
        return
    with _LOCK:
        token = _HELD.set(True)
        try:
            yield
        finally:
            _HELD.reset(token)
