"""For hosts that own a pycuda context: verdiff in that context, on that stream, its results as pycuda arrays.

pycuda cannot be installed without a compiler and CUDA's headers, cannot be imported without a driver, and has no CUDA
graphs; so verdiff is driven by cuda-core, and shares what a pycuda program has: its context, its stream, its memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.runtime.device.streams import DEFAULT_STREAM

if TYPE_CHECKING:
    from verdiff.runtime import Segmenter
    from verdiff.runtime.device.arrays import DeviceArray
    from verdiff.runtime.device.session import DeviceSession


class PycudaHost:
    """A pycuda program's context and stream.

    Args:
        context: ``pycuda.driver.Context``, for example ``pycuda.autoinit.context``.
        stream: ``pycuda.driver.Stream``; None is the default stream, as pycuda means it.
    """

    def __init__(self, context: Any, stream: Any = None) -> None:
        self._context = context
        # The object and not its address: whoever gets it keeps the stream alive.
        self._stream = DEFAULT_STREAM if stream is None else stream

    def load(self, model: str | Path | None = None, **options: Any) -> Segmenter:
        """:meth:`verdiff.runtime.Segmenter.load` in this context and on this stream.

        Raises:
            BundleError, BackendError: See there.
        """
        from verdiff.runtime import Segmenter

        with self._current():
            # The driver takes the context that is current now, and makes it current itself from then on.
            return Segmenter.load(model, stream=self._stream, **options)

    def session(
        self, segmenter: Segmenter, shape: tuple[int, int, int], spacing_mm: tuple[float, float], **options: Any
    ) -> DeviceSession:
        """:meth:`verdiff.runtime.Segmenter.on_device` on this stream; ``shape`` is slices, rows, columns.

        A ``pycuda.gpuarray.GPUArray`` of float32 can be given to :meth:`DeviceSession.segment` as it is.

        Raises:
            BackendError, BudgetError, InputError: See there.
        """
        return segmenter.on_device(*shape, spacing_mm, stream=self._stream, **options)

    def gpuarray(self, array: DeviceArray) -> Any:
        """A ``pycuda.gpuarray.GPUArray`` on the memory of ``array``, which it keeps alive; nothing is copied.

        It is ready where this host's stream is; use it there.

        Raises:
            BackendError: pycuda is not installed.
        """
        try:
            module = import_module("pycuda.gpuarray")
        except ImportError as error:
            raise BackendError(
                f"pycuda cannot be imported ({error})", "pycuda, which this host has", install("pycuda")
            ) from error
        with self._current():
            return module.GPUArray(array.shape, array.dtype, gpudata=array.pointer, base=array)

    @contextmanager
    def _current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()
