"""Slices that are on the device already, to labels that stay there: for hosts that draw or navigate with them.

A session takes and gives arrays in the host's own pixels, since those are what it has and what it lays the labels over;
normalising, resampling to the model's grid and back happen on the device, as :mod:`verdiff.imaging` does them.
"""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BackendError, InputError
from verdiff.imaging import Geometry, plan_slices
from verdiff.runtime.answer import chunks_of
from verdiff.runtime.device.arrays import DeviceArray, given_array
from verdiff.runtime.device.driver import Pointer, Stream
from verdiff.runtime.device.grids import Tables, grid_tables, grids, offsets
from verdiff.runtime.device.holding import Holding
from verdiff.runtime.device.kernels import COUNT_LIMIT
from verdiff.runtime.device.layout import aligned
from verdiff.runtime.device.runner import DeviceRunner, Slot, check_finite, open_runner

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.imaging import SlicePlan
    from verdiff.runtime.device.backend import DeviceBackend
    from verdiff.runtime.sampling import Sampling


@dataclass(frozen=True)
class DeviceAnswer:
    """Arrays on the device in the host's pixels, ready on the session's stream, valid until the session's next call.

    Attributes:
        labels: uint8 [slices, rows, cols], ids of the model's table.
        probabilities: float32 [slices, K, rows, cols] in [0, 1].
        uncertainty: float32 [slices, rows, cols] in [0, 1].
    """

    labels: DeviceArray
    probabilities: DeviceArray
    uncertainty: DeviceArray
    _session: DeviceSession = field(repr=False)

    def wait(self) -> None:
        """Hold the host back until the arrays are ready.

        Raises:
            BackendError: A network gave a number that is not finite, or the device was lost.
        """
        self._session.wait()


