"""A manifest survives writing and reading, and says which key is wrong and why."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.bundle.factory import make_defaults, make_manifest
from verdiff.bundle import DEFAULT_MODEL, Feature, Label, Manifest, resolve_model
from verdiff.bundle.objects import GateRecord
from verdiff.diffusion import Process, Schedule, make_table
from verdiff.errors import BundleError


def _edited(**changes: Any) -> str:
    values = {**json.loads(make_manifest().to_json()), **changes}
    del values["checksum"]
    return json.dumps(values)


def test_a_manifest_survives_writing_and_reading() -> None:
    manifest = make_manifest(limits=("Größe", "脊柱"), metrics={"a": (1, 2.5, None, True, "x")})
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(manifest.to_json().encode()).to_json() == manifest.to_json()


def test_the_shipped_manifest_keeps_its_bytes() -> None:
    with zipfile.ZipFile(resolve_model(DEFAULT_MODEL)) as bundle:
        written = bundle.read("manifest.json")
    assert Manifest.from_json(written).to_json().encode() == written


def test_a_real_sampler_table_fits() -> None:
    process = Process("verdiff", Schedule("linear", 1000))
    table = make_table(process, sampler="dpmpp-2m", steps=2)
    manifest = make_manifest(process=process.to_dict(), table=table.to_dict())
    assert Manifest.from_json(manifest.to_json()).table == table


def test_label_numbers_come_in_the_order_of_the_channels() -> None:
    assert make_manifest(labels=(Label(7, "disc"), Label(2, "canal"))).label_ids == {"disc": 7, "canal": 2}


WRONG: dict[str, tuple[Any, str]] = {
    "schema_version": ("1", "a text ('1')"),
    "model_id": ("Spine MR", "'Spine MR'"),
    "version": ("1.0", "semantic version"),
    "labels": ({"vertebra": 1}, "is an object"),
    "modality": ("MRI", "one of 'MR', 'CT', 'XR'"),
    "view": (None, "is null"),
    "spacing_mm": ("0.9", "a text ('0.9')"),
    "intensity": ({"kind": "window", "low": 5, "high": 5}, "more than 'intensity.low'"),
    "multiple": (16.0, "a number (16.0)"),
    "max_pixels": (True, "true or false (True)"),
    "process": ([], "is a list"),
    "table": ({"timesteps": [5], "coefficients": [[0, 1, 0, 0]], "start": [1, 1]}, "5 numbers"),
    "features": ([3], "a whole number (3)"),
    "prediction": ("x1", "'x0', 'epsilon', 'v'"),
    "weights_stored": ("int4", "'float32', 'float16'"),
    "training": ("secret", "a text ('secret')"),
    "metrics": (0, "a whole number (0)"),
    "intended_use": (" ", "not empty"),
    "limits": ("none", "is a text"),
    "files": ({"NOTICE": "ABC"}, "64 lower-case"),
    "suitability": (None, "is null"),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_value_names_its_key_what_was_found_and_expected(key: str) -> None:
    value, words = WRONG[key]
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(_edited(**{key: value}))
    assert key in caught.value.found
    assert words in caught.value.found + caught.value.expected


@pytest.mark.parametrize("key", [*WRONG, "defaults"])
def test_a_missing_key_is_named(key: str) -> None:
    values = json.loads(_edited())
    del values[key]
    with pytest.raises(BundleError, match=key):
        Manifest.from_json(json.dumps(values))


@pytest.mark.parametrize("key", ["steps", "samples", "seed", "sampler", "eta", "start", "start_step", "fusion"])
def test_a_wrong_default_names_its_key(key: str) -> None:
    defaults = {**json.loads(_edited())["defaults"], key: -1}
    with pytest.raises(BundleError, match=rf"defaults\.{key}"):
        Manifest.from_json(_edited(defaults=defaults))


def test_a_missing_default_is_named() -> None:
    defaults = json.loads(_edited())["defaults"]
    del defaults["start_step"]
    with pytest.raises(BundleError, match="'defaults' has no 'start_step'"):
        Manifest.from_json(_edited(defaults=defaults))


@pytest.mark.parametrize(
    "table",
    [
        {"timesteps": [500, 1000]},
        {"timesteps": [1000, 0]},
        {"timesteps": [1000]},
        {"coefficients": [[0, 1, 0, 0, 0]]},
        {"coefficients": [[0, 1, 0, 0, 0], [0, 2, 0, 0, 0]]},
        {"start": [1.0]},
        {"start": [1.0, "1"]},
        {"start": None},
    ],
)
def test_a_table_that_no_loop_could_run_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="table"):
        make_manifest(table={**json.loads(make_manifest().to_json())["table"], **table})


def test_labels_must_differ_and_fit_a_mask() -> None:
    for labels in ((Label(1, "a"), Label(1, "b")), (Label(1, "a"), Label(2, "a")), ()):
        with pytest.raises(BundleError, match="labels"):
            make_manifest(labels=labels)
    for number in (0, 256, True):
        with pytest.raises(BundleError, match=r"labels\.a\.id"):
            Label(number, "a")
    with pytest.raises(BundleError, match="snomed"):
        Label(1, "a", "T-11500")
    with pytest.raises(BundleError, match="stride"):
        Feature("f", 16, 0)
    with pytest.raises(BundleError, match=r"defaults"):
        make_manifest(defaults={"steps": 1})
    assert repr(replace(make_defaults(1, 1), eta=1).eta) == "1.0"


def test_a_newer_schema_says_upgrade_even_if_nothing_else_is_known() -> None:
    with pytest.raises(BundleError, match="schema 3") as caught:
        Manifest.from_json('{"schema_version": 3}')
    assert "upgrade verdiff" in caught.value.remedy


def test_a_key_this_version_does_not_know_is_ignored() -> None:
    labels = [{**label, "colour": "red"} for label in json.loads(_edited())["labels"]]
    assert Manifest.from_json(_edited(labels=labels, note="hello")) == make_manifest()


def test_a_change_to_a_written_manifest_is_noticed() -> None:
    with pytest.raises(BundleError, match="changed after it was written"):
        Manifest.from_json(make_manifest().to_json().replace("0.9375", "0.8375"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not usable JSON"),
        (b"[]", "is a list"),
        (b"\xff{}", "not usable JSON"),
        (b'{"a": 1, "a": 2}', "key given twice: 'a'"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b"[" * 100_000, "not usable JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not usable JSON"),
        (b"{}", "'schema_version'"),
    ],
)
def test_a_manifest_that_is_no_json_object_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(BundleError, match="manifest") as caught:
        Manifest.from_json(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32(1), {1: 2}, "\ud800", object()])
def test_what_json_cannot_say_is_refused_with_its_key(value: object) -> None:
    with pytest.raises(BundleError, match=r"metrics\.dice"):
        make_manifest(metrics={"dice": value})


def test_a_deeply_nested_value_is_refused() -> None:
    value: dict[str, Any] = {}
    for _ in range(50):
        value = {"a": value}
    with pytest.raises(BundleError, match="nested"):
        make_manifest(metrics=value)
    with pytest.raises(BundleError, match=r"1e\+?999|inf"):
        Manifest.from_json(_edited(spacing_mm=1).replace('"spacing_mm": 1', '"spacing_mm": 1e999'))


def test_a_manifest_keeps_its_own_copy() -> None:
    metrics = {"dice": [0.9]}
    manifest = make_manifest(metrics=metrics)
    metrics["dice"].append(0.0)
    assert manifest.metrics == {"dice": [0.9]}


@pytest.mark.parametrize(
    ("record", "key"),
    [
        (5, "gates.fp16"),
        ({"backends": 3}, "gates.fp16.backends"),
        ({"backends": {"onnxruntime": 4}}, "gates.fp16.backends.onnxruntime"),
        ({"backends": {"onnxruntime": {"graphs": ["a"]}}}, "gates.fp16.backends.onnxruntime.graphs"),
        ({"drift": 0.1}, "gates.fp16.drift"),
        ({"drift": [1]}, r"gates.fp16.drift\[0\]"),
        ({"drift": [{"mean": 0.1}, {"mean": "0.1"}]}, r"gates.fp16.drift\[1\].mean"),
        ({"drift": [{"mean": -0.1}]}, r"gates.fp16.drift\[0\].mean"),
    ],
)
def test_what_a_runtime_reads_of_a_gate_has_its_type(record: object, key: str) -> None:
    with pytest.raises(BundleError, match=key):
        GateRecord.of("gates.fp16", record)
    with pytest.raises(BundleError, match=key):
        make_manifest(gates={"fp16": record})
    assert GateRecord.of("gates.fp16", {}).drift == ()
    plain = {"backends": {"openvino": {}}, "drift": [{"mean": 0.1, "largest": 1}]}
    found = make_manifest(gates={"int8-ov": plain}).gates["int8-ov"]
    assert found.drift == (0.1,) and found.backends["openvino"].graphs == {} and found.to_dict() == plain
