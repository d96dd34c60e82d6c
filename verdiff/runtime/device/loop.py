"""The sampler's loop, captured twice where the networks can be: a CUDA graph a step, and all steps in one graph.

Nothing happens between two steps, since every step's inputs and outputs have their addresses from the beginning. A
step reads x from one of two buffers and writes it to the other. x0hat also has two buffers, so that a step finds the
x0hat of the step before it where that step wrote it. Each step reads its own row of the table.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from verdiff.runtime.device.block import quietly
from verdiff.runtime.device.driver import DeviceError, Graph, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from verdiff.runtime.device.workspace import Workspace


# Graphs take device memory of the driver's own for every node: a longer loop is put on the stream at every run.
MOST_CAPTURED = 256


class Loop:
    """The loop of one shape and one pattern of noise; the table's numbers may change between runs.

    Args:
        space: The shape's arrays and networks.
        noisy: Whether each row of the table takes noise.

    Raises:
        BackendError: A network cannot be captured, or the device failed; nothing is left.
    """

    def __init__(self, space: Workspace, noisy: tuple[bool, ...]) -> None:
        self._space, self.noisy = space, noisy
        self._slabs = space.layout["x0hat"].shape[0]
        # Row i draws noise map 1 + (noisy rows before it); map 0 is the start's, and serves where none is wanted.
        self._noise = [1 + sum(noisy[:row]) if wanted else 0 for row, wanted in enumerate(noisy)]
        stream = space.capturing
        # Once without a capture: libraries settle what a new shape costs in their first run.
        self._enqueue(0, stream)
        space.driver.synchronise(stream)
        with ExitStack() as undo:
            self._steps: list[Graph] = []
            self._whole: Graph | None = None
            if space.capturable and len(noisy) <= MOST_CAPTURED:
                for row in range(len(noisy)):
                    self._steps.append(self._capture(partial(self._enqueue, row, stream)))
                    undo.callback(quietly, space.driver.close_graph, self._steps[-1])
                self._whole = self._capture(partial(self._enqueue_all, stream))
                undo.callback(quietly, space.driver.close_graph, self._whole)
            self._release = undo.pop_all()

    def __len__(self) -> int:
        return len(self.noisy)

    def noises(self) -> list[tuple[int, int]]:
        """(noise map, noise step) of every map the loop reads; step 0 is the start, row i draws i + 1."""
        return [(0, 0), *((self._noise[row], row + 1) for row, wanted in enumerate(self.noisy) if wanted)]

    def run(self, stream: Stream) -> None:
        """All steps."""
        if self._whole is None:
            self._enqueue_all(stream)
        else:
            self._space.driver.launch_graph(self._whole, stream)

    def step(self, row: int, stream: Stream) -> None:
        """One step; the first one makes the start too."""
        if self._steps:
            self._space.driver.launch_graph(self._steps[row], stream)
        else:
            self._enqueue(row, stream)

    def x0hat(self, row: int) -> int:
        """Address of the x0hat of a row, until a row later overwrites it."""
        return self._space.address("x0hat", row % self._slabs)

    def close(self) -> None:
        """Destroy the graphs."""
        self._release.close()

    def _enqueue_all(self, stream: Stream) -> None:
        for row in range(len(self)):
            self._enqueue(row, stream)

    def _enqueue(self, row: int, stream: Stream) -> None:
        space = self._space
        if row == 0:
            start = space.address("x"), space.address("in:prior"), space.address("noise"), space.address("on")
            space.kernels.start(*start, space.maps, stream)
        x0hat = self.x0hat(row)
        space.run_step(
            {
                "x": space.address("x", row % 2),
                "timestep": space.address("timestep", row),
                "row": space.address("row", row),
                "noise": space.address("noise", self._noise[row]),
                # The first row gives x0hat_previous no weight: any finite map will do.
                "previous": self.x0hat(row - 1) if row else space.address("in:prior"),
                "x_next": space.address("x", (row + 1) % 2),
                "x0hat": x0hat,
            },
            stream,
        )
        space.kernels.mark_non_finite(space.address("flags") + 4 * (row + 1), x0hat, space.maps, stream)

    def _capture(self, enqueue: Callable[[], None]) -> Graph:
        driver, stream = self._space.driver, self._space.capturing
        driver.begin_capture(stream)
        try:
            enqueue()
        except BaseException:
            with suppress(DeviceError):
                driver.end_capture(stream, keep=False)
            raise
        return driver.end_capture(stream)
