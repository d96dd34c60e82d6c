"""What ``--set`` may name is known without the networks' packages, and is what their classes have."""

from __future__ import annotations

import dataclasses

import pytest

from verdiff.errors import DataError
from verdiff.systems import SYSTEMS, system_named
from verdiff.train.network_classes import settings_class
from verdiff.train.setting_keys import check_settings


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_keys_of_a_network_are_the_fields_of_its_class(name: str) -> None:
    configuration = system_named(name).configuration
    with pytest.raises(DataError, match="no key 'none'") as refusal:
        check_settings(["network.none=1"], configuration)
    fields = [each.name for each in dataclasses.fields(settings_class(name))]
    assert refusal.value.expected == f"one of {', '.join(fields)}"
    check_settings([f"network.{key}=1" for key in fields], configuration)
