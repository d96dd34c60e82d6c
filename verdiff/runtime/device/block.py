"""The memory of one Segmenter: a block of the device and its page-locked counterpart, taken and given back together."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BudgetError
from verdiff.runtime.device.driver import DeviceError, Pointer
from verdiff.runtime.device.layout import Layout, aligned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from verdiff.runtime.device.driver import Driver

# What goes to the device and comes back; everything else never leaves it.
STAGED = ("image", "answer", "flags", "row", "timestep", "on")


def quietly(release: Callable[..., None], *arguments: Any) -> None:
    """Give something back; a device that is lost has nothing left to give, and the rest must still be given back."""
    with suppress(DeviceError):
        release(*arguments)


@dataclass(frozen=True)
class Staged:
    """One array in page-locked memory: ``values`` as numpy sees it, ``raw`` all its bytes for one copy."""

    values: NDArray[Any]
    raw: NDArray[np.uint8]


class Block:
    """``size`` bytes of the device and ``staging`` bytes of page-locked memory.

    Raises:
        BudgetError: There is not so much of one of them; nothing is left taken.
        DeviceError: The device failed; nothing is left taken.
    """

    def __init__(self, driver: Driver, size: int, staging: int) -> None:
        self.size, self.staging = size, staging
        with ExitStack() as undo:
            with _counted(size, "device memory"):
                self.base: Pointer = driver.allocate(size)
            undo.callback(quietly, driver.free, self.base)
            with _counted(staging, "page-locked host memory"):
                self.pinned: NDArray[np.uint8] = driver.allocate_pinned(staging)
            undo.callback(quietly, driver.free_pinned, self.pinned)
            self._release = undo.pop_all()

    def close(self) -> None:
        """Give both back."""
        self._release.close()


@contextmanager
def _counted(size: int, what: str) -> Iterator[None]:
    """Too little memory is a matter of the caller's budget, whoever finds it out."""
    try:
        yield
    except DeviceError as error:
        if error.code != "CUDA_ERROR_OUT_OF_MEMORY":
            raise
        raise BudgetError(
            f"no {size / 2**20:.1f} MiB of {what} ({error.found})", error.expected, error.remedy
        ) from error


def staging_size(layout: Layout) -> int:
    """Bytes of page-locked memory that ``layout`` needs."""
    return sum(aligned(layout[name].size) for name in STAGED if name in layout.regions)


def stage(layout: Layout, pinned: NDArray[np.uint8]) -> dict[str, Staged]:
    """The page-locked counterpart of each staged array, laid out as on the device."""
    staged, end = {}, 0
    for name in STAGED:
        if name in layout.regions:
            region = layout[name]
            inner = np.empty(region.shape[1:], region.dtype).strides
            values = np.ndarray(region.shape, region.dtype, pinned.data, end, (region.stride, *inner))
            staged[name] = Staged(values, pinned[end : end + region.size])
            end += aligned(region.size)
    return staged
