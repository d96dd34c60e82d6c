"""The self-test's arrays come back as they were, and a file made to harm is refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from tests.bundle.factory import FILES, GOLDEN_ARRAYS, make_bundle, make_defaults, make_manifest
from verdiff.bundle import GOLDEN, pack_golden
from verdiff.bundle.golden import check_golden, unpack_golden
from verdiff.errors import BundleError


def test_arrays_come_back_with_type_shape_and_values() -> None:
    arrays: dict[str, np.ndarray] = {
        "image": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4),
        "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "labels": np.zeros((0, 3), np.uint8),
        "half": np.array([1.5], np.float16),
        "scalar": np.array(7, np.int64),
        "mask": np.array([True, False]),
    }
    found = unpack_golden(pack_golden(arrays))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.writeable


def test_the_same_arrays_give_the_same_bytes() -> None:
    a, b = np.ones(3), np.zeros(2)
    assert pack_golden({"a": a, "b": b}) == pack_golden({"b": b, "a": a})


def _npz(data: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("image.npy", data)
    return out.getvalue()


def _npy(shape: tuple[int, ...], descr: str, body: bytes) -> bytes:
    out = io.BytesIO()
    npy.write_array_header_1_0(out, {"shape": shape, "fortran_order": False, "descr": descr})
    return out.getvalue() + body


class _Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("the pickle ran",))


ATTACKS = {
    "not an npz": (b"hello", "not a zip"),
    "not an npy": (_npz(b"hello, this is no array"), "magic"),
    "a pickle": (_npz(_npy((1,), "|O", pickle.dumps(_Harm()))), "not of numbers"),
    "texts": (_npz(_npy((1,), "<U2", b"a\0\0\0b\0\0\0")), "not of numbers"),
    "a shape beyond all memory": (_npz(_npy((1 << 40,), "<f4", b"1234")), "1099511627776"),
    "a negative shape": (_npz(_npy((-1, -1), "<f4", b"1234")), "-1"),
    "a compressed array": (_npz(_npy((1,), "<f4", b"1234"), zipfile.ZIP_DEFLATED), "compressed"),
    "a cut header": (_npz(_npy((1,), "<f4", b"")[:20]), "EOF"),
    "code in the header": (_npz(b"\x93NUMPY\x01\x00\x10\x00exit(1)         "), "malformed"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_by_name(tmp_path: Path, attack: str) -> None:
    data, words = ATTACKS[attack]
    with pytest.raises(BundleError, match=words):
        make_bundle(tmp_path / "b.verdiff", files={**FILES, GOLDEN: data}).golden()


def _without(name: str) -> dict[str, np.ndarray]:
    return {each: array for each, array in GOLDEN_ARRAYS.items() if each != name}


def _with(name: str, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    return {**GOLDEN_ARRAYS, name: change(GOLDEN_ARRAYS[name])}


OTHERS = {
    **{f"no {name}": (_without(name), f"no array '{name}'") for name in GOLDEN_ARRAYS},
    "an image of whole numbers": (_with("image", np.int64), "float"),
    "an image without channel": (_with("image", lambda a: a[0]), r"\(1, 16, 16\)"),
    "an image of depth": (_with("image", lambda a: a[:, :, None]), r"\(1, 1, 1, 16, 16\)"),
    "an image of two channels": (_with("image", lambda a: a.repeat(2, 1)), r"\(1, 2, 16, 16\)"),
    "a number for an image": (_with("image", lambda a: a[0, 0, 0, 0]), r"shape \(\)"),
    "no slice": (_with("image", lambda a: a[:0]), "not empty"),
    "no row": (_with("image", lambda a: a[:, :, :0]), "not empty"),
    "a size the network does not take": (_with("image", lambda a: a[..., :15]), "multiples of 16"),
    "another image's prior": (_with("prior", lambda a: a.repeat(2, 0)), r"shape \(1, 3, 16, 16\)"),
    "another model's prior": (_with("prior", lambda a: a[:, :2]), r"shape \(1, 3, 16, 16\)"),
    "no sample's noise": (_with("noise", lambda a: a[:0]), r"shape \(1, 1, 3, 16, 16\)"),
    "another step": (_with("x0hat_0", lambda a: a[..., :8]), "'x0hat_0'"),
    "another start": (_with("x_start", lambda a: a[..., :8]), "'x_start'"),
    "labels of another size": (_with("labels", lambda a: a[:, :8]), r"shape \(1, 16, 16\)"),
    "labels that are no ids": (_with("labels", np.float32), "whole numbers"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_golden_that_is_not_this_models_is_refused_by_name(tmp_path: Path, other: str) -> None:
    arrays, words = OTHERS[other]
    bundle = make_bundle(tmp_path / "b.verdiff", files={**FILES, GOLDEN: pack_golden(arrays)})
    with pytest.raises(BundleError, match=words):
        bundle.golden()


def test_a_model_of_one_pass_needs_no_more_than_its_pass() -> None:
    arrays = {name: GOLDEN_ARRAYS[name] for name in ("image", "prior", "labels")}
    check_golden(arrays, make_manifest(), denoiser=False)


PATCH = (2, 16, 32)
WINDOW = {"image": np.zeros((1, 1, *PATCH), np.float16), "prior": np.zeros((1, 3, *PATCH), np.float16)}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (WINDOW, None),
        ({**WINDOW, "labels": np.zeros((1, *PATCH), np.uint8)}, None),
        ({**WINDOW, "labels": np.zeros(PATCH, np.uint8)}, "'labels'"),
        ({**WINDOW, "image": WINDOW["image"][..., :16]}, r"\[N, 1, 2, 16, 32\]"),
        ({**WINDOW, "image": WINDOW["image"][:, :, 0]}, "'image'"),
        ({**WINDOW, "prior": WINDOW["prior"][:, 1:]}, "'prior'"),
    ],
)
def test_a_model_that_takes_volumes_has_a_window_for_a_golden(arrays: dict[str, np.ndarray], words: str | None) -> None:
    volume = {"patch": list(PATCH), "spacing_mm": [3.0, 1.0, 1.0], "overlap": 0.5}
    single = {"process": {}, "table": {}, "features": (), "defaults": make_defaults(0, 0)}
    manifest = make_manifest(**single, volume=volume, schema_version=2)
    with nullcontext() if words is None else pytest.raises(BundleError, match=words):
        check_golden(arrays, manifest, denoiser=False)


def test_arrays_of_objects_are_not_packed() -> None:
    with pytest.raises(BundleError, match="'a' is object"):
        pack_golden({"a": np.array([None])})


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_arrays_or_a_bundle_error(data: st.DataObject) -> None:
    damaged = bytearray(pack_golden({"image": np.arange(6, dtype=np.float32).reshape(2, 3)}))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays = unpack_golden(bytes(damaged))
    except BundleError:
        return
    assert sum(array.nbytes for array in arrays.values()) <= len(damaged)
