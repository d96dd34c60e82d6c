"""One table of a configuration: what it may hold, and the message about what it may not."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import Any

import pytest

from verdiff.errors import DataError, VerdiffError
from verdiff.settings import Bounds
from verdiff.train.config import AugmentConfig, RunConfig, TrainingConfig, load_config, shipped_configs

TABLES = ("data", "network", "process", "sampling", "augment", "training", "distillation")
ODD = ("0", "-1", "[]", "[0]", "[1]", "1", "'x'", "[1.5]", "nan", "inf", "true", "[16, 0]", "[0, 0, 0]", "1e300")


@pytest.mark.parametrize(
    ("bounds", "within", "beyond", "words"),
    [
        (Bounds(1), (1, 1e9), (0, 0.999, float("inf"), float("nan")), "1 or more"),
        (Bounds(0, 1), (0, 0.5, 1), (-1e-9, 1.001), "from 0 to 1"),
        (Bounds(0, above=True), (1e-9,), (0, -1), "above 0"),
        (Bounds(0, 1, above=True), (1e-9, 1), (0, 1.1), "above 0 to 1"),
    ],
)
def test_limits_hold_at_their_ends_and_say_so(bounds: Bounds, within: Any, beyond: Any, words: str) -> None:
    assert all(bounds.allow(value) for value in within)
    assert not any(bounds.allow(value) for value in beyond)
    assert str(bounds) == words


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.batch=0", r"batch = 0.*1 or more.*\[training\]"),
        ("training.clip=0", r"clip = 0.*above 0.*\[training\]"),
        ("training.crop=[100, 96]", r"crop = \[100, 96\].*multiples of 16.*\[training\]"),
        ("training.crop=[16, 32]", r"crop = \[16, 32\].*at least twice that"),
        ("training.crop=[32]", r"crop = \[32\].*rows and columns"),
        ("training.crop=32", r"crop = 32.*tuple"),
        ("training.crop=[32.5, 32]", r"crop = \[32.5, 32\].*tuple"),
        ("augment.zoom=0.5", r"zoom = 0.5.*1 or more.*\[augment\]"),
        ("data.spacing_mm=-1", r"spacing_mm = -1.*above 0.*\[data\]"),
        ("network.widths=[32, 64, 0, 256, 512]", r"widths = \[32, 64, 0, 256, 512\].*each 1 or more.*\[network\]"),
        ("network.widths=[]", r"widths = \[\]"),
    ],
)
def test_a_setting_outside_its_limits_is_named(setting: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"(?s){message}"):
        load_config("unet", [setting])


def test_none_has_no_limits_and_python_is_told_as_a_file_is() -> None:
    assert TrainingConfig(minutes=None, patience=None).minutes is None
    with pytest.raises(DataError, match="patience = 0"):
        TrainingConfig(patience=0)
    with pytest.raises(DataError, match=r"shift = 1\.5"):
        dataclasses.replace(AugmentConfig(), shift=1.5)
    with pytest.raises(DataError, match=r"prior_widths = \[16, 0\]"):
        RunConfig(network=dataclasses.replace(RunConfig().network, prior_widths=(16, 0), denoiser_widths=(16,)))


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_whatever_a_key_is_set_to_the_answer_is_a_configuration_or_a_message(name: str) -> None:
    shipped = load_config(name)
    for table in TABLES:
        for key in (field.name for field in dataclasses.fields(getattr(shipped, table))):
            for odd in ODD:
                with suppress(VerdiffError):
                    load_config(name, [f"{table}.{key}={odd}"])
