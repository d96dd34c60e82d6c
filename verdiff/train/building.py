"""A network with random weights, as a configuration describes it."""

from __future__ import annotations

from typing import Any

from verdiff.train.config import RunConfig
from verdiff.train.network_classes import missing_package, network_class
from verdiff.train.networks.model import SegmentationModel


def build_network(config: RunConfig, classes: int) -> SegmentationModel:
    """The network that ``config`` describes, with random weights.

    Args:
        config: The system and the settings of its network.
        classes: K, the structures that it tells from the background.

    Raises:
        BackendError: A library that the network is made of is not installed.
    """
    kind: Any = network_class(config.system)
    try:
        network: SegmentationModel = kind(classes, config.network)
    except ModuleNotFoundError as error:
        raise missing_package(config.system, error) from error
    return network
