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

    Held around what may capture (the first runs of a binding) and around what ONNX Runtime does beside that with memory
    and modules (sessions that open or close). verdiff's own calls need no lock: its threads say that captures elsewhere
    are none of their business (:meth:`verdiff.runtime.device.cuda_core.CudaCore.active`). Hold it for one such piece of
    work: no other lock is to be taken inside, and a generator must not yield inside.

    It may be entered again by whoever holds it, also in a thread that works for the holder in a copy of its
    :mod:`contextvars` context, as :class:`~verdiff.runtime.backends.run_thread.RunThread` does: an owner by thread
    would wait for itself there. A host's own threads do not know of it.
    """
    if _HELD.get():
        yield
        return
    # Noted before it is held and until after it is not: a Segmenter that the garbage collector closes in between goes
    # on without the lock, instead of waiting for itself.
    token = _HELD.set(True)
    try:
        with _LOCK:
            yield
    finally:
        _HELD.reset(token)
