"""Stand-in networks on a real device, and a driver that writes down what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from tests.runtime.tiny_bundle import tiny_manifest
from verdiff.runtime import Segmenter
from verdiff.runtime.device.backend import DeviceBackend
from verdiff.runtime.device.driver import Driver
from verdiff.runtime.device.executor import DeviceExecutor
from verdiff.runtime.device.layout import DeviceFeature
from verdiff.runtime.device.network import CallShape
from verdiff.runtime.loaded import LoadedModel

SOURCE = Path(__file__).with_suffix(".cu").read_text("utf-8")
CLASSES = 3
ORDER = {
    "prior": ("prior", "feature_0", "image"),
    "step": ("x_next", "x0hat", "x", "timestep", "prior", "feature_0", "row", "noise", "previous"),
}
NEVER = -1.0


class CountingDriver:
    """A driver, and the names of the calls made to it."""

    def __init__(self, driver: Driver) -> None:
        self._driver, self.names = driver, []  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._driver, name)
        if name in ("gpu", "active") or not callable(found):
            return found

        @wraps(found)
        def counted(*arguments: Any, **options: Any) -> Any:
            self.names.append(name)
            return found(*arguments, **options)

        return counted


@dataclass
class StandInNetwork:
    """One role at one shape."""

    networks: StandInNetworks
    role: str
    shape: CallShape

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        shape = self.shape
        sizes = tuple(np.int32(n) for n in (shape.batch, shape.rows, shape.cols))
        spoiled = (np.float32(self.networks.spoiled),) if self.role == "step" else ()
        threads = shape.batch * shape.rows * shape.cols * (CLASSES if self.role == "step" else 1)
        arguments = (*(addresses[name] for name in ORDER[self.role]), *spoiled, *sizes)
        self.networks.driver.launch(self.networks.kernels[f"tiny_{self.role}"], threads, arguments, stream)

    def close(self) -> None:
        pass


@dataclass
class StandInNetworks:
    """The tiny model's networks as two kernels."""

    driver: Any
    batch: int = 4
    spoiled: float = NEVER
    roles: tuple[str, ...] = ("prior", "step")
    sizes: tuple[tuple[int, int], ...] = ()
    name: str = "stand-in"
    version: str = "1.0"
    precision: str = "fp32"
    capturable: bool = True
    features: tuple[DeviceFeature, ...] = (DeviceFeature("feature_0", 1, 1, np.dtype(np.float32)),)
    kernels: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        with self.driver.active():
            self.kernels = self.driver.compile(SOURCE, ("tiny_prior", "tiny_step"), {})

    def batches(self, rows: int, cols: int) -> tuple[int, int]:
        return self.batch, 8 * self.batch

    def activations(self, shape: CallShape) -> int:
        return 1

    def open(self, role: str, shape: CallShape, memory: tuple[int, int], stream: int) -> StandInNetwork:
        return StandInNetwork(self, role, shape)

    def close(self) -> None:
        pass


def stand_in_segmenter(
    driver: Any, *, batch: int = 4, spoiled: float = NEVER, stream: int | None = None, priority: int | None = None
) -> Segmenter:
    """The tiny model on a device."""
    networks = StandInNetworks(driver, batch, spoiled)
    backend = DeviceBackend(driver, networks, CLASSES, stream=stream, priority=priority)
    manifest = tiny_manifest()
    identity = {"id": manifest.model_id, "version": "0.0.0"}
    return Segmenter(LoadedModel(manifest, DeviceExecutor(backend), True, identity))
