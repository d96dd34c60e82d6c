"""Whether an engine fits a machine: what an engine depends on, and in which of it the two differ."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from verdiff.engines.flavours import FLAVOURS, TENSORRT_RTX
from verdiff.engines.sidecar import RECIPE, VERSION_COMPATIBLE, Sidecar
from verdiff.errors import BackendError
from verdiff.options import BuildOptions
from verdiff.settings import words_of


@dataclass(frozen=True)
class Machine:
    """What of a machine decides which engines load on it.

    Attributes:
        flavour: ``"tensorrt"`` or ``"tensorrt_rtx"``.
        trt_version: Version of that library.
        cuda_version: Major version of the CUDA the library was built for; ``""`` if not known.
        driver_version: NVIDIA's driver; ``""`` without one.
        driver_cuda: The newest CUDA the driver runs, (major, minor); None without a driver.
        sm: Compute capability of the GPU without its dot, ``"90"``; ``""`` without one.
        gpu_name: Name that the driver gives it; ``""`` without one.
        lean: Whether the library is the lean runtime.
    """

    flavour: str
    trt_version: str
    cuda_version: str = ""
    driver_version: str = ""
    driver_cuda: tuple[int, int] | None = None
    sm: str = ""
    gpu_name: str = ""
    lean: bool = False

    def __str__(self) -> str:
        """The machine in the words of messages: ``TensorRT 10.13.0.35, SM 90 (NVIDIA H200)``."""
        gpu = f"SM {self.sm} ({self.gpu_name})" if self.sm else "no NVIDIA GPU"
        kind = "'s lean runtime" if self.lean else ""
        return f"{FLAVOURS[self.flavour].title}{kind} {self.trt_version}, {gpu}"


def differences(sidecar: Sidecar, machine: Machine) -> list[str]:
    """Every reason why an engine does not load on a machine; empty when it does."""
    key = sidecar.key
    found = []
    if key.recipe != RECIPE:
        found.append(
            f"it was built by verdiff {sidecar.verdiff} to recipe {key.recipe}, and this verdiff uses {RECIPE}"
        )
    if key.flavour != machine.flavour:
        found.append(f"it is {FLAVOURS[key.flavour].title}'s, and this machine runs {FLAVOURS[machine.flavour].title}")
        return found
    title = FLAVOURS[key.flavour].title
    # A version-compatible plan too wants the runtime of the version that built it: it carries none of its own.
    if key.trt_version != machine.trt_version:
        found.append(f"it was built by {title} {key.trt_version}, and this machine has {machine.trt_version}")
    if machine.lean and VERSION_COMPATIBLE not in key.flags:
        found.append(f"it is not version-compatible, and this machine has {title}'s lean runtime")
    if key.cuda_version and machine.cuda_version and key.cuda_version != machine.cuda_version:
        found.append(f"it was built for CUDA {key.cuda_version}, and {title} is here for CUDA {machine.cuda_version}")
    if (old := driver_too_old(machine)) is not None:
        found.append(old)
    if not machine.sm:
        found.append(f"it runs on SM {key.sm}, and this machine shows no NVIDIA GPU")
    elif not _sm_fits(key.sm, machine.sm):
        found.append(f"it was built for SM {key.sm}, and this machine's {machine.gpu_name} is SM {machine.sm}")
    elif key.gpu_name and key.gpu_name != machine.gpu_name:
        found.append(f"it was tuned for {key.gpu_name}, and this machine has {machine.gpu_name}")
    return found


def driver_too_old(machine: Machine) -> str | None:
    """What is wrong with the driver for this TensorRT, or None."""
    if machine.driver_cuda is None or not machine.cuda_version or machine.driver_cuda[0] >= int(machine.cuda_version):
        return None
    newest = ".".join(map(str, machine.driver_cuda))
    return (
        f"NVIDIA's driver {machine.driver_version or 'of unknown version'} runs CUDA up to {newest}, and this "
        f"{FLAVOURS[machine.flavour].title} needs CUDA {machine.cuda_version}"
    )


def require_match(sidecar: Sidecar, machine: Machine) -> None:
    """Refuse an engine that does not load on a machine.

    Raises:
        BackendError: Everything that differs, and the command that builds the engine for this machine.
    """
    reasons = differences(sidecar, machine)
    if not reasons:
        return
    remedy = rebuild_command(sidecar, machine)
    if driver_too_old(machine) is not None:
        remedy = f"update NVIDIA's driver to one that runs CUDA {machine.cuda_version}, then {remedy}"
    elif not machine.sm:
        remedy = "run it on a machine with an NVIDIA GPU and its driver, or use --device cpu"
    raise BackendError(
        f"the engine {sidecar.key.stem} does not load here: {'; '.join(reasons)}", f"an engine for {machine}", remedy
    )


def rebuild_command(
    sidecar: Sidecar, machine: Machine | None = None, *, sizes: bool = True, cache: Path | None = None
) -> str:
    """The command that builds a sidecar's engine again: that very engine, or its like for ``machine``.

    Args:
        sidecar: Sidecar of the engine.
        machine: Whose flavour of TensorRT and GPU to build for; None for those that it was built for.
        sizes: Whether to name the sizes that were asked for; False for a caller that adds other ones.
        cache: Where it lies, as ``--cache`` takes it; None is this user's cache.
    """
    key, words = sidecar.key, list(sidecar.arguments)
    for option in (*(() if sizes else ("--size",)), *(() if machine is None else ("--device",))):
        while option in words:
            at = words.index(option)
            del words[at : at + 2]
    flavour = key.flavour if machine is None else machine.flavour
    words += ["--flavour", FLAVOURS[flavour].option]
    # A machine without this GPU, and TensorRT-RTX on one with another, would build for other ones by themselves.
    if machine is None and flavour == TENSORRT_RTX.name and re.fullmatch(r"\d+(,\d+)*", key.sm):
        words += [word for sm in key.sm.split(",") for word in ("--sm", sm)]
    words += [] if cache is None else ["--cache", str(cache)]
    return shlex.join(["verdiff", "build", *words])


def build_arguments(options: BuildOptions) -> tuple[str, ...]:
    """The words after ``verdiff build`` that make one engine, whose model and role are named."""
    return (str(options.model), *words_of(options, always=("precision",)))


def _sm_fits(target: str, sm: str) -> bool:
    if target.endswith("+"):
        return int(sm) >= int(target.removesuffix("+"))
    return sm in target.split(",")
