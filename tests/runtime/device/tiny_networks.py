"""The tiny model's networks on the null device, the sampler's update in the step as an engine has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.runtime.device.null_driver import NullDriver
from tests.runtime.tiny_bundle import SINGLE_PASS, NumpyBackend, tiny_manifest
from verdiff.errors import BackendError
from verdiff.runtime import Segmenter
from verdiff.runtime.device.backend import DeviceBackend
from verdiff.runtime.device.executor import DeviceExecutor
from verdiff.runtime.device.layout import DeviceFeature
from verdiff.runtime.device.network import CallShape
from verdiff.runtime.loaded import LoadedModel

CLASSES = 3
ACTIVATIONS = 1024


@dataclass
class TinyNetwork:
    """One role at one shape."""

    networks: TinyNetworks
    role: str
    shape: CallShape
    closed: bool = False

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        wanted = {
            "prior": {"image", "prior"},
            "step": {"x", "timestep", "prior", "row", "noise", "previous", "x_next", "x0hat"},
        }[self.role] | {feature.name for feature in self.networks.features}
        assert set(addresses) == wanted and not self.closed
        assert all(address % 256 == 0 for address in addresses.values()), "TensorRT takes aligned addresses only"
        given = dict(addresses)
        self.networks.driver.enqueue(self.role, stream, lambda: getattr(self, f"_{self.role}")(given))

    def close(self) -> None:
        self.closed = True
        self.networks.open_now -= 1

    def _view(self, at: Mapping[str, int], name: str, *shape: int, dtype: Any = np.float32) -> np.ndarray:
        return self.networks.driver.view(at[name], dtype, shape)

    def _prior(self, at: Mapping[str, int]) -> None:
        batch, rows, cols = self.shape.batch, self.shape.rows, self.shape.cols
        prior, (feature,) = self.networks.numpy.prior(self._view(at, "image", batch, 1, rows, cols))
        self._view(at, "prior", batch, CLASSES, rows, cols)[:] = prior
        if self.networks.features:
            self._view(at, "feature_0", batch, 1, rows, cols, dtype=self.networks.half)[:] = feature

    def _step(self, at: Mapping[str, int]) -> None:
        maps = (self.shape.batch, CLASSES, self.shape.rows, self.shape.cols)
        x, f, z, previous = (self._view(at, name, *maps) for name in ("x", "prior", "noise", "previous"))
        feature = self._view(at, "feature_0", maps[0], 1, *maps[2:], dtype=self.networks.half).astype(np.float32)
        timestep = self._view(at, "timestep", maps[0])
        assert (timestep == timestep[0]).all()
        x0hat = self.networks.numpy.denoise(x, int(timestep[0]), f, (feature,))
        if self.networks.spoiled_timestep == timestep[0]:
            x0hat[0, 0, 0, 0] = np.nan
        a, b, c, d, e = self._view(at, "row", 5)
        self._view(at, "x_next", *maps)[:] = a * x + b * x0hat + c * f + d * z + e * previous
        self._view(at, "x0hat", *maps)[:] = x0hat


@dataclass
class TinyNetworks:
    """Stand-in engines; ``half`` is the type of the feature between the two. Of a model of one pass the prior alone."""

    driver: NullDriver
    batch: int = 4
    half: Any = np.float32
    largest: int = 1 << 20
    spoiled_timestep: int | None = None
    roles: tuple[str, ...] = ("prior", "step")
    sizes: tuple[tuple[int, int], ...] = ()
    name: str = "stand-in"
    version: str = "1.0"
    precision: str = "fp32"
    capturable: bool = True
    numpy: NumpyBackend = field(default_factory=NumpyBackend)
    open_now: int = 0
    closed: bool = False

    @property
    def features(self) -> tuple[DeviceFeature, ...]:
        return (DeviceFeature("feature_0", 1, 1, np.dtype(self.half)),) if "step" in self.roles else ()

    def batches(self, rows: int, cols: int) -> tuple[int, int]:
        if rows * cols > self.largest:
            raise BackendError(f"slices of {rows} x {cols} pixels", "smaller ones", "verdiff build --size")
        return self.batch, 2 * self.batch

    def activations(self, shape: CallShape) -> int:
        return ACTIVATIONS * shape.batch

    def open(self, role: str, shape: CallShape, memory: tuple[int, int], stream: int) -> TinyNetwork:
        assert memory[1] == ACTIVATIONS * shape.batch
        self.open_now += 1
        return TinyNetwork(self, role, shape)

    def close(self) -> None:
        self.closed = True


def device_segmenter(
    driver: NullDriver | None = None, *, chunk: int | None = None, limit: int | None = None, **networks: Any
) -> Segmenter:
    """The tiny model on the null device."""
    driver = driver or NullDriver()
    backend = DeviceBackend(driver, TinyNetworks(driver, **networks), CLASSES, limit=limit)
    diffusion = "step" in backend.networks.roles
    manifest = tiny_manifest(**({} if diffusion else SINGLE_PASS))
    identity = {"id": manifest.model_id, "version": "0.0.0"}
    return Segmenter(LoadedModel(manifest, DeviceExecutor(backend), diffusion, identity, chunk=chunk))
