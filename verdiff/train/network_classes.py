"""From a system's name to its classes: the network, and the settings in the configuration's ``[network]`` table."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.systems import System, system_named

OPTIONAL = ("monai", "transformers")


def settings_class(name: str) -> type:
    """The dataclass of the ``[network]`` table of the system ``name``."""
    system = system_named(name)
    kind: type = getattr(_module(system), system.config)
    return kind


def network_class(name: str) -> Any:
    """The class of the network of the system ``name``; it takes the number of structures and the settings."""
    system = system_named(name)
    return getattr(_module(system), system.network)


def missing_package(name: str, error: ModuleNotFoundError) -> Exception:
    """What to raise for a package that the system ``name`` is made of; any other import error is raised as it is."""
    if error.name is None or error.name.split(".")[0] not in OPTIONAL:
        return error
    return BackendError(
        f"no package {error.name}, which the system {name} is made of",
        "the extra 'comparators'",
        install("train,comparators"),
    )


def _module(system: System) -> ModuleType:
    try:
        return import_module(f"verdiff.train.networks.{system.module}")
    except ModuleNotFoundError as error:
        raise missing_package(system.name, error) from error
