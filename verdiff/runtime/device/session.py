"""Slices that are on the device already, to labels that stay there: for hosts that draw or navigate with them.

A session takes and gives arrays in the host's own pixels, since those are what it has and what it lays the labels over;
normalising, resampling to the model's grid and back happen on the device, as :mod:`verdiff.imaging` does them.
"""

from __future__ import annotations

import weakref
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BackendError, InputError
from verdiff.imaging import Geometry, IntensityRule, plan_slices
from verdiff.runtime.answer import chunks_of
from verdiff.runtime.device.arrays import DeviceArray, given_array
from verdiff.runtime.device.block import Block, quietly
from verdiff.runtime.device.driver import DeviceError, Event, Pointer, Stream
from verdiff.runtime.device.grids import grid_tables, grids, offsets
from verdiff.runtime.device.layout import aligned
from verdiff.runtime.device.runner import DeviceRunner, Slot, check_finite

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.imaging import SlicePlan
    from verdiff.runtime.device.backend import DeviceBackend
    from verdiff.runtime.device.driver import Driver
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
        spacing_mm: Of the pixels: from row to row, from column to column.
        stream: Where the work is put; None is the backend's.

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
    ) -> None:
        self._backend, self._sampling, self._shape = backend, sampling, shape
        self._rule = IntensityRule.from_dict(manifest.intensity)
        self._stream = stream = backend.stream if stream is None else stream
        self._plan = plan = _plan(manifest, shape, spacing_mm)
        tables = grid_tables(plan, np.array([0, *manifest.label_ids.values()], np.uint8))
        self._places, size = offsets(tables)
        pixels = shape[0] * shape[1] * shape[2]
        for name, nbytes in (
            ("labels", pixels),
            ("probabilities", 4 * pixels * backend.classes),
            ("uncertainty", 4 * pixels),
        ):
            self._places[name], size = size, size + aligned(nbytes)
        driver = backend.driver
        with backend.call(stream) as runner, backend.working(), ExitStack() as undo:
            _, largest = backend.networks.batches(plan.padded_rows, plan.padded_cols)
            self._need = backend.spaces.fit(
                partial(runner.need_at, plan.padded_rows, plan.padded_cols, sampling),
                min(largest, shape[0] * max(1, sampling.samples)),
            )
            runner.open(self._need, sampling)
            # The flags of a call come back where the tables are uploaded from.
            flags = 4 * (1 + self._need.steps)
            self._block = Block(driver, size, max(flags, *(values.nbytes for values in tables.values())))
            undo.callback(self._block.close)
            for name, values in tables.items():
                staged = self._block.pinned[: values.nbytes]
                staged[:] = np.ascontiguousarray(values).view(np.uint8).ravel()
                driver.upload(self._address(name), staged, stream)
                driver.synchronise(stream)
            self._ready: Event = driver.open_event()
            undo.callback(quietly, driver.close_event, self._ready)
            self._given: Event = driver.open_event()
            undo.callback(quietly, driver.close_event, self._given)
            driver.record(self._ready, stream)
            undo.pop_all()
        self._flags: NDArray[np.int32] = self._block.pinned[:flags].view(np.int32)
        self._flags[:] = 0
        self.close = weakref.finalize(self, _close, driver, self._block, self._ready, self._given)

    def segment(self, slices: Any, bounds: tuple[float, float] | None = None, *, first_slice: int = 0) -> DeviceAnswer:
        """Put one call on the session's stream and return at once.

        Args:
            slices: float32 [slices, rows, cols] on the device, raw intensities in the model's view (docs/gpu.md): an
                array of CuPy, PyTorch, Numba, JAX or pycuda, unchanged until the stream has come past this call.
            bounds: The intensities that become -1 and 1; None for a model whose rule is a fixed window.
            first_slice: Number of the first slice in the scan; noise belongs to a slice's number.

        Raises:
            InputError: The array has another shape, type, layout or device, or bounds are missing.
            BackendError: The device refused or was lost, or this session was closed.
        """
        backend, driver, stream = self._backend, self._backend.driver, self._stream
        self._check_open()
        window = self._window(bounds)
        with backend.call(stream) as runner:
            given = given_array(slices, self._shape, driver.gpu.index, stream)
            runner.open(self._need, self._sampling)
            with backend.working():
                if given.stream is not None:
                    self._order(given.stream, stream, self._given)
                for chunk in chunks_of(self._shape[0], self._need.batch):
                    self._enqueue(runner, given.pointer, window, chunk, first_slice)
                driver.download(self._flags, runner.space.address("flags"), stream)
                driver.record(self._ready, stream)
        return self._answer()

    def wait(self) -> None:
        """See :meth:`DeviceAnswer.wait`."""
        self._check_open()
        with self._backend.working():
            self._backend.driver.finish(self._ready)
        check_finite(self._flags, self._sampling, self._backend)

    def __enter__(self) -> DeviceSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enqueue(
        self, runner: DeviceRunner, source: Pointer, window: tuple[float, float], chunk: slice, first_slice: int
    ) -> None:
        """One chunk of slices: to the model's grid, prior, loops, fusion, and back to the host's pixels."""
        space, count = runner.space, chunk.stop - chunk.start
        _, rows, cols = self._shape
        plane, slot = rows * cols * chunk.start, Slot(0, count)
        kernels, base = space.kernels, self._block.base
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
            self._address("labels") + plane,
            self._address("probabilities") + 4 * plane * self._backend.classes,
            self._address("uncertainty") + 4 * plane,
        )
        from_model = grids(self._plan, base, self._places, "from")
        kernels.from_model(result, runner.answer(count)[:2], self._address("ids"), from_model, count, self._stream)

    def _answer(self) -> DeviceAnswer:
        slices, rows, cols = self._shape
        float32, uint8 = np.dtype(np.float32), np.dtype(np.uint8)
        return DeviceAnswer(
            self._array("labels", (slices, rows, cols), uint8),
            self._array("probabilities", (slices, self._backend.classes, rows, cols), float32),
            self._array("uncertainty", (slices, rows, cols), float32),
            self,
        )

    def _array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        ordinal = self._backend.driver.gpu.index
        return DeviceArray(self._address(name), shape, dtype, ordinal, self._stream, self._hold_back, self)

    def _address(self, name: str) -> Pointer:
        return self._block.base + self._places[name]

    def _hold_back(self, consumer: Stream) -> None:
        """Make a consumer's stream wait for the last call."""
        with self._backend.working():
            if consumer != self._stream:
                self._backend.driver.wait(consumer, self._ready)

    def _order(self, earlier: Stream, later: Stream, event: Event) -> None:
        if earlier != later:
            self._backend.driver.record(event, earlier)
            self._backend.driver.wait(later, event)

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

    def _check_open(self) -> None:
        if not self.close.alive:
            raise BackendError("a session that was closed", "an open one", "make another with Segmenter.on_device")


def _plan(manifest: Manifest, shape: tuple[int, int, int], spacing_mm: tuple[float, float]) -> SlicePlan:
    """The grids of slices that come in the model's view already."""
    if min(shape) < 1 or not all(0 < pitch < float("inf") for pitch in spacing_mm):
        raise InputError(
            f"{shape[0]} slices of {shape[1]} x {shape[2]} pixels of {spacing_mm} mm",
            "at least one slice of one pixel, and a positive spacing in mm",
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


def _close(driver: Driver, block: Block, ready: Event, given: Event) -> None:
    with ExitStack() as undo:
        with suppress(DeviceError):
            undo.enter_context(driver.active())
        undo.callback(block.close)
        for event in (given, ready):
            undo.callback(quietly, driver.close_event, event)
        undo.callback(quietly, driver.finish, ready)
