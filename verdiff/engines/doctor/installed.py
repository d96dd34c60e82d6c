"""TensorRT's two flavours: which is installed, whether it would run engines here, and what mends one that would not."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from verdiff.doctor.gpu import gpu_package
from verdiff.doctor.report import GOOD, NOTE, Check, first_line, version_of
from verdiff.engines import FLAVOURS, TENSORRT, Flavour, Machine, Package, driver_too_old, find_package
from verdiff.engines.here import machine_of
from verdiff.engines.library import supported_sms
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.runtime.libraries import missing_libraries, needed_libraries

if TYPE_CHECKING:
    from verdiff.nvidia import Gpu, InstalledDriver

# Stands in sentences where a driver's version would.
UNKNOWN = "(version unknown)"
LEAN = ("tensorrt_lean", "tensorrt_lean_cu13_bindings", "tensorrt_lean_cu12_bindings")


@dataclass(frozen=True)
class Installed:
    """A flavour that is installed.

    Attributes:
        package: How.
        missing: Libraries that its bindings are linked with and that cannot be loaded.
        refusal: Why its Python package cannot be imported; ``""`` where it can, or was not asked to.
        sms: The compute capabilities it runs on; empty for any, and where its package was not imported.
    """

    package: Package
    missing: tuple[str, ...] = ()
    refusal: str = ""
    sms: tuple[str, ...] = ()

    @property
    def flavour(self) -> Flavour:
        """Which one."""
        return FLAVOURS[self.package.flavour]

    @property
    def described(self) -> str:
        """Its version, and the CUDA it was built for."""
        found = f"{self.package.version or 'version unknown'}{' (lean runtime only)' if self.package.lean else ''}"
        return found + (f" for CUDA {self.package.cuda}" if self.package.cuda else "")

    def machine(self, driver: InstalledDriver | BackendError, gpu: Gpu | None) -> Machine:
        """This machine as its engines see it."""
        if isinstance(driver, BackendError):
            return machine_of(self.package)
        return machine_of(self.package, replace(driver, version=driver.version or UNKNOWN), gpu)

    def runs_on(self, sm: str) -> bool:
        """Whether it is for GPUs of that compute capability, as far as is known; ``""`` is no GPU."""
        return not self.sms or not sm or sm in self.sms

    def unfit(self, machine: Machine) -> tuple[str, str] | None:
        """Why it runs no engine at all on a machine with a driver, and what mends that; None where it does."""
        if self.missing:
            remedy = f"{install(self.flavour.extra)}, which brings its libraries beside the bindings"
            return f"cannot load: {', '.join(self.missing)} not found", remedy
        if self.refusal:
            return (
                f"cannot be imported: {self.refusal}",
                install(self.flavour.extra, flags="--force-reinstall"),
            )
        if (old := driver_too_old(machine)) is not None:
            return (
                f"does not run on this driver: {old}",
                f"update NVIDIA's driver to one that runs CUDA {self.package.cuda}",
            )
        if not self.runs_on(machine.sm):
            found = f"does not run on {machine.gpu_name}, SM {machine.sm}; it runs on SM {', '.join(self.sms)}"
            return found, f"use another way on this GPU: {gpu_package('tensorrt')}"
        return None


def find_tensorrt(driver: InstalledDriver | BackendError, device: str = "cpu") -> dict[str, Installed]:
    """The flavours that are installed, by name.

    A device that is named is reason enough to import them, which tells whether they can be and for which SMs they are;
    but not on a driver that is too old, where they may end the process.
    """
    found = {}
    for name in FLAVOURS:
        package = find_package(name, lean_will_do=True)
        if package is None:
            continue
        installed = Installed(package, missing_of(package.module))
        asked = device != "cpu" and not isinstance(driver, BackendError)
        if asked and installed.unfit(installed.machine(driver, None)) is None:
            try:
                installed = replace(installed, sms=sms_of(package))
            except BackendError as error:
                installed = replace(installed, refusal=error.found)
        found[name] = installed
    return found


def check_tensorrt(driver: InstalledDriver | BackendError, there: Mapping[str, Installed]) -> list[Check]:
    """Each flavour: its version, whether its libraries load, whether the driver is new enough."""
    checks = []
    for name, flavour in FLAVOURS.items():
        installed = there.get(name)
        if installed is None:
            remedy = f"if it is wanted: {install(flavour.extra)}"
            checks.append(Check(flavour.title, NOTE, "not installed", remedy))
            continue
        reason = installed.unfit(installed.machine(driver, None))
        if reason is not None:
            checks.append(Check(flavour.title, NOTE, f"{installed.described}: {reason[0]}", reason[1]))
        elif isinstance(driver, BackendError):
            found = f"{installed.described}; without a driver it builds engines at most and runs none"
            checks.append(Check(flavour.title, GOOD, found))
        else:
            checks.append(Check(flavour.title, GOOD, installed.described))
        lean = next((version for each in LEAN if (version := version_of(each))), None)
        if name == TENSORRT.name and not installed.package.lean and lean:
            checks.append(Check("TensorRT lean", GOOD, f"{lean}, for version-compatible engines"))
    return checks


def sms_of(package: Package) -> tuple[str, ...]:
    """The compute capabilities that an installed TensorRT is for; empty for any. Its module is imported.

    Raises:
        BackendError: It cannot be.
    """
    try:
        module = import_module(package.module)
    except Exception as error:
        # Whatever bindings raise as they load, the report must go on and say it.
        raise BackendError(first_line(error), f"the package {package.module}", "install it again") from error
    return supported_sms(FLAVOURS[package.flavour], module)


def missing_of(module: str) -> tuple[str, ...]:
    """Libraries that the bindings of a TensorRT are linked with and that are not there; nothing is imported."""
    if sys.platform != "linux":
        return ()
    names: dict[str, None] = {}
    # Of pip's packages the one that is imported holds no more than Python; its bindings are another one.
    for spec in (find_spec(module), find_spec(f"{module}_bindings")):
        # A folder of type stubs alone is found too, as a namespace without a file of its own.
        folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
        for plugin in sorted(folder.glob("*.so")) if folder is not None else ():
            try:
                names |= dict.fromkeys(needed_libraries(plugin))
            except OSError:
                names[str(plugin)] = None
    return missing_libraries(names)
