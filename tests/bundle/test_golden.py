"""The self-test's arrays come back as they were, and a file made to harm is refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from tests.bundle.factory import FILES, make_bundle
from verdiff.bundle import GOLDEN, pack_golden
from verdiff.bundle.golden import unpack_golden
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
