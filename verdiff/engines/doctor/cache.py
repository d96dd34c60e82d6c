"""The engines in this user's cache: which of them load on this machine, and of the others why not."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from verdiff.doctor.report import BAD, GOOD, NOTE, Check, refused
from verdiff.engines import (
    FLAVOURS,
    Sidecar,
    cache_path,
    differences,
    engine_path,
    find_engines,
    prepare_folder,
    read_plan,
    rebuild_command,
)
from verdiff.engines.doctor.installed import Installed
from verdiff.errors import BackendError, VerdiffError
from verdiff.extras import install
from verdiff.nvidia import Gpu, InstalledDriver, device_index

# Of plans that are hashed, newest first: a third of a second on a processor without instructions for SHA-256.
HASHED_BYTES = 128 << 20
NAME_A_CACHE = "check its permissions, or name another folder in VERDIFF_CACHE"


@dataclass(frozen=True)
class Cache:
    """What was found in the cache.

    Attributes:
        checks: Checks of the cache, and of every engine in it.
        loading: The engines that load.
    """

    checks: list[Check]
    loading: list[Sidecar] = field(default_factory=list)


def check_engines(
    driver: InstalledDriver | BackendError,
    there: Mapping[str, Installed],
    device: str = "cpu",
    folder: Path | None = None,
) -> Cache:
    """Look through the cache.

    Args:
        driver: Driver of this machine, or why there is none.
        there: The flavours of TensorRT that are installed.
        device: The GPU the engines are to run on; any of them for ``"cpu"``.
        folder: The cache; None is this user's.
    """
    try:
        place = cache_path() if folder is None else folder
    except VerdiffError as error:
        # This user has no home folder.
        return Cache([refused("engines", NOTE if device == "cpu" else BAD, error)])
    try:
        # Asked of the system itself: what looks for files takes a folder that may not be read for an empty one.
        os.listdir(place)
        prepare_folder(place)
    except FileNotFoundError:
        return Cache([Check("engines", GOOD, "none in the cache")])
    except VerdiffError as error:
        return Cache([refused("engines", BAD, error)])
    except NotADirectoryError as error:
        remedy = "remove what is in its place, or name another folder in VERDIFF_CACHE"
        return Cache([Check("engines", BAD, f"the cache {place} cannot be one ({error.strerror})", remedy)])
    except OSError as error:
        found = f"the cache {place} cannot be read ({error.strerror or error})"
        return Cache([Check("engines", BAD, found, NAME_A_CACHE)])
    problems: list[BackendError] = []
    sidecars = find_engines(place, problems=problems)
    gpus, left = _gpus(driver, device), HASHED_BYTES
    checks, loading = [], []
    for sidecar in sidecars:
        check = check_engine(sidecar, there.get(sidecar.key.flavour), driver, gpus)
        if check.state == GOOD and sidecar.plan_bytes <= left:
            left -= sidecar.plan_bytes
            check = _hashed(check, sidecar, place)
        elif check.state == GOOD:
            unread = f"its bytes were not checked, since no more than {HASHED_BYTES >> 20} MiB of plans are"
            check = Check(check.name, GOOD, f"{check.found}; {unread}")
        checks.append(check)
        loading += [sidecar] if check.state == GOOD else []
    checks += [refused("engine", NOTE, error) for error in problems]
    found = f"{len(loading)} of {len(checks)} in {place} load on this machine"
    return Cache([Check("engines", GOOD, found), *checks], loading)


def check_engine(
    sidecar: Sidecar, installed: Installed | None, driver: InstalledDriver | BackendError, gpus: Sequence[Gpu | None]
) -> Check:
    """One engine against the GPUs that it might run on, the first of which it is built again for.

    Args:
        sidecar: The engine's.
        installed: Its flavour of TensorRT, if it is.
        driver: Driver of this machine, or why there is none.
        gpus: GPUs, at least one; None is a machine that shows none.
    """
    key = sidecar.key
    name, flavour = f"engine {key.stem}", FLAVOURS[key.flavour]
    if installed is None:
        remedy = f"{install(flavour.extra)}; or delete it"
        return Check(name, NOTE, f"{flavour.title} {key.trt_version} built it, and is not installed", remedy)
    machines = [installed.machine(driver, gpu) for gpu in gpus]
    if (reason := installed.unfit(machines[0])) is not None:
        # What is left to mend once its library runs here.
        others = (
            differences(sidecar, replace(machines[0], driver_cuda=None)) if installed.runs_on(machines[0].sm) else []
        )
        build = f", then {rebuild_command(sidecar, machines[0])}" if others and gpus[0] is not None else ""
        return Check(name, NOTE, "; ".join([f"{flavour.title} {reason[0]}", *others]), reason[1] + build)
    for gpu, machine in zip(gpus, machines, strict=True):
        if not differences(sidecar, machine):
            where = "here" if gpu is None or gpu is gpus[0] else f"on cuda:{gpu.index}"
            return Check(name, GOOD, f"{key.role} in {key.precision}, loads {where}")
    found = "; ".join(differences(sidecar, machines[0]))
    if gpus[0] is None:
        return Check(name, NOTE, found, "nothing without an NVIDIA GPU and its driver; delete it if none will be there")
    return Check(name, NOTE, found, build_steps(rebuild_command(sidecar, machines[0]), installed, gpus[0]))


def build_steps(command: str, installed: Installed, gpu: Gpu) -> str:
    """A ``verdiff build``, for that GPU, and what it wants first."""
    device = f" --device cuda:{gpu.index}" if gpu.index else ""
    # The lean runtime builds nothing.
    first = f"{install(installed.flavour.extra)}, then " if installed.package.lean else ""
    return f"{first}{command}{device}"


def _hashed(check: Check, sidecar: Sidecar, folder: Path) -> Check:
    """The check of an engine that would load, once the bytes of its plan were read."""
    try:
        read_plan(engine_path(sidecar.key, folder), sidecar)
    except BackendError as error:
        return refused(check.name, NOTE, error)
    return check


def _gpus(driver: InstalledDriver | BackendError, device: str) -> Sequence[Gpu | None]:
    if isinstance(driver, BackendError):
        return (None,)
    index = None if device == "cpu" else device_index(device)
    return driver.gpus if index is None or index >= len(driver.gpus) else (driver.gpus[index],)
