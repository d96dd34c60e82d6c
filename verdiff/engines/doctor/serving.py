"""Whether a TensorRT has what it takes to run a model on the GPU that was named: every engine of it, loading."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress

from verdiff.bundle import DEFAULT_MODEL, Bundle, open_bundle, resolve_model, shipped_models
from verdiff.doctor.report import BAD, GOOD, Check
from verdiff.engines import Sidecar, engine_roles, stored_hash
from verdiff.engines.doctor.cache import build_steps
from verdiff.engines.doctor.installed import Installed
from verdiff.errors import VerdiffError
from verdiff.nvidia import Gpu, InstalledDriver


def check_way(
    name: str, installed: Installed, driver: InstalledDriver, gpu: Gpu, loading: Sequence[Sidecar], model: str | None
) -> Check:
    """One flavour of TensorRT as a way to run a model on a GPU.

    Args:
        name: The device's, in the report.
        installed: The flavour.
        driver: Driver of this machine.
        gpu: The device.
        loading: The engines that load on it.
        model: A shipped model's name or a bundle's path; None is any.
    """
    way, title = f"{name} {installed.flavour.option}", installed.flavour.title
    if (reason := installed.unfit(installed.machine(driver, gpu))) is not None:
        return Check(way, BAD, f"{title} {reason[0]}", reason[1])
    if (served := served_model(installed, loading, model)) is not None:
        return Check(way, GOOD, f"every engine of {served} is there, for --backend {installed.flavour.option}")
    found = f"{f'not every engine of {model}' if model else 'of no model every engine'} is there and loads"
    return Check(way, BAD, found, build_steps(build_command(installed, model), installed, gpu))


def served_model(installed: Installed, loading: Sequence[Sidecar], model: str | None) -> str | None:
    """A model and precision all of whose engines of that flavour load, in words; None where there is none.

    Args:
        installed: The flavour.
        loading: The engines that load.
        model: A shipped model's name or a bundle's path; None is the shipped ones and those the engines were built of.
    """
    engines = [each for each in loading if each.key.flavour == installed.package.flavour]
    built_of = [each.arguments[0] for each in engines if each.arguments]
    names = [model] if model is not None else [*shipped_models(), *built_of]
    for name in dict.fromkeys(names) if engines else ():
        # Bundles that cannot be opened are no business of this line.
        with suppress(VerdiffError, OSError, RuntimeError):
            bundle = open_bundle(resolve_model(name))
            if (precision := _served(bundle, engines)) is not None:
                return f"{name} in {precision}"
    return None


def build_command(installed: Installed, model: str | None) -> str:
    """The ``verdiff build`` that makes every engine of a model in its first precision."""
    return shlex.join(["verdiff", "build", model or DEFAULT_MODEL, "--flavour", installed.flavour.option])


def _served(bundle: Bundle, engines: Sequence[Sidecar]) -> str | None:
    there = {(each.key.role, each.key.precision, each.key.graph_sha256) for each in engines}
    for precision in bundle.precisions("prior"):
        hashes = [(role, precision, stored_hash(bundle, role, precision)) for role in engine_roles(bundle)]
        if there.issuperset(hashes):
            return precision
    return None
