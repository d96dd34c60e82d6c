"""TensorRT's Python module, typed: imported once a process with one logger, whoever builds or runs.

Here is also everything in which flavours and versions differ for a build. The same calls build with ``tensorrt`` 10.13
to 11 and with ``tensorrt_rtx``: what was removed in 11 (precision flags, precisions of layers) is not used, and strong
typing, which 11 always has, is asked for by the flag that 11 ignores.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

from verdiff.engines.flavours import FLAVOURS, TENSORRT_RTX, Flavour, Package
from verdiff.engines.sidecar import VERSION_COMPATIBLE
from verdiff.errors import BackendError
from verdiff.extras import install

if TYPE_CHECKING:
    import tensorrt as trt

ERROR, VERBOSE = 1, 4
# A long-running host hears a few; a build says some hundreds, and its figures come last.
MESSAGES_KEPT, ERRORS_TOLD = 4096, 4
STRONGLY_TYPED = "STRONGLY_TYPED"
# What to do about something that no TensorRT was seen to do.
REPORT = "report this message with the versions that 'verdiff doctor' shows"

NUMPY_NAMES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


def numpy_name(kind: trt.DataType) -> str:
    """TensorRT's type in numpy's words: ``"float32"``."""
    return NUMPY_NAMES.get(kind.name, kind.name.lower())


class TensorRt(Protocol):
    """What is used of TensorRT's module; ``tensorrt-stubs`` say what each of these is."""

    @property
    def Builder(self) -> type[trt.Builder]: ...
    @property
    def BuilderFlag(self) -> type[trt.BuilderFlag]: ...
    @property
    def HardwareCompatibilityLevel(self) -> type[trt.HardwareCompatibilityLevel]: ...
    @property
    def ILogger(self) -> type[trt.ILogger]: ...
    @property
    def IProgressMonitor(self) -> type[trt.IProgressMonitor]: ...
    @property
    def LayerInformationFormat(self) -> type[trt.LayerInformationFormat]: ...
    @property
    def LayerType(self) -> type[trt.LayerType]: ...
    @property
    def MemoryPoolType(self) -> type[trt.MemoryPoolType]: ...
    @property
    def NetworkDefinitionCreationFlag(self) -> type[trt.NetworkDefinitionCreationFlag]: ...
    @property
    def OnnxParser(self) -> type[trt.OnnxParser]: ...
    @property
    def ProfilingVerbosity(self) -> type[trt.ProfilingVerbosity]: ...
    @property
    def Runtime(self) -> type[trt.Runtime]: ...
    @property
    def TensorIOMode(self) -> type[trt.TensorIOMode]: ...


if TYPE_CHECKING:
    _module: TensorRt = trt


@dataclass
class Messages:
    """What TensorRT said lately, as (severity, text); 0 and 1 are errors."""

    kept: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=MESSAGES_KEPT))

    def errors(self) -> list[str]:
        """Texts of a build's errors, without those that only say that there is no GPU."""
        return [text for severity, text in self.kept if severity <= ERROR and "cudaError" not in text]

    def take_reason(self) -> str:
        """The last errors in one line, or that there are none; all messages are forgotten after it."""
        errors = [text.strip() for severity, text in self.kept if severity <= ERROR]
        self.kept.clear()
        return "; ".join(errors[-ERRORS_TOLD:]) or "no reason given"

    def numbers(self, pattern: str) -> list[int]:
        """Every number that follows ``pattern``, in the order they were said."""
        return [int(number) for _, text in self.kept for number in re.findall(pattern + r"\s*(\d+)", text)]


