"""DLPack and streams of other libraries, by their protocols; none of them is installed for this."""

from __future__ import annotations

import ctypes
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from verdiff.errors import InputError
from verdiff.runtime.device import dlpack
from verdiff.runtime.device.arrays import DeviceArray, given_array
from verdiff.runtime.device.streams import stream_handle

FLOAT32 = np.dtype(np.float32)
ADDRESS = 0x7F0000001000


class Owner:
    """Something that must outlive the arrays that lie in it."""


def array(order: Any = None, owner: Any = None, stream: int = 9) -> DeviceArray:
    return DeviceArray(ADDRESS, (2, 3), FLOAT32, 1, stream, order or (lambda consumer: None), owner)


def test_a_capsule_says_what_the_array_is_and_keeps_it_alive() -> None:
    owner = Owner()
    alive = weakref.ref(owner)
    capsule = array(owner=owner).__dlpack__()
    del owner
    gc.collect()
    tensor = dlpack.read_capsule(capsule)
    assert (tensor.pointer, tensor.shape, tensor.dtype, tensor.dense) == (ADDRESS, (2, 3), FLOAT32, True)
    assert alive() is not None
    del capsule
    gc.collect()
    assert alive() is None


def test_a_consumer_that_takes_the_capsule_gives_it_back_itself() -> None:
    owner = Owner()
    alive = weakref.ref(owner)
    capsule = array(owner=owner).__dlpack__()
    del owner
    managed = ctypes.cast(dlpack._pointer(id(capsule), dlpack.NAME), ctypes.POINTER(dlpack._Managed))
    rename = ctypes.pythonapi.PyCapsule_SetName
    rename.argtypes = (ctypes.py_object, ctypes.c_char_p)
    used = b"used_dltensor"
    rename(capsule, used)
    del capsule
    gc.collect()
    assert alive() is not None
    managed.contents.deleter(managed)
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(("stream", "ordered"), [(None, [1]), (7, [7]), (-1, [])])
def test_the_consumers_stream_is_made_to_wait(stream: int | None, ordered: list[int]) -> None:
    waited: list[int] = []
    array(order=waited.append).__dlpack__(stream=stream, max_version=(1, 0))
    assert waited == ordered
    assert array().__dlpack_device__() == (2, 1)


def test_the_interface_names_the_stream() -> None:
    assert array(stream=9).__cuda_array_interface__ == {
        **{"shape": (2, 3), "typestr": "<f4", "data": (ADDRESS, False), "strides": None, "version": 3, "stream": 9}
    }


class Tensor:
    """A DLPack producer, as PyTorch's and CuPy's arrays are."""

    def __init__(self, source: DeviceArray, device: tuple[int, int] = (2, 1)) -> None:
        self.source, self.device, self.asked = source, device, []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int) -> object:
        self.asked.append(stream)
        return self.source.__dlpack__(stream=-1)


def test_dlpack_is_read_where_there_is_no_array_interface() -> None:
    tensor = Tensor(array())
    given = given_array(tensor, (2, 3), 1, 9)
    assert (given.pointer, given.stream, tensor.asked) == (ADDRESS, None, [9])


@pytest.mark.parametrize(("strides", "fits"), [((99, 12, 4), True), ((24, 12, 4), True), ((24, 4, 8), False)])
def test_strides_of_an_axis_of_length_one_do_not_matter(strides: tuple[int, ...], fits: bool) -> None:
    interface = {"shape": (1, 2, 3), "typestr": "<f4", "data": (ADDRESS, False), "strides": strides, "version": 2}
    array = SimpleNamespace(__cuda_array_interface__=interface)
    if fits:
        assert given_array(array, (1, 2, 3), 0, 9).stream is None
    else:
        with pytest.raises(InputError, match="gaps"):
            given_array(array, (1, 2, 3), 0, 9)


def test_an_array_of_another_device_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(2, 0\)"):
        given_array(Tensor(array(), (2, 0)), (2, 3), 1, 9)


def test_a_numpy_capsule_reads_as_numpy_made_it() -> None:
    for source in (np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((3, 2), np.uint8), np.zeros((2, 4)).T):
        tensor = dlpack.read_capsule(source.__dlpack__())
        assert (tensor.shape, tensor.dtype, tensor.dense) == (source.shape, source.dtype, source.flags.c_contiguous)
    with pytest.raises(InputError, match="capsule"):
        dlpack.read_capsule(object())


@pytest.mark.parametrize(
    ("stream", "address"),
    [
        (None, None),
        (0, 1),
        (77, 77),
        (SimpleNamespace(ptr=3), 3),  # CuPy
        (SimpleNamespace(ptr=0), 1),  # its null stream
        (SimpleNamespace(cuda_stream=4), 4),  # PyTorch
        (SimpleNamespace(handle=5), 5),  # pycuda
        (SimpleNamespace(__cuda_stream__=lambda: (0, 6)), 6),  # cuda-core
        (SimpleNamespace(__cuda_stream__=(0, 8)), 8),
    ],
)
def test_a_stream_of_any_library_is_its_address(stream: Any, address: int | None) -> None:
    assert stream_handle(stream) == address


def test_something_else_is_no_stream() -> None:
    with pytest.raises(InputError, match="stream of type"):
        stream_handle("default")
