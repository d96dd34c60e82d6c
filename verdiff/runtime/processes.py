"""A loaded model belongs to the process that loaded it: neither a fork nor a pickle makes another one.

After a fork the threads of ONNX Runtime and OpenVINO are gone, and their locks are as they were. What they loaded
cannot compute in the child, and freeing it there can hang or crash, so the child never frees it: it ends with the
process, and until it is written to it shares its memory with the parent's.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any
from weakref import WeakSet

from verdiff.errors import BackendError

IN_EACH = "load the Segmenter in each process that uses it; start processes with 'spawn'"
# Known to the whole process, since a fork is of the whole process.
_LOADED: WeakSet[Any] = WeakSet()


def never_freed_in_a_fork(loaded: Any) -> None:
    """Have a child of this process keep ``loaded`` to its end instead of freeing it."""
    _LOADED.add(loaded)


def require_process(process: int) -> None:
    """Refuse to compute in a process that was forked from the one that loaded the model.

    Raises:
        BackendError: ``process`` is not this one.
    """
    if os.getpid() != process:
        raise BackendError(
            f"a Segmenter that process {process} loaded, in process {os.getpid()}, which was forked from it",
            "the Segmenter in the process that loaded it: its threads are not in a fork",
            f"load in the worker, not before it: {IN_EACH}",
        )


def _keep() -> None:
    for loaded in list(_LOADED):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(loaded))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep)
