"""From a system's name to its classes: the network, and the table of its settings."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.systems import System, system_named

if TYPE_CHECKING:
    from verdiff.train.config import RunConfig
    from verdiff.train.networks.model import SegmentationModel

OPTIONAL = ("monai", "transformers")


def settings_class(name: str) -> type:
    """The dataclass of the system's ``[network]`` table."""
    system = system_named(name)
    kind: type = getattr(_module(system), system.config)
    return kind


def build_network(config: RunConfig, classes: int) -> SegmentationModel:
    """The network that ``config`` describes, with random weights.

    Raises:
        BackendError: A library that the network is made of is not installed.
    """
    system = system_named(config.system)
    kind: Any = getattr(_module(system), system.network)
    try:
        network: SegmentationModel = kind(classes, config.network)
    except ModuleNotFoundError as error:
        raise _missing(system, error) from error
    return network


def _module(system: System) -> Any:
    try:
        return import_module(f"verdiff.train.networks.{system.module}")
    except ModuleNotFoundError as error:
        raise _missing(system, error) from error


def _missing(system: System, error: ModuleNotFoundError) -> Exception:
    if error.name is None or error.name.split(".")[0] not in OPTIONAL:
        return error
    return BackendError(
        f"no package {error.name}, which the system {system.name} is made of",
        "the extra 'comparators'",
        install("train,comparators"),
    )
