"""DLPack by its C structures: a capsule of an array of ours, and what is in a capsule of somebody else's."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verdiff.errors import InputError

CUDA = 2
CODES = {0: "i", 1: "u", 2: "f"}
NAME = b"dltensor"


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("ordinal", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destructor)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_take = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))
_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("Py_DecRef", ctypes.pythonapi))


def _let_go(managed: Any) -> None:
    """The consumer is done: what the capsule kept alive may go."""
    _drop(managed.contents.context)


def _give_up(capsule: int) -> None:
    """The capsule goes; if nobody took what is in it, nobody else will give it back."""
    if _is_valid(capsule, NAME):
        managed = ctypes.cast(_pointer(capsule, NAME), ctypes.POINTER(_Managed))
        managed.contents.deleter(managed)


# C calls these, so they live as long as the module.
_delete, _destroy = _Deleter(_let_go), _Destructor(_give_up)


@dataclass(frozen=True)
class CapsuleArray:
    """What a capsule holds; ``dtype`` is None for a type that numpy has not."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    dense: bool


def capsule_of(pointer: int, shape: tuple[int, ...], dtype: np.dtype[Any], ordinal: int, owner: object) -> object:
    """A capsule of a C-contiguous array on the device; ``owner`` lives until the consumer is done."""
    code = {kind: code for code, kind in CODES.items()}[dtype.kind]
    managed = _Managed()
    lengths = (ctypes.c_int64 * len(shape))(*shape)
    managed.tensor = _Tensor(
        pointer, _Device(CUDA, ordinal), len(shape), _Type(code, 8 * dtype.itemsize, 1), lengths, None, 0
    )
    managed.deleter = _delete
    keeper = (managed, lengths, owner)
    managed.context = id(keeper)
    _take(keeper)
    return _new(ctypes.addressof(managed), NAME, _destroy)


def is_dense(shape: Sequence[int], strides: Sequence[float]) -> bool:
    """Whether an array is C-contiguous; strides in elements, of axes of length 1 whatever they are."""
    step = 1
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length != 1 and stride != step:
            return False
        step *= length
    return True


def read_capsule(capsule: object) -> CapsuleArray:
    """What a producer's capsule holds; the capsule keeps it alive and must be kept itself.

    Raises:
        InputError: It is no DLPack capsule of this version.
    """
    if not _is_valid(id(capsule), NAME):
        raise InputError("a DLPack capsule that was used, or of a newer version", "a fresh one", "export it again")
    tensor = ctypes.cast(_pointer(id(capsule), NAME), ctypes.POINTER(_Managed)).contents.tensor
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    dense = not tensor.strides or is_dense(shape, [tensor.strides[axis] for axis in range(tensor.ndim)])
    kind = CODES.get(tensor.dtype.code)
    dtype = np.dtype(f"{kind}{tensor.dtype.bits // 8}") if kind is not None and tensor.dtype.lanes == 1 else None
    return CapsuleArray((tensor.data or 0) + tensor.byte_offset, shape, dtype, dense)
