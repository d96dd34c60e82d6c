"""Everything for one shape of call: arrays at their addresses, and networks ready for that shape."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.runtime.device.block import Block, stage
from verdiff.runtime.device.driver import Pointer, Stream
from verdiff.runtime.device.kernels import Kernels, Pairs
from verdiff.runtime.device.layout import Need, layout_of
from verdiff.runtime.device.network import CallShape, Network, Networks

if TYPE_CHECKING:
    from verdiff.diffusion import SamplerTable
    from verdiff.runtime.device.driver import Driver


class Workspace:
    """One shape of call in a block that has room for it.

    Args:
        driver: The device.
        kernels: Its compiled kernels.
        networks: The engines.
        block: Block of device memory, at least as large as ``layout_of(need)``.
        need: The shape.
        capturing: A stream of our own: a capture cannot be made on a default stream.
    """

    def __init__(
        self, driver: Driver, kernels: Kernels, networks: Networks, block: Block, need: Need, capturing: Stream
    ) -> None:
        self.driver, self.kernels, self.need, self.capturing = driver, kernels, need, capturing
        self.layout = layout_of(need)
        self._base = block.base
        self.staged = stage(self.layout, block.pinned)
        self.features = tuple(feature.name for feature in need.features)
        self.capturable = networks.capturable
        self._networks: dict[str, Network] = {}
        shape = CallShape(need.batch, need.rows, need.cols)
        memory = (self.address("activations"), need.activations)
        with ExitStack() as undo:
            for role in networks.roles if need.steps else ("prior",):
                self._networks[role] = networks.open(role, shape, memory, capturing)
                undo.callback(self._networks[role].close)
            # Networks run once before they are captured: on numbers, not on what lay there.
            driver.clear(block.base, self.layout.size, capturing)
            driver.synchronise(capturing)
            self._release = undo.pop_all()

    def address(self, name: str, index: int = 0) -> Pointer:
        """Where entry ``index`` of the first axis of an array lies."""
        region = self.layout[name]
        return self._base + region.offset + index * region.stride

    @property
    def maps(self) -> int:
        """Values of one batch of maps, [B, K, H, W]."""
        return self.need.values

    def upload(self, name: str, stream: Stream) -> None:
        """The staged array to the device."""
        self.driver.upload(self.address(name), self.staged[name].raw, stream)

    def run_prior(self, slot: int, stream: Stream) -> None:
        """``image`` through the prior into the conditions ``slot``."""
        outputs = {name: self.address(name, slot) for name in ("prior", *self.features)}
        self._networks["prior"].enqueue({"image": self.address("image"), **outputs}, stream)
        self.kernels.mark_non_finite(self.address("flags"), outputs["prior"], self.maps, stream)

    def run_step(self, inputs: dict[str, Pointer], stream: Stream) -> None:
        """One step of the denoiser at addresses of the loop's; the conditions are those gathered."""
        conditions = {name: self.address(f"in:{name}") for name in ("prior", *self.features)}
        self._networks["step"].enqueue({**conditions, **inputs}, stream)

    def gather(self, slot: int, pairs: Pairs, stream: Stream) -> None:
        """The conditions ``slot`` in the order of a batch's pairs; places past the last pair get the first slice's."""
        for name in ("prior", *self.features):
            region = self.layout[name]
            size = region.count // self.need.batch * region.dtype.itemsize
            source, target = self.address(name, slot), self.address(f"in:{name}")
            for sample in range(pairs.samples):
                self.driver.copy(target + sample * pairs.slices * size, source, pairs.slices * size, stream)
            for place in range(pairs.count, self.need.batch):
                self.driver.copy(target + place * size, source, size, stream)

    def clear_flags(self, stream: Stream) -> None:
        """Every network call is taken to be finite until its flag says otherwise."""
        self.driver.clear(self.address("flags"), self.layout["flags"].size, stream)

    def upload_table(self, table: SamplerTable, stream: Stream) -> None:
        """The sampler's table, once for all steps: each step reads its own row and timestep where they lie."""
        for name, values in (("row", table.coefficients), ("timestep", table.timesteps[:, None]), ("on", table.start)):
            self.staged[name].values[:] = values
            self.upload(name, stream)

    def download_answer(self, slices: int, stream: Stream) -> tuple[NDArray[Any], NDArray[Any]]:
        """Probabilities and spread of ``slices`` slices in one array, and the flags, once they are here."""
        answer = self.staged["answer"].values.reshape(-1)[: slices * (self.need.classes + 1) * self.need.pixels]
        flags = self.staged["flags"].values[0]
        self.driver.download(answer, self.address("answer"), stream)
        self.driver.download(flags, self.address("flags"), stream)
        self.clear_flags(stream)
        self.driver.synchronise(stream)
        return answer, np.array(flags)

    def close(self) -> None:
        """Give back the networks; the block stays."""
        self._release.close()
