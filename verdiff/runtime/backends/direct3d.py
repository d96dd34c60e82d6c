"""The GPUs that Direct3D knows on this machine, and which of them is the processor in disguise.

Asked of DXGI, which Windows brings: ``IDXGIFactory1::EnumAdapters1`` and ``IDXGIAdapter1::GetDesc1``. The methods of a
COM object stand in a table of addresses, in the order of its interface's declaration.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

from verdiff.runtime.backends.adapters import Adapter

LIBRARY = "dxgi.dll"
# {770aae78-f26f-4dba-a829-253c83d1b387}, as a GUID lies in memory.
FACTORY = struct.pack("<IHH8B", 0x770AAE78, 0xF26F, 0x4DBA, 0xA8, 0x29, 0x25, 0x3C, 0x83, 0xD1, 0xB3, 0x87)
RELEASE, DESCRIBE, ENUMERATE = 2, 10, 12
SUCCESS = 0
# DXGI_ADAPTER_DESC1: the name in UTF-16, four numbers, three sizes, an identifier, flags.
DESCRIPTION = struct.Struct("<256s4I3Q8sI4x")
SOFTWARE = 2
# The Basic Render Driver, which computes on the processor and does not always say so.
MICROSOFT, BASIC_RENDER = 0x1414, 0x8C

Load = Callable[[str], Any]


def direct3d_adapters(load: Load = ctypes.CDLL) -> tuple[Adapter, ...]:
    """The adapters; empty where DXGI gives none.

    Args:
        load: Opens a shared library by its name, raising OSError.
    """
    try:
        dxgi = load(LIBRARY)
    except OSError:
        return ()
    factory = ctypes.c_void_p()
    identifier = ctypes.create_string_buffer(FACTORY, len(FACTORY))
    if dxgi.CreateDXGIFactory1(identifier, ctypes.byref(factory)) != SUCCESS:
        return ()
    found: list[Adapter] = []
    try:
        adapter = ctypes.c_void_p()
        while _call(factory, ENUMERATE, ctypes.c_uint(len(found)), ctypes.byref(adapter)) == SUCCESS:
            found.append(_described(adapter))
    finally:
        _call(factory, RELEASE)
    return tuple(found)


def _described(adapter: ctypes.c_void_p) -> Adapter:
    description = ctypes.create_string_buffer(DESCRIPTION.size)
    try:
        _call(adapter, DESCRIBE, description)
    finally:
        _call(adapter, RELEASE)
    name, vendor, device, _, _, *_, flags = DESCRIPTION.unpack(description.raw)
    software = bool(flags & SOFTWARE) or (vendor, device) == (MICROSOFT, BASIC_RENDER)
    return Adapter(name.decode("utf-16-le", "replace").partition("\0")[0], software)


def _call(thing: ctypes.c_void_p, method: int, *arguments: Any) -> int:
    """A method of a COM object, by its place in the table that the object begins with."""
    table = ctypes.cast(thing, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))[0]
    # On 64-bit Windows there is one calling convention.
    kinds = [ctypes.c_uint if isinstance(each, ctypes.c_uint) else ctypes.c_void_p for each in arguments]
    function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, *kinds)(table[method] or 0)
    given = (each if isinstance(each, ctypes.c_uint) else ctypes.cast(each, ctypes.c_void_p) for each in arguments)
    return int(function(thing, *given))
