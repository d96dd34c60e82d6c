"""DLPack and streams of other libraries, by their protocols; none of them is installed for this."""

from __future__ import annotations

import ctypes
import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.runtime.device.null_driver import GPU, NullDriver
from verdiff.errors import InputError
from verdiff.runtime.device import dlpack
from verdiff.runtime.device.arrays import DeviceArray, given_array
from verdiff.runtime.device.streams import stream_handle

FLOAT32 = np.dtype(np.float32)
ADDRESS = 0x7F0000001000


class Owner:
    """Something that must outlive the arrays that lie in it."""

    def __init__(self, stream: int | None = 9) -> None:
        self.stream, self.waited = stream, []  # type: ignore[var-annotated]

    def hold_back(self, consumer: int) -> None:
        self.waited.append(consumer)


def array(owner: Owner | None = None) -> DeviceArray:
    return DeviceArray(ADDRESS, (2, 3), FLOAT32, 1, owner or Owner())


@pytest.fixture
def driver() -> Any:
    """Of cuda:1, where what lies at ADDRESS is."""
    null = NullDriver()
    null.gpu, null.elsewhere = replace(GPU, index=1), {ADDRESS: 1}
    return null


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
    owner = Owner()
    array(owner).__dlpack__(stream=stream, max_version=(1, 0))
    assert owner.waited == ordered
    assert array().__dlpack_device__() == (2, 1)


@pytest.mark.parametrize("asked", [{"copy": True}, {"dl_device": (2, 0)}, {"dl_device": (1, 0)}])
def test_a_copy_or_another_device_is_refused_as_dlpack_says(asked: dict[str, Any]) -> None:
    owner = Owner()
    with pytest.raises(BufferError, match="cuda:1"):
        array(owner).__dlpack__(stream=7, **asked)
    assert owner.waited == []


@pytest.mark.parametrize("asked", [{"copy": False}, {"copy": None, "dl_device": (2, 1)}, {"max_version": (1, 1)}])
def test_what_is_true_of_the_array_anyway_may_be_asked_for(asked: dict[str, Any]) -> None:
    assert dlpack.read_capsule(array().__dlpack__(stream=7, **asked)).pointer == ADDRESS


@pytest.mark.parametrize("stream", [9, None])
def test_the_interface_names_the_stream(stream: int | None) -> None:
    assert array(Owner(stream)).__cuda_array_interface__ == {
        **{"shape": (2, 3), "typestr": "<f4", "data": (ADDRESS, False), "strides": None, "version": 3, "stream": stream}
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


def interface(**said: Any) -> dict[str, Any]:
    return {"shape": (2, 3), "typestr": "<f4", "data": (ADDRESS, False), "strides": None, "version": 3, **said}


def test_dlpack_is_read_where_there_is_no_array_interface(driver: NullDriver) -> None:
    tensor = Tensor(array())
    given = given_array(tensor, (2, 3), driver, 9)
    assert (given.pointer, given.stream, tensor.asked) == (ADDRESS, None, [9])


@pytest.mark.parametrize("said", [{"version": 2}, {"version": 2, "stream": 5}, {"version": 3}])
def test_dlpack_is_read_where_the_interface_names_no_stream(driver: NullDriver, said: dict[str, Any]) -> None:
    """As PyTorch's does: nobody would wait for what fills the tensor."""
    tensor = Tensor(array())
    tensor.__cuda_array_interface__ = interface(**said)  # type: ignore[attr-defined]
    given = given_array(tensor, (2, 3), driver, 9)
    assert (given.stream, tensor.asked) == (None, [9])


@pytest.mark.parametrize("stream", [5, None])
def test_an_interface_that_says_its_stream_is_read_before_dlpack(driver: NullDriver, stream: int | None) -> None:
    """pycuda's says None and has no DLPack; CuPy's names one."""
    tensor = Tensor(array())
    tensor.__cuda_array_interface__ = interface(stream=stream)  # type: ignore[attr-defined]
    assert given_array(tensor, (2, 3), driver, 9).stream == stream
    assert given_array(SimpleNamespace(__cuda_array_interface__=interface(stream=stream)), (2, 3), driver, 9)
    assert tensor.asked == []


@pytest.mark.parametrize(("where", "said"), [(5, "cuda:5"), (None, "host's memory")])
def test_an_interface_on_another_device_or_on_the_host_is_refused(
    driver: NullDriver, where: int | None, said: str
) -> None:
    driver.elsewhere = {} if where is None else {ADDRESS: where}
    with pytest.raises(InputError, match=said) as caught:
        given_array(SimpleNamespace(__cuda_array_interface__=interface(stream=None)), (2, 3), driver, 9)
    assert "cuda:1" in caught.value.expected


@pytest.mark.parametrize(("strides", "fits"), [((99, 12, 4), True), ((24, 12, 4), True), ((24, 4, 8), False)])
def test_strides_of_an_axis_of_length_one_do_not_matter(
    driver: NullDriver, strides: tuple[int, ...], fits: bool
) -> None:
    array = SimpleNamespace(__cuda_array_interface__=interface(shape=(1, 2, 3), strides=strides, version=2))
    if fits:
        assert given_array(array, (1, 2, 3), driver, 9).stream is None
    else:
        with pytest.raises(InputError, match="gaps"):
            given_array(array, (1, 2, 3), driver, 9)


def test_an_array_of_another_device_is_refused(driver: NullDriver) -> None:
    with pytest.raises(InputError, match=r"\(2, 0\)"):
        given_array(Tensor(array(), (2, 0)), (2, 3), driver, 9)


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
