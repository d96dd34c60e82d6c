"""Voxels in shared memory: one anonymous block an array, handed on as a file descriptor.

A block has no name and no place in a file system. It is gone when the last process that maps it has let go, however
that process ended.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from verdiff.errors import BudgetError, ServiceError


def share(array: NDArray[Any]) -> int:
    """Copy an array into a new block; returns its file descriptor, which is the caller's to close.

    Raises:
        BudgetError: There is not so much memory.
    """
    block = _anonymous()
    try:
        if hasattr(os, "posix_fallocate"):
            # Else memory that is not there would be met as SIGBUS, in the middle of the copy.
            os.posix_fallocate(block, 0, max(1, array.nbytes))
        else:
            os.ftruncate(block, max(1, array.nbytes))
        with mmap.mmap(block, max(1, array.nbytes)) as memory:
            view = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
            view[...] = array
            del view
    except BaseException as error:
        os.close(block)
        if isinstance(error, OSError):
            raise BudgetError(
                f"no shared memory for {array.nbytes / 2**20:.0f} MiB ({error.strerror})",
                "free memory for a scan and its mask beside the model",
                "end other programs, or send a smaller scan",
            ) from error
        raise
    return block


def mapped(block: int, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """The array in a block, not copied. Its memory, and the file that Python keeps open for it, live as long as it.

    Args:
        block: A descriptor, which is closed.
        shape: Shape of the array.
        dtype: Type of its elements.

    Raises:
        ServiceError: The block is smaller than the array.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    try:
        if os.fstat(block).st_size < size:
            raise ServiceError(
                f"a block of {os.fstat(block).st_size} bytes for an array of {size}",
                "a block that holds its array",
                "use the same version of verdiff on both sides",
            )
        memory = mmap.mmap(block, max(1, size))
    finally:
        os.close(block)
    return np.frombuffer(memory, kind, math.prod(shape)).reshape(shape)


def _anonymous() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("verdiff", os.MFD_CLOEXEC)
    block, name = tempfile.mkstemp(prefix=".verdiff-")
    with suppress(OSError):
        os.unlink(name)
    return block