class DeviceSession:
    """One shape of slices on a device; everything it needs is taken when it is made.

    Args:
        backend: The model on its device.
        manifest: The model's.
        sampling: Table, samples, seed and fusion.
        shape: Slices, rows and columns of a call.
        spacing_mm: Spacing of the pixels: from row to row, from column to column.
        stream: Where the work is put; None is the backend's.
        keep: Object that keeps that stream alive, such as its library's object.

    Raises:
        BackendError: No engine holds slices of this size.
        BudgetError: There is too little device memory.
    """

    def __init__(
        self,
        backend: DeviceBackend,
        manifest: Manifest,
        sampling: Sampling,
        shape: tuple[int, int, int],
        spacing_mm: tuple[float, float],
        stream: Stream | None = None,
        keep: object = None,
    ) -> None:
        keep = backend.keep if stream is None else keep
        self._backend, self._sampling, self._shape = backend, sampling, shape
        self._rule = manifest.intensity
        self._stream = stream = backend.stream if stream is None else stream
        self._plan = plan = _plan(manifest, shape, spacing_mm)
        tables = grid_tables(plan, manifest.mask_ids)
        self._places, size = offsets(tables)
        pixels = shape[0] * shape[1] * shape[2]
        for name, nbytes in (
            ("labels", pixels),
            ("probabilities", 4 * pixels * backend.classes),
            ("uncertainty", 4 * pixels),
        ):
            self._places[name], size = size, size + aligned(nbytes)
        with open_runner(backend, stream) as runner, backend.working():
            _, largest = backend.networks.batches(plan.padded_rows, plan.padded_cols)
            self._need = backend.spaces.fit(
                partial(runner.need_at, plan.padded_rows, plan.padded_cols, sampling),
                min(largest, shape[0] * max(1, sampling.samples)),
                size,
            )
            backend.settle()
            backend.spaces.make_room(size)
            runner.open(self._need, sampling)
            # The flags of a call come back where the tables are uploaded from.
            flags = 4 * (1 + self._need.steps)
            staging = max(flags, *(values.nbytes for values in tables.values()))
            self._holding: Holding | None = Holding(backend, size, staging, stream, keep)
            with ExitStack() as undo:
                undo.callback(self._holding.release)
                self._upload(self._holding, tables)
                undo.pop_all()
        self._flags = slice(0, flags)
        self._holding.block.pinned[self._flags] = 0
        self._leave = weakref.finalize(self, self._holding.leave)

    def segment(self, slices: Any, bounds: tuple[float, float] | None = None, *, first_slice: int = 0) -> DeviceAnswer:
        """Put one call on the session's stream and return at once.

        Args:
            slices: float32 [slices, rows, cols] on the device, raw intensities in the model's view (docs/gpu.md): an
                array of CuPy, PyTorch, Numba, JAX or pycuda, unchanged until the stream has come past this call; it is
                kept alive until then.
            bounds: The intensities that become -1 and 1; None for a model whose rule is a fixed window.
            first_slice: Number of the first slice in the scan; noise belongs to a slice's number.

        Raises:
            InputError: The array has another shape, type, layout or device, or bounds are missing.
            BackendError: The device refused or was lost, or this session was closed.
        """
        backend, driver, stream = self._backend, self._backend.driver, self._stream
        self._open()
        window = self._window(bounds)
        if not 0 <= first_slice <= COUNT_LIMIT - self._shape[0]:
            raise InputError(
                f"first_slice = {first_slice}", f"0 to {COUNT_LIMIT - self._shape[0]}", "number the slices from 0"
            )
        with open_runner(backend, stream) as runner:
            holding = self._open()
            given = given_array(slices, self._shape, driver, stream)
            runner.open(self._need, self._sampling)
            with backend.working():
                if given.stream is not None and given.stream != stream:
                    driver.record(holding.given, given.stream)
                    driver.wait(stream, holding.given)
                for chunk in chunks_of(self._shape[0], self._need.batch):
                    self._enqueue(runner, holding, given.pointer, window, chunk, first_slice)
                driver.download(self._found(holding), runner.space.address("flags"), stream)
                driver.record(holding.ready, stream)
                holding.inputs.add(given, stream)
        return self._answer(holding)

    def wait(self) -> None:
        """See :meth:`DeviceAnswer.wait`."""
        holding = self._open()
        with self._backend.working():
            self._backend.driver.finish(holding.ready)
            holding.inputs.sweep()
        check_finite(self._found(holding), self._sampling, self._backend)

    def close(self) -> None:
        """Wait for the work and leave the memory to the arrays that lie in it; the last of them gives it back."""
        with self._backend.alone():
            self._leave()
            self._holding = None

    def __enter__(self) -> DeviceSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _upload(self, holding: Holding, tables: Tables) -> None:
        """The tables, one after the other through the page-locked memory."""
        driver = self._backend.driver
        for name, values in tables.items():
            staged = holding.block.pinned[: values.nbytes]
            staged[:] = np.ascontiguousarray(values).view(np.uint8).ravel()
            driver.upload(self._address(holding, name), staged, self._stream)
            driver.synchronise(self._stream)
        driver.record(holding.ready, self._stream)

    def _enqueue(
        self,
        runner: DeviceRunner,
        holding: Holding,
        source: Pointer,
        window: tuple[float, float],
        chunk: slice,
        first_slice: int,
    ) -> None:
        """One chunk of slices: to the model's grid, prior, loops, fusion, and back to the host's pixels."""
        space, count = runner.space, chunk.stop - chunk.start
        _, rows, cols = self._shape
        plane, slot = rows * cols * chunk.start, Slot(0, count)
        kernels, base = space.kernels, holding.block.base
        to_model = grids(self._plan, base, self._places, "to")
        kernels.to_model(space.address("image"), source + 4 * plane, to_model, window, count, self._stream)
        space.run_prior(0, self._stream)
        if self._sampling.table is None:
            runner.enqueue_prior_answer(slot)
        else:
            for pairs in runner.groups(first_slice + chunk.start, count, range(self._sampling.samples)):
                runner.enqueue_inputs(slot, pairs)
                runner.enqueue_loop()
                runner.enqueue_keeping(slot, pairs, self._need.steps)
            runner.enqueue_fusion(slot, self._sampling.samples, self._need.steps)
        result = (
            self._address(holding, "labels") + plane,
            self._address(holding, "probabilities") + 4 * plane * self._backend.classes,
            self._address(holding, "uncertainty") + 4 * plane,
        )
        from_model = grids(self._plan, base, self._places, "from")
        ids = self._address(holding, "ids")
        kernels.from_model(result, runner.answer(count)[:2], ids, from_model, count, self._stream)

    def _answer(self, holding: Holding) -> DeviceAnswer:
        slices, rows, cols = self._shape
        float32, uint8 = np.dtype(np.float32), np.dtype(np.uint8)
        return DeviceAnswer(
            self._array(holding, "labels", (slices, rows, cols), uint8),
            self._array(holding, "probabilities", (slices, self._backend.classes, rows, cols), float32),
            self._array(holding, "uncertainty", (slices, rows, cols), float32),
            self,
        )

    def _array(self, holding: Holding, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        return DeviceArray(self._address(holding, name), shape, dtype, self._backend.driver.gpu.index, holding)

    def _address(self, holding: Holding, name: str) -> Pointer:
        return holding.block.base + self._places[name]

    def _found(self, holding: Holding) -> NDArray[np.int32]:
        """The flags of the last call, in page-locked memory."""
        flags: NDArray[np.int32] = holding.block.pinned[self._flags].view(np.int32)
        return flags

    def _window(self, bounds: tuple[float, float] | None) -> tuple[float, float]:
        if bounds is None and self._rule.kind == "window":
            return float(self._rule.low), float(self._rule.high)
        if bounds is None or not bounds[0] < bounds[1]:
            raise InputError(
                f"bounds {bounds}",
                "the intensities that become -1 and 1, the lower one first: this model takes them from the whole scan",
                "compute verdiff.imaging.intensity_bounds once a scan and pass them",
            )
        return bounds

    def _open(self) -> Holding:
        if self._holding is None:
            raise BackendError("a session that was closed", "an open one", "make another with Segmenter.on_device")
        return self._holding


def _plan(manifest: Manifest, shape: tuple[int, int, int], spacing_mm: tuple[float, float]) -> SlicePlan:
    """The grids of slices that come in the model's view already."""
    if (
        min(shape) < 1
        or shape[1] * shape[2] >= COUNT_LIMIT
        or not all(0 < pitch < float("inf") for pitch in spacing_mm)
    ):
        raise InputError(
            f"{shape[0]} slices of {shape[1]} x {shape[2]} pixels of {spacing_mm} mm",
            f"at least one slice of one pixel, fewer than {COUNT_LIMIT} pixels a slice, and a positive spacing in mm",
            "give the shape and the spacing of the slices on the device",
        )
    slices, rows, cols = shape
    identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    geometry = Geometry((cols, rows, slices), (spacing_mm[1], spacing_mm[0], 1.0), (0.0, 0.0, 0.0), identity)
    plan = plan_slices(geometry, view="film", spacing_mm=manifest.spacing_mm, multiple=manifest.multiple)
    if plan.padded_rows * plan.padded_cols > manifest.max_pixels:
        raise InputError(
            f"slices of {plan.padded_rows} x {plan.padded_cols} pixels at {manifest.spacing_mm:g} mm",
            f"at most {manifest.max_pixels} pixels",
            "crop the slices",
        )
    return plan
