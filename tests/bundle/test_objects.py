"""Models that sample nothing and models that take volumes: what their manifests must say, and what they must not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.bundle.factory import make_defaults, make_manifest
from tests.runtime.tiny_bundle import SINGLE_PASS
from verdiff.bundle import Manifest, graph_name
from verdiff.errors import BundleError

VOLUME = {"patch": [8, 32, 16], "spacing_mm": [4, 1.5, 1.5], "overlap": 0.5}


def volume_manifest(**overrides: Any) -> Manifest:
    """A valid manifest of a model that takes volumes."""
    return make_manifest(**{**SINGLE_PASS, "volume": VOLUME, "schema_version": 2, **overrides})


def test_a_model_that_takes_volumes_survives_writing_and_reading() -> None:
    manifest = volume_manifest()
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert json.loads(manifest.to_json())["volume"] == {**VOLUME, "crop": 1.0, "window_mb": None}


def test_a_single_pass_model_of_slices_keeps_the_first_schema() -> None:
    manifest = make_manifest(**SINGLE_PASS)
    assert json.loads(manifest.to_json())["schema_version"] == 1
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"defaults": make_defaults(1, 0)}, r"defaults\.steps"),
        ({"defaults": make_defaults(0, 1)}, r"defaults\.samples"),
        ({"process": {"name": "ddpm"}}, "process"),
        ({"features": make_manifest().features}, "features"),
        ({"files": {graph_name("denoiser"): "0" * 64}}, "denoiser"),
    ],
)
def test_a_model_without_a_table_cannot_sample(overrides: dict[str, Any], key: str) -> None:
    with pytest.raises(BundleError, match=key):
        make_manifest(**{**SINGLE_PASS, **overrides})


@pytest.mark.parametrize("defaults", [(0, 1), (2, 0)])
def test_a_model_with_a_table_samples(defaults: tuple[int, int]) -> None:
    with pytest.raises(BundleError, match=r"defaults\.(steps|samples)"):
        make_manifest(defaults=make_defaults(*defaults))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"schema_version": 1}, "'volume' is not empty"),
        ({"volume": {}}, r"volume\.patch"),
        ({"view": "film"}, "'view'"),
        ({key: getattr(make_manifest(), key) for key in ("table", "process", "defaults")}, "no denoiser"),
    ],
)
def test_a_volume_needs_its_schema_a_stack_and_no_denoiser(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(BundleError, match=words):
        volume_manifest(**overrides)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("patch", None),
        ("patch", [8, 32]),
        ("patch", [8, 0, 16]),
        ("patch", [8, 32, 16.5]),
        ("spacing_mm", [4, 1.5]),
        ("spacing_mm", [4, 1.5, 0]),
        ("overlap", -0.1),
        ("overlap", 0.95),
        ("overlap", None),
        ("crop", 0),
        ("crop", 1.1),
        ("window_mb", -1),
        ("window_mb", "much"),
    ],
)
def test_a_wrong_value_of_the_volume_names_its_key(key: str, value: object) -> None:
    with pytest.raises(BundleError, match=rf"volume\.{key}"):
        volume_manifest(volume={**VOLUME, key: value})
