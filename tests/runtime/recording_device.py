"""ONNX Runtime's networks on a device that writes everything down, in the module's own log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import local
from typing import Any

import onnxruntime

from tests.runtime.fake_onnxruntime import FakeOnnxRuntime, Tensor
from tests.runtime.tiny_bundle import denoiser_graph, prior_graph
from verdiff.bundle import open_bundle
from verdiff.diffusion.step_graph import step_graph
from verdiff.nvidia import Gpu
from verdiff.runtime.backends.onnxruntime_cuda import OnnxNetworks
from verdiff.runtime.device.network import CallShape

CALLERS = 7
SHAPE = CallShape(2, 8, 12)


class RecordingDriver:
    """A device's streams and events, in the module's own log."""

    gpu = Gpu(1, "NVIDIA H200", "90", 1 << 37, 1 << 36)
    is_primary = True

    def __init__(self, log: list[tuple[Any, ...]]) -> None:
        self.log, self.numbers, self.held = log, count(100), set[int]()
        self.priority: int | None = None
        self.current = local()

    @contextmanager
    def active(self, *, relaxed: bool = False) -> Iterator[None]:
        self.current.context = True
        try:
            yield
        finally:
            self.current.context = False

    def open_stream(self, priority: int | None) -> int:
        self.priority = priority
        return self._take()

    def open_event(self) -> int:
        return self._take()

    def close_stream(self, stream: int) -> None:
        self.held.remove(stream)

    def close_event(self, event: int) -> None:
        self.held.remove(event)

    def record(self, event: int, stream: int) -> None:
        self.log.append(("record", event, stream))

    def wait(self, stream: int, event: int) -> None:
        self.log.append(("wait", stream, event))

    def _take(self) -> int:
        taken = next(self.numbers)
        self.held.add(taken)
        return taken


def described(session: onnxruntime.InferenceSession) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """What the real onnxruntime says of a graph."""
    return (
        tuple(Tensor(each.name, each.type) for each in session.get_inputs()),
        tuple(Tensor(each.name, each.type) for each in session.get_outputs()),
    )


def fake_module() -> FakeOnnxRuntime:
    """A module that knows the inputs and outputs of the tiny bundle's graphs."""
    made = FakeOnnxRuntime()
    for graph in (prior_graph(), step_graph(denoiser_graph())):
        real = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        made.inputs[graph], made.outputs[graph] = described(real)
    return made


def load(path: Path, module: FakeOnnxRuntime, **options: Any) -> tuple[OnnxNetworks, RecordingDriver]:
    driver = RecordingDriver(module.log)
    settings = {"backend": "onnxruntime", "precision": "fp32", "threads": 1, **options}
    return OnnxNetworks(open_bundle(path), driver, **settings), driver  # type: ignore[arg-type]


def step_addresses(number: int) -> dict[str, int]:
    """Of step ``number``: x and x0hat change places, row, timestep and noise move on, the conditions stay."""
    there = {"prior": 10, "feature_0": 11, "row": 100 + number, "timestep": 200 + number, "noise": 300 + number}
    here, other = number % 2, (number + 1) % 2
    return {**there, "x": 20 + here, "x_next": 20 + other, "x0hat": 30 + here, "previous": 30 + other}


def run_prior(networks: OnnxNetworks) -> None:
    networks.open("prior", SHAPE, (0, 0), CALLERS).enqueue({"image": 1, "prior": 10, "feature_0": 11}, CALLERS)


def runs(module: FakeOnnxRuntime) -> list[tuple[Any, ...]]:
    return [entry for entry in module.log if entry[0] == "run"]
