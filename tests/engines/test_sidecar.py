"""A key names an engine by everything that makes it another one; a sidecar is read strictly."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from tests.engines.make import make_key, make_sidecar, profile
from verdiff.engines import EngineKey, Sidecar
from verdiff.errors import BackendError

CHANGES: dict[str, Any] = {
    "model_id": "other",
    "role": "step",
    "precision": "fp32",
    "graph_sha256": "cd" * 32,
    "flavour": "tensorrt_rtx",
    "trt_version": "10.13.0.36",
    "cuda_version": "12",
    "profiles": (profile(192, 192),),
    "flags": ("version-compatible",),
    "sm": "89",
    "gpu_name": "NVIDIA H100",
    "workspace_bytes": 1 << 20,
    "recipe": 99,
}


def test_every_field_of_a_key_is_tried_here() -> None:
    assert set(CHANGES) == {field.name for field in fields(EngineKey)}


@pytest.mark.parametrize("name", CHANGES)
def test_another_value_of_any_field_is_another_engine(name: str) -> None:
    other = make_key(**{name: CHANGES[name]})
    assert other.fingerprint() != make_key().fingerprint()
    assert other.stem != make_key().stem


def test_the_fingerprint_stays_the_same_between_versions_of_python_and_runs() -> None:
    assert make_key().stem == "tiny-mr-prior-fp16-" + make_key().fingerprint()[:16]
    assert make_key().fingerprint() == "106cc44a8382a56cc958d60a9a21264b3912f1d1affd2571b30a634411a5c9be"


def test_a_sidecar_is_read_as_it_was_written() -> None:
    for sidecar in (make_sidecar(), make_sidecar(weight_bytes=None, device_memory_bytes=7, build_seconds=3)):
        assert Sidecar.from_json(sidecar.to_json(), "it") == sidecar


SHAPES, NAMED = ("minimum", "optimum", "maximum"), {"name": "image", "values": False}
IMAGE = {shape: [8, 1, 192, 192] for shape in SHAPES} | NAMED
FLAT = {shape: [1] for shape in SHAPES} | NAMED


def changed(*path: str, value: Any = None) -> str:
    """The sidecar's JSON with one value replaced, or removed where ``value`` is None."""
    whole = json.loads(make_sidecar().to_json())
    place = whole
    for name in path[:-1]:
        place = place[name]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(whole)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "JSONDecodeError"),
        ("[1, 2]", "TypeError"),
        ("[" * 100_000, "RecursionError"),
        (changed("plan_sha256"), "plan_sha256"),
        (changed("key"), "key"),
        (changed("plan_bytes", value="many"), "'plan_bytes' is a str"),
        (changed("plan_bytes", value=True), "'plan_bytes' is a bool"),
        (changed("key", "role", value="denoiser"), "'denoiser' is none of prior, step, pipeline"),
        (changed("key", "flavour", value="onnx"), "'onnx' is none of"),
        (changed("key", "profiles", value=[{"ranges": [{"name": "x"}]}]), "minimum"),
        (changed("key", "profiles", value=[[1]]), "TypeError"),
        (changed("key", "profiles", value=[{"ranges": []}]), "a profile of no size"),
        (changed("key", "profiles", value=[{"ranges": [IMAGE | {"maximum": [8]}]}]), "shapes differ in length"),
        (
            changed("key", "profiles", value=[{"ranges": [FLAT]}]),
            "a profile of no size",
        ),
        (changed("key", "profiles", value=[{"ranges": [IMAGE | {"minimum": [0, 1, 2, 2]}]}]), "a profile of no size"),
        (changed("io", value=[{"name": "x", "dtype": "float32", "mode": "input", "shape": [1.5]}]), "1.5 is no int"),
        (changed("arguments", value=[7]), "7 is no str"),
        (changed("fingerprint", value="00"), "it states fingerprint 00... for a key of"),
        (changed("key", "sm", value="89"), "it states fingerprint"),
    ],
)
def test_a_damaged_sidecar_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BackendError) as caught:
        Sidecar.from_json(text, "tiny.json")
    assert reason in caught.value.found
    assert "tiny.json" in caught.value.found
    assert "verdiff build" in caught.value.remedy
