"""Which shared libraries a compiled plug-in needs and which of them are not there.

A library that cannot load its CUDA part says so on stderr at best and goes on without it. The names it looks for are
written in the plug-in's own file, so they are read there and tried one by one: all that is missing is known at once.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

Load = Callable[[str], Any]

ELF_64_LITTLE = b"\x7fELF\x02\x01"
HEADER, SEGMENT, ENTRY = struct.Struct("<32xQ14xHH6x"), struct.Struct("<IxxxxQQ8xQ16x"), struct.Struct("<qQ")
LOADED, DYNAMIC = 1, 2
NEEDED, STRINGS = 1, 5


def needed_libraries(plugin: Path) -> tuple[str, ...]:
    """Names of the libraries that ``plugin`` is linked with; empty where it is no 64-bit ELF file (not on Linux).

    Raises:
        OSError: The file cannot be read.
    """
    with plugin.open("rb") as file:
        try:
            return _needed(file)
        except struct.error:
            # Cut short: loading it will say so better than this can.
            return ()


def missing_libraries(names: Iterable[str], load: Load = ctypes.CDLL) -> tuple[str, ...]:
    """The libraries of ``names`` that cannot be loaded; the packages of NVIDIA's wheels are looked through first."""
    missing = [name for name in names if not _loads(name, load)]
    progress = True
    # One library of a wheel may need another one, in any order.
    while missing and progress:
        still = [name for name in missing if not any(_loads(str(path), load) for path in _in_wheels(name))]
        progress, missing = len(still) < len(missing), still
    return tuple(missing)


def _needed(file: BinaryIO) -> tuple[str, ...]:
    head = file.read(HEADER.size)
    if not head.startswith(ELF_64_LITTLE):
        return ()
    start, entry_bytes, count = HEADER.unpack(head)
    segments = [SEGMENT.unpack(_read(file, start + i * entry_bytes, SEGMENT.size)) for i in range(count)]
    dynamic = [(offset, size) for kind, offset, _, size in segments if kind == DYNAMIC]
    entries = [entry for offset, size in dynamic for entry in ENTRY.iter_unpack(_read(file, offset, size))]
    strings = next((value for tag, value in entries if tag == STRINGS), 0)
    # The table of names is given by its address; the loaded segment around it says where in the file that is.
    at = next(
        offset + strings - address
        for kind, offset, address, size in (*segments, (LOADED, 0, 0, sys.maxsize))
        if kind == LOADED and address <= strings < address + size
    )
    return tuple(_name(file, at + value) for tag, value in entries if tag == NEEDED)


def _in_wheels(name: str) -> list[Path]:
    """Where the packages nvidia-* and tensorrt-* put a library, in each folder that Python imports from."""
    roots = [Path(entry) for entry in sys.path if entry]
    patterns = (f"nvidia/*/lib/{name}", f"tensorrt*libs/{name}")
    return [path for root in roots if root.is_dir() for pattern in patterns for path in root.glob(pattern)]


def _loads(name: str, load: Load) -> bool:
    try:
        load(name)
    except OSError:
        return False
    return True


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _name(file: BinaryIO, offset: int) -> str:
    return _read(file, offset, 256).partition(b"\0")[0].decode("ascii", "replace")
