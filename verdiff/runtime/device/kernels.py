"""The kernels of ``kernels.cu``, typed: what each is given, in its own order."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from verdiff.runtime.device.driver import Argument, Kernel, Pointer, Stream

if TYPE_CHECKING:
    from verdiff.diffusion.fusion import StepsVariant
    from verdiff.runtime.device.driver import Driver

NAMES = ("philox_normal", "start", "mark_non_finite", "fuse_mean", "fuse_steps", "to_model", "from_model")
# Kernels take their counts as int.
COUNT_LIMIT = 2**31


def source() -> str:
    """The CUDA C text."""
    return files("verdiff.runtime.device").joinpath("kernels.cu").read_text("utf-8")


@dataclass(frozen=True)
class Pairs:
    """Which pairs of slice and sample a batch holds: pair e is slice e % slices and sample e // slices of these.

    Attributes:
        first_slice: The slice's number in the scan.
        slices: How many slices.
        first_sample: The ensemble member's number.
        samples: How many members.
    """

    first_slice: int
    slices: int
    first_sample: int
    samples: int

    @property
    def count(self) -> int:
        """How many pairs."""
        return self.slices * self.samples


@dataclass(frozen=True)
class Grids:
    """A host's pixels and the model's: where the two weight matrices lie, and the sizes between which they resample.

    Attributes:
        rows: The matrix over rows and the ranges of its weights, two addresses.
        cols: What ``rows`` is, over columns.
        host: Rows and columns of the host's planes.
        model: Size of that field of view in the model's pixels.
        padded: The size, rounded up to the model's multiple.
    """

    rows: tuple[Pointer, Pointer]
    cols: tuple[Pointer, Pointer]
    host: tuple[int, int]
    model: tuple[int, int]
    padded: tuple[int, int]

    def arguments(self, slices: int) -> tuple[Argument, ...]:
        """The sizes, as the kernels take them."""
        return tuple(np.int32(n) for n in (slices, *self.host, *self.model, *self.padded))


@dataclass(frozen=True)
class Kernels:
    """The compiled kernels for one number of classes.

    Attributes:
        driver: The device.
        classes: Foreground channels.
    """

    driver: Driver
    classes: int
    _kernels: dict[str, Kernel] = field(init=False)

    def __post_init__(self) -> None:
        compiled = self.driver.compile(source(), NAMES, {"CLASSES": str(self.classes)})
        object.__setattr__(self, "_kernels", compiled)

    def noise(self, out: Pointer, *, seed: int, step: int, pairs: Pairs, batch: int, size: int, stream: Stream) -> None:
        """Standard normals ``out`` float32 [batch, size] of one step, see :mod:`verdiff.diffusion.noise`."""
        numbers = (pairs.first_slice, pairs.slices, pairs.first_sample, pairs.count, batch, size)
        words = (np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32), np.uint32(step))
        self._launch("philox_normal", batch * -(-size // 4), (out, *words, *map(np.int32, numbers)), stream)

    def start(self, x: Pointer, prior: Pointer, noise: Pointer, on: Pointer, count: int, stream: Stream) -> None:
        """``x`` = on[0] prior + on[1] noise, all float32 [count], ``on`` float32 [2]."""
        self._launch("start", count, (x, prior, noise, on, np.int32(count)), stream)

    def mark_non_finite(self, flag: Pointer, values: Pointer, count: int, stream: Stream) -> None:
        """``flag`` int32 [1] becomes 1 if any of ``values`` float32 [count] is NaN or infinite."""
        self._launch("mark_non_finite", count, (flag, values, np.int32(count)), stream)

    def fuse_mean(
        self,
        answer: tuple[Pointer, Pointer, Pointer],
        samples: Pointer,
        *,
        members: int,
        slices: int,
        pixels: int,
        stream: Stream,
    ) -> None:
        """``samples`` float32 [members, slices, K, pixels] -> ``answer``: probabilities, uncertainty, spread."""
        sizes = (np.int32(members), np.int32(slices), np.int32(pixels))
        self._launch("fuse_mean", slices * pixels, (*answer, samples, *sizes), stream)

    def fuse_steps(
        self,
        answer: tuple[Pointer, Pointer, Pointer],
        samples: Pointer,
        *,
        members: int,
        slices: int,
        pixels: int,
        row: int,
        rows: range,
        variant: StepsVariant,
        stream: Stream,
    ) -> None:
        """Fuse like :meth:`fuse_mean`, from ``samples``: the table's rows are ``row`` floats apart, over ``rows``."""
        sizes = (np.int32(members), np.int32(slices), np.int32(pixels), np.uint64(row))
        late = (np.int32(rows.start), np.int32(rows.stop), np.int32(variant == "published"))
        self._launch("fuse_steps", slices * pixels, (*answer, samples, *sizes, *late), stream)

    def to_model(
        self, image: Pointer, planes: Pointer, grids: Grids, bounds: tuple[float, float], slices: int, stream: Stream
    ) -> None:
        """``planes`` float32 [slices, rows, cols] of any intensity -> ``image`` [slices, 1, H, W] in [-1, 1]."""
        low, high = bounds
        window = (np.float32(low), np.float32(2.0 / (high - low)))
        arguments = (image, planes, *grids.rows, *grids.cols, *window, *grids.arguments(slices))
        self._launch("to_model", slices * grids.padded[0] * grids.padded[1], arguments, stream)

    def from_model(
        self,
        result: tuple[Pointer, Pointer, Pointer],
        fused: tuple[Pointer, Pointer],
        ids: Pointer,
        grids: Grids,
        slices: int,
        stream: Stream,
    ) -> None:
        """``fused`` probabilities and uncertainty -> ``result``: labels and the same in the host's pixels."""
        arguments = (*result, *fused, ids, *grids.rows, *grids.cols, *grids.arguments(slices))
        self._launch("from_model", slices * grids.host[0] * grids.host[1], arguments, stream)

    def _launch(self, name: str, threads: int, arguments: tuple[Argument, ...], stream: Stream) -> None:
        self.driver.launch(self._kernels[name], threads, arguments, stream)
