"""An onnxruntime-gpu that needs no GPU: it writes down what it is asked, in order, and computes nothing.

Device memory is numbers: a fresh address for every value, so a test can follow a buffer from the session that wrote it
to the one that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Thread, current_thread
from typing import Any

CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class Node:
    """Of a session's placement."""

    op_type: str


@dataclass(frozen=True)
class Part:
    """The nodes that one provider was given."""

    ep_name: str
    op_types: tuple[str, ...]

    def get_nodes(self) -> list[Node]:
        return [Node(op_type) for op_type in self.op_types]


@dataclass(frozen=True)
class Tensor:
    """An input or output as a session describes it."""

    name: str
    type: str = "tensor(float)"
    shape: tuple[object, ...] = ()


class SessionOptions:
    """Takes every option and keeps the configuration entries."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


class RunOptions:
    """Of one run."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_run_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


@dataclass
class FakeOnnxRuntime:
    """The module.

    Attributes:
        offered: What ``get_available_providers`` says.
        given: What a session ends up with; None is what it asked for, the CPU behind it.
        placed: Where a session's nodes go.
        refuses: Raised when a session is opened with a provider option of this name switched on.
        allows: How many sessions are opened before one is refused.
        during: Called in every run, with its configuration entries.
        threads: Which threads ran sessions.
        log: Everything that happened, in order.
    """

    offered: list[str] = field(default_factory=lambda: ["CUDAExecutionProvider", CPU])
    given: list[str] | None = None
    placed: tuple[Part, ...] = (Part("CUDAExecutionProvider", ("Conv",)), Part(CPU, ("Shape",)))
    refuses: dict[str, Exception] = field(default_factory=dict)
    allows: int = 0
    during: Callable[[dict[str, str]], None] = lambda entries: None
    threads: set[Thread] = field(default_factory=set)
    inputs: dict[bytes, tuple[Tensor, ...]] = field(default_factory=dict)
    outputs: dict[bytes, tuple[Tensor, ...]] = field(default_factory=dict)
    cuda_version: str = "13.0"
    log: list[tuple[Any, ...]] = field(default_factory=list)

    __version__ = "1.31.1"
    __spec__ = "there"
    SessionOptions = SessionOptions
    RunOptions = RunOptions

    def __post_init__(self) -> None:
        self.__file__ = str(Path("nowhere", "onnxruntime", "__init__.py"))
        self.sessions: list[Session] = []
        self.addresses = count(0x1000, 0x1000)

    def get_available_providers(self) -> list[str]:
        return self.offered

    def InferenceSession(
        self, graph: bytes, options: Any, *, providers: Sequence[Any], enable_fallback: int
    ) -> Session:
        session = Session(self, graph, options, list(providers), enable_fallback)
        for _, settings in (each for each in providers if isinstance(each, tuple)):
            for name, error in self.refuses.items():
                if settings.get(name) == "1" and len(self.sessions) >= self.allows:
                    raise error
        self.sessions.append(session)
        return session


@dataclass
class Session:
    """One graph."""

    module: FakeOnnxRuntime
    graph: bytes
    options: SessionOptions
    asked: list[Any]
    enable_fallback: int

    def get_providers(self) -> list[str]:
        names = [each if isinstance(each, str) else each[0] for each in self.asked]
        return self.module.given or [*dict.fromkeys((*names, CPU))]

    def get_provider_graph_assignment_info(self) -> list[Part]:
        return list(self.module.placed)

    def get_inputs(self) -> list[Tensor]:
        return list(self.module.inputs.get(self.graph, ()))

    def get_outputs(self) -> list[Tensor]:
        return list(self.module.outputs.get(self.graph, ()))

    def io_binding(self) -> Binding:
        return Binding(self)

    def run_with_iobinding(self, binding: Binding, run_options: RunOptions | None = None) -> None:
        entries = {} if run_options is None else dict(run_options.entries)
        self.module.threads.add(current_thread())
        self.module.during(entries)
        self.module.log.append(("run", self.graph, dict(binding.inputs), dict(binding.outputs), entries))


@dataclass
class Binding:
    """Which addresses a session reads and writes."""

    session: Session
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    def bind_input(self, name: str, device: str, number: int, kind: Any, shape: Sequence[int], address: int) -> None:
        self.inputs[name] = (device, number, kind, tuple(shape), address)

    def bind_output(self, name: str, device: str, number: int, kind: Any, shape: Sequence[int], address: int) -> None:
        self.outputs[name] = (device, number, kind, tuple(shape), address)