@dataclass(frozen=True)
class Library:
    """One flavour, imported.

    Attributes:
        flavour: Which one.
        package: How it is installed.
        version: All four parts.
        api: Its module.
        logger: The one logger that TensorRT keeps a process; it must not be collected.
        messages: What the logger hears.
    """

    flavour: Flavour
    package: Package
    version: str
    api: TensorRt
    logger: trt.ILogger
    messages: Messages
    _building: threading.Lock = field(default_factory=threading.Lock)

    @property
    def title(self) -> str:
        """Name with the version, for messages."""
        return f"{self.flavour.title} {self.version}"

    @property
    def is_rtx(self) -> bool:
        """Whether it compiles ahead for a list of SMs, without a GPU, and finishes on the device."""
        return self.flavour is TENSORRT_RTX

    @contextmanager
    def listening(self) -> Iterator[Messages]:
        """One build of this process at a time, with what TensorRT says during it and nothing older."""
        with self._building:
            self.messages.kept.clear()
            yield self.messages

    def sms(self) -> tuple[str, ...]:
        """The compute capabilities it builds for without a GPU, ascending; none for TensorRT, which needs the GPU."""
        return supported_sms(self.flavour, self.api)

    def network_flags(self) -> int:
        """Flags of ``create_network``: types in the graph decide the precision, never a flag."""
        flag = getattr(self.api.NetworkDefinitionCreationFlag, STRONGLY_TYPED, None)
        return 0 if flag is None else 1 << int(flag)

    def check_flags(self, flags: tuple[str, ...]) -> None:
        """Refuse compatibility options that this flavour does not have.

        Raises:
            BackendError: Naming what to do instead.
        """
        if not flags or not self.is_rtx:
            return
        remedy = (
            "leave the option out: build again after updating TensorRT-RTX, or use --flavour tensorrt"
            if VERSION_COMPATIBLE in flags
            else "leave the option out: name the GPUs with --sm, for example --sm 86 --sm 89"
        )
        raise BackendError(
            f"--{flags[0] if VERSION_COMPATIBLE not in flags else VERSION_COMPATIBLE} with {self.title}",
            "an option that it has: its engines load in their own version only, on every SM they were built for",
            remedy,
        )

    def target(self, config: trt.IBuilderConfig, sms: tuple[str, ...]) -> None:
        """Have TensorRT-RTX compile for these compute capabilities; TensorRT builds for the GPU at hand.

        Raises:
            BackendError: One that it cannot build for.
        """
        if not self.is_rtx:
            return
        supported = self.sms()
        unknown = [sm for sm in sms if sm not in supported]
        if unknown:
            raise BackendError(
                f"SM {unknown[0]} with {self.title}",
                f"one of SM {', '.join(supported)}",
                "name one of these with --sm, or build with --flavour tensorrt on that GPU",
            )
        # Not in TensorRT's own stubs: only TensorRT-RTX has it.
        rtx, capability = cast(Any, config), cast(Any, self.api).ComputeCapability
        rtx.num_compute_capabilities = len(sms)
        for index, sm in enumerate(sms):
            rtx.set_compute_capability(getattr(capability, f"SM{sm}"), index)

    def require_capturable(self, config: trt.IBuilderConfig) -> None:
        """Have TensorRT-RTX build an engine that allocates nothing while it runs, or refuse the graph now.

        Without it, one whose tensors outgrow a limit of its own allocates in a run, and cannot be captured.
        """
        if self.is_rtx:
            config.set_flag(cast(Any, self.api.BuilderFlag).REQUIRE_USER_ALLOCATION)

    def monitor(
        self,
        started: Callable[[str, str | None, int], None],
        stepped: Callable[[str, int], bool],
        finished: Callable[[str], None],
    ) -> trt.IProgressMonitor:
        """A progress monitor made of three functions; ``stepped`` returns whether to go on."""
        methods = {
            "phase_start": lambda self, name, parent, steps: started(name, parent, steps),
            "step_complete": lambda self, name, step: stepped(name, step),
            "phase_finish": lambda self, name: finished(name),
        }
        return cast("trt.IProgressMonitor", type("Monitor", (self.api.IProgressMonitor,), methods)())


def supported_sms(flavour: Flavour, module: object) -> tuple[str, ...]:
    """The compute capabilities that TensorRT-RTX is for, ascending; none for TensorRT, which is for whatever is there.

    Args:
        flavour: Which of them ``module`` is.
        module: Its imported Python module.
    """
    names = getattr(getattr(module, "ComputeCapability", None), "__members__", ())
    if flavour is not TENSORRT_RTX:
        return ()
    return tuple(sorted((name.removeprefix("SM") for name in names if name.startswith("SM")), key=int))


def load_library(package: Package) -> Library:
    """Import an installed TensorRT. Ask for the driver first: without one that fits, an import may end the process.

    Raises:
        BackendError: Its libraries cannot be loaded.
    """
    try:
        return _started(package, import_module(package.module))
    except (ImportError, OSError) as error:
        raise cannot_load(package, str(error)) from error


def cannot_load(package: Package, reason: str) -> BackendError:
    """The error for a TensorRT that is installed and does not start."""
    flavour = FLAVOURS[package.flavour]
    return BackendError(
        f"{flavour.title} {package.version} cannot be loaded ({reason})",
        "its Python package with its libraries, and a driver that works",
        f"{install(flavour.extra, flags='--force-reinstall')}; then 'verdiff doctor'",
    )


@cache
def _started(package: Package, module: ModuleType) -> Library:
    """Once a process, since TensorRT keeps the first logger that it is given for as long."""
    api, messages = cast(TensorRt, module), Messages()

    def log(_: object, severity: Any, text: str) -> None:
        if int(severity) < VERBOSE:
            messages.kept.append((int(severity), text))

    logger = type("Logger", (api.ILogger,), {"log": log})()
    version = str(getattr(module, "__version__", package.version))
    return Library(FLAVOURS[package.flavour], package, version, api, cast("trt.ILogger", logger), messages)
