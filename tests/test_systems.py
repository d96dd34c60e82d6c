"""The registry says what is there: every system builds from its shipped configuration, with the figures it states."""

from __future__ import annotations

import pytest

from tools.system_figures import figures
from verdiff.errors import DataError
from verdiff.systems import SYSTEMS, system_named
from verdiff.train.building import build_network
from verdiff.train.config import RunConfig, load_config, shipped_configs
from verdiff.train.network_classes import settings_class


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_figures_of_a_system_are_those_of_its_shipped_configuration(name: str) -> None:
    parameters, gflop = figures(name)
    assert parameters == SYSTEMS[name].parameters
    assert gflop == pytest.approx(SYSTEMS[name].gflop, rel=0.01)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_diffusion_and_nothing_else_has_a_denoiser(name: str) -> None:
    config = load_config(SYSTEMS[name].configuration)
    assert config.system == name
    net = build_network(config, 1)
    assert (net.denoiser is not None) == SYSTEMS[name].diffusion
    assert bool(config.network.features) == SYSTEMS[name].diffusion
    assert hasattr(config.network, "patch") == (SYSTEMS[name].dimensions == 3)


def test_every_shipped_configuration_is_of_a_system_and_survives_a_round_trip() -> None:
    for name in shipped_configs():
        config = load_config(name)
        assert config.system in SYSTEMS
        assert type(config.network) is settings_class(config.system)
        assert RunConfig.from_dict(config.to_dict()) == config


def test_an_unknown_system_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(DataError, match=r"one of verdiff-net, .*safnet"):
        system_named("vnet")
    with pytest.raises(DataError, match="'vnet'"):
        RunConfig.from_dict({"system": "vnet"})


def test_settings_of_another_system_are_refused() -> None:
    with pytest.raises(DataError, match="prior_widths"):
        RunConfig.from_dict({"system": "unet", "network": {"prior_widths": [8, 16]}})
