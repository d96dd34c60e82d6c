"""The GPUs that Vulkan knows on this machine, and which of them are processors in disguise.

Asked of the Vulkan loader's C library: nothing has to be installed beside a GPU's driver, and nothing is computed. The
structures are those of the Vulkan 1.0 specification (``vkEnumeratePhysicalDevices``, ``VkPhysicalDeviceProperties``).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from verdiff.runtime.backends.adapters import Adapter
from verdiff.runtime.silent import environment

LIBRARY = "vulkan-1.dll" if sys.platform == "win32" else "libvulkan.so.1"
INSTANCE_CREATE_INFO, SUCCESS = 1, 0
# VkPhysicalDeviceType -> how Dawn orders adapters when high performance is asked for; kinds it does not know between.
DISCRETE, INTEGRATED, PROCESSOR = 2, 1, 4
ORDER = {DISCRETE: 0, INTEGRATED: 1, PROCESSOR: 3}
# VkPhysicalDeviceProperties: five numbers and a name, then an identifier and limits that are of no interest here.
HEAD, PROPERTIES_BYTES = struct.Struct("=5I256s"), 2048
# Drivers that compute on the processor, by the names of their files: Mesa's lavapipe, and SwiftShader.
SOFTWARE_DRIVERS = "*lvp*,*swiftshader*"
# The loader's own switches, from 1.3.234 on. What is selected is never left out.
LEAVE_OUT, SELECT = "VK_LOADER_DRIVERS_DISABLE", "VK_LOADER_DRIVERS_SELECT"

Load = Callable[[str], Any]


def vulkan_adapters(load: Load = ctypes.CDLL) -> tuple[Adapter, ...] | None:
    """The adapters, those first that Dawn prefers; empty where no driver is found, None without a Vulkan loader.

    Args:
        load: Opens a shared library by its name, raising OSError.
    """
    try:
        vulkan = load(LIBRARY)
    except OSError:
        return None
    instance = ctypes.c_void_p()
    # A VkInstanceCreateInfo without layers, extensions or an application: its type, and zeros.
    info = (ctypes.c_uint64 * 8)(INSTANCE_CREATE_INFO)
    if vulkan.vkCreateInstance(info, None, ctypes.byref(instance)) != SUCCESS:
        return ()
    try:
        count = ctypes.c_uint32()
        if vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None) != SUCCESS:
            return ()
        devices = (ctypes.c_void_p * count.value)()
        if vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices) != SUCCESS:
            return ()
        found = [_described(vulkan, device) for device in devices[: count.value]]
    finally:
        vulkan.vkDestroyInstance(instance, None)
    return tuple(
        Adapter(name, kind == PROCESSOR) for kind, name in sorted(found, key=lambda each: ORDER.get(each[0], 2))
    )


@contextmanager
def only(*, software: bool) -> Iterator[None]:
    """Have this process's Vulkan loader find software drivers alone, or none of them, for the length of the block."""
    given = os.environ.get(LEAVE_OUT, "")
    with ExitStack() as entered:
        if software:
            entered.enter_context(environment(SELECT, SOFTWARE_DRIVERS))
            entered.enter_context(environment(LEAVE_OUT, "*"))
        else:
            entered.enter_context(environment(LEAVE_OUT, ",".join(filter(None, (given, SOFTWARE_DRIVERS)))))
        yield


def _described(vulkan: Any, device: int | None) -> tuple[int, str]:
    """The ``VkPhysicalDeviceType`` of a device, and its name."""
    properties = ctypes.create_string_buffer(PROPERTIES_BYTES)
    vulkan.vkGetPhysicalDeviceProperties(ctypes.c_void_p(device), properties)
    *_, kind, name = HEAD.unpack_from(properties.raw)
    return kind, name.partition(b"\0")[0].decode("utf-8", "replace")
