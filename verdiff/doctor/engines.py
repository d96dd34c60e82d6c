"""The engines in this user's cache: which of them load on this machine, and of the others why not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from verdiff.doctor.report import BAD, GOOD, NOTE, Check, refused
from verdiff.errors import BackendError

if TYPE_CHECKING:
    from verdiff.bundle.engines import Machine, Sidecar
    from verdiff.runtime.nvidia import Driver, Gpu


def check_engines(driver: Driver | BackendError, device: str = "cuda", folder: Path | None = None) -> list[Check]:
    """A check of the cache, and of every engine in it.

    Args:
        driver: Of this machine, or why there is none.
        device: The GPU the engines are to run on; the first one for ``"cpu"``.
        folder: The cache; None is this user's.
    """
    from verdiff.bundle.engines import cache_path, find_engines, prepare_folder

    place = cache_path() if folder is None else folder
    if not place.is_dir():
        return [Check("engines", GOOD, "none in the cache")]
    try:
        prepare_folder(place)
    except BackendError as error:
        return [refused("engines", BAD, error)]
    problems: list[BackendError] = []
    there = find_engines(place, problems=problems)
    machines = _machines(driver, device)
    checks = [check_engine(sidecar, machines.get(sidecar.key.flavour)) for sidecar in there]
    checks += [refused("engine", NOTE, error) for error in problems]
    fit = sum(check.state == GOOD for check in checks)
    return [Check("engines", GOOD, f"{fit} of {len(checks)} in {place} load on this machine"), *checks]


def check_engine(sidecar: Sidecar, machine: Machine | None) -> Check:
    """One engine against the machine it would run on; None is a machine without its flavour of TensorRT."""
    from verdiff.bundle.engines import FLAVOURS, differences, driver_too_old, rebuild_command

    key = sidecar.key
    name = f"engine {key.stem}"
    flavour = FLAVOURS[key.flavour]
    if machine is None:
        remedy = f"pip install 'verdiff[{flavour.extra}]', or delete it"
        return Check(name, NOTE, f"{flavour.title} {key.trt_version} built it, and is not installed", remedy)
    reasons = differences(sidecar, machine)
    if not reasons:
        return Check(name, GOOD, f"{key.role} in {key.precision}, loads here")
    remedy = rebuild_command(sidecar, machine)
    if driver_too_old(machine) is not None:
        remedy = f"update NVIDIA's driver to one that runs CUDA {machine.cuda_version}, then {remedy}"
    elif not machine.sm:
        remedy = "nothing without an NVIDIA GPU and its driver; delete it if none will be there"
    return Check(name, NOTE, "; ".join(reasons), remedy)


def _machines(driver: Driver | BackendError, device: str) -> dict[str, Machine]:
    from verdiff.bundle.engines import FLAVOURS, find_package
    from verdiff.runtime.machine import machine_of
    from verdiff.runtime.nvidia import device_index

    parts: tuple[Driver, Gpu] | tuple[()] = ()
    index = 0 if device == "cpu" else device_index(device)
    if not isinstance(driver, BackendError) and index < len(driver.gpus):
        parts = driver, driver.gpus[index]
    packages = {name: find_package(name, lean_will_do=True) for name in FLAVOURS}
    return {name: machine_of(package, *parts) for name, package in packages.items() if package is not None}
