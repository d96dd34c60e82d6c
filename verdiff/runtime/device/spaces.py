"""The one block of memory of a Segmenter and the shapes of call that share it, under a cap."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from verdiff.errors import BudgetError
from verdiff.runtime.device.block import Block, staging_size
from verdiff.runtime.device.kernels import COUNT_LIMIT
from verdiff.runtime.device.layout import Need, layout_of
from verdiff.runtime.device.loop import Loop
from verdiff.runtime.device.workspace import Workspace

if TYPE_CHECKING:
    from verdiff.diffusion import SamplerTable
    from verdiff.runtime.device.driver import Driver, Pointer, Stream
    from verdiff.runtime.device.kernels import Kernels
    from verdiff.runtime.device.network import Networks

# Shapes whose execution contexts and graphs are kept; the one used longest ago goes first.
KEPT_SHAPES = 4
# Of the memory that is free; the rest is for the driver's graphs and for whoever shares the card.
FREE_SHARE = 0.9


class Spaces:
    """Workspaces by shape.

    Attributes:
        beside: Bytes of the blocks that sessions hold of their own, by address; they count under the limit.

    Args:
        driver: The device.
        kernels: Its compiled kernels.
        networks: The engines.
        capturing: A stream of our own.
        limit: Bytes the block and those beside it may have; None is a share of what is free when it is taken.
    """

    def __init__(
        self, driver: Driver, kernels: Kernels, networks: Networks, capturing: Stream, limit: int | None
    ) -> None:
        self._driver, self._kernels, self._networks, self._capturing = driver, kernels, networks, capturing
        self._limit = limit
        self.beside: dict[Pointer, int] = {}
        self._block: Block | None = None
        self._there: OrderedDict[Need, Workspace] = OrderedDict()
        self._loops: dict[Need, dict[tuple[bool, ...], Loop]] = {}
        self._in_use: tuple[Need, SamplerTable | None] | None = None

    def fit(self, need_of: Callable[[int], Need], batch: int, extra: int = 0) -> Need:
        """What fits under the cap: caches are given up first, then the batch is halved, down to one.

        Args:
            need_of: What a batch needs.
            batch: The one to begin with.
            extra: Bytes that will be taken beside the block.

        Raises:
            BudgetError: A batch of one slice, with nothing kept, is still too much, or more than kernels can count.
        """
        limit = self._room(extra)
        while True:
            wanted = need_of(batch)
            for need in (wanted, wanted.alone()):
                if layout_of(need).size <= limit and need.values < COUNT_LIMIT:
                    return need
            if batch == 1:
                break
            batch //= 2
        if wanted.values >= COUNT_LIMIT:
            raise BudgetError(
                f"{wanted.values} values of one slice of {wanted.rows} x {wanted.cols} pixels",
                f"fewer than {COUNT_LIMIT}, which is as far as the kernels count",
                "crop the scan",
            )
        least, beside = layout_of(wanted.alone()).size, f" and {extra / 2**20:.0f} beside it" if extra else ""
        raise BudgetError(
            f"{max(0, limit) / 2**20:.0f} MiB of device memory for slices of {wanted.rows} x {wanted.cols} pixels",
            f"about {-(-least // 2**20)} MiB{beside}, the least for one slice at a time",
            "free device memory (see nvidia-smi), raise memory_mb, ask for fewer samples or noisy steps, or crop",
        )

    def reserve(self, needs: Iterable[Need]) -> Block:
        """A block with room for any one of ``needs``: the one there is, or a larger one in its place.

        Raises:
            BudgetError: The device has not so much.
            DeviceError: The device failed.
        """
        layouts = [layout_of(need) for need in needs]
        size, staging = max(each.size for each in layouts), max(map(staging_size, layouts))
        if self._block is None or size > self._block.size or staging > self._block.staging:
            self._check_cap(size)
            # Graphs hold addresses, so none of them outlives its block.
            self.close()
            self._block = Block(self._driver, size, staging)
        return self._block

    def _check_cap(self, size: int) -> None:
        """What fitted when a session was made may fit no more beside those that came after."""
        if self._limit is not None and size > self._room(0):
            raise BudgetError(
                f"{max(0, self._room(0)) / 2**20:.1f} MiB of memory_mb left beside the sessions' arrays",
                f"{size / 2**20:.1f} MiB for this shape of call",
                "close sessions that are not needed, or raise memory_mb",
            )

    def make_room(self, extra: int) -> None:
        """Give the block back if there is no room for ``extra`` bytes beside it; the next call takes a smaller one."""
        if self._block is not None and self._block.size > self._room(extra):
            self.close()

    def ready(self, need: Need, table: SamplerTable | None) -> bool:
        """Whether there is nothing to make and nothing to upload."""
        return need in self._there and self._in_use == (need, table)

    def take(self, need: Need, noisy: tuple[bool, ...]) -> tuple[Workspace, Loop | None]:
        """The workspace of a shape and its captured loop, made if they are not there; ``noisy`` of the table's rows.

        Raises:
            BackendError: The device or a network refused; nothing is left half taken.
        """
        space = self._workspace(need)
        if not noisy:
            return space, None
        loops = self._loops.setdefault(need, {})
        if noisy not in loops:
            # Its first run writes over the block, as a new workspace does.
            self._in_use = None
            loops[noisy] = Loop(space, noisy)
        return space, loops[noisy]

    def use(self, need: Need, table: SamplerTable | None, stream: Stream) -> None:
        """The workspace's flags and its table for one call; shapes share the block, so another's may lie there."""
        space, there = self._there[need], self._in_use == (need, table)
        if not there:
            # Said before anything is written: after a failure halfway nobody's table is taken to be there.
            self._in_use = None
        space.clear_flags(stream)
        if not there:
            if table is not None:
                space.upload_table(table, stream)
            self._in_use = (need, table)

    def _workspace(self, need: Need) -> Workspace:
        if need in self._there:
            self._there.move_to_end(need)
            return self._there[need]
        block = self.reserve([need])
        while len(self._there) >= KEPT_SHAPES:
            self._close_oldest()
        # It clears its part of the block, where another shape's table may lie; the call may end before its own does.
        self._in_use = None
        made = Workspace(self._driver, self._kernels, self._networks, block, need, self._capturing)
        self._there[need] = made
        return made

    def close(self) -> None:
        """Give back graphs, networks' contexts and the block."""
        self._in_use = None
        while self._there:
            self._close_oldest()
        if self._block is not None:
            self._block.close()
            self._block = None

    def _close_oldest(self) -> None:
        """Graphs before the networks that they were captured of."""
        need, space = self._there.popitem(last=False)
        for loop in self._loops.pop(need, {}).values():
            loop.close()
        space.close()

    def _room(self, extra: int) -> int:
        """Bytes that the block may have, with ``extra`` beside it."""
        if self._limit is not None:
            return self._limit - sum(list(self.beside.values())) - extra
        free, _ = self._driver.memory()
        return int(FREE_SHARE * free) + (0 if self._block is None else self._block.size) - extra
