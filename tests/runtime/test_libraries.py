"""What a plug-in needs is read from its own file, and all that is missing is named at once."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from verdiff.runtime.libraries import missing_libraries, needed_libraries

LOADED, DYNAMIC, NEEDED, STRINGS, END = 1, 2, 1, 5, 0


def plugin(path: Path, names: list[str], address: int = 0x10000) -> Path:
    """The least of a shared library: one loaded segment with its dynamic table and the names it points to."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in names)
    offsets = [1 + sum(len(name) + 1 for name in names[:i]) for i in range(len(names))]
    header_bytes, segment_bytes = 64, 56
    dynamic_at = header_bytes + 2 * segment_bytes
    entries = [(NEEDED, offset) for offset in offsets]
    strings_at = dynamic_at + 16 * (len(entries) + 2)
    entries += [(STRINGS, address + strings_at), (END, 0)]
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    whole = strings_at + len(strings)

    def segment(kind: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQQQ", kind, 0, offset, address + offset, 0, size, size, 8)

    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, header_bytes, 0, 0, 64, segment_bytes, 2, 0, 0, 0
    )
    path.write_bytes(
        header + segment(LOADED, 0, whole) + segment(DYNAMIC, dynamic_at, len(dynamic)) + dynamic + strings
    )
    return path


def loader(*there: str):  # type: ignore[no-untyped-def]
    """Stands for the system's loader on a machine that has only these libraries."""

    def load(name: str) -> object:
        if name not in there:
            raise OSError(f"{name}: cannot open shared object file")
        return object()

    return load


def test_the_names_come_from_the_plugins_own_table(tmp_path: Path) -> None:
    names = ["libcublasLt.so.13", "libcudart.so.13", "libc.so.6"]
    assert needed_libraries(plugin(tmp_path / "cuda.so", names)) == tuple(names)


@pytest.mark.skipif(sys.platform != "linux", reason="ELF files are Linux's")
def test_a_real_library_of_this_machine_is_read() -> None:
    import numpy

    found = needed_libraries(Path(numpy._core._multiarray_umath.__file__))
    assert any(name.startswith("libc.") for name in found)
    assert missing_libraries(name for name in found if name.startswith("libc.")) == ()


@pytest.mark.parametrize("content", [b"", b"MZ\x90", b"\x7fELF\x01\x01" + bytes(80), b"\x7fELF\x02\x01"])
def test_what_is_no_whole_elf_file_needs_nothing_that_is_known(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plugin").write_bytes(content)
    assert needed_libraries(tmp_path / "plugin") == ()


def test_a_plugin_cut_short_is_no_crash(tmp_path: Path) -> None:
    whole = plugin(tmp_path / "cuda.so", ["libcublasLt.so.13"]).read_bytes()
    for size in (64, 100, 150):
        (tmp_path / "cut.so").write_bytes(whole[:size])
        assert needed_libraries(tmp_path / "cut.so") == ()


def test_every_missing_library_is_named_not_only_the_first() -> None:
    names = ("libcublasLt.so.13", "libcudart.so.13", "libcuda.so.1")
    assert missing_libraries(names, loader("libcudart.so.13")) == ("libcublasLt.so.13", "libcuda.so.1")
    assert missing_libraries(names, loader(*names)) == ()


def test_libraries_of_nvidias_wheels_are_found_whatever_order_they_need_each_other_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "nvidia" / "cu13" / "lib"
    folder.mkdir(parents=True)
    for name in ("libcublas.so.13", "libcublasLt.so.13"):
        (folder / name).touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    loaded: list[str] = []

    def load(name: str) -> object:
        needs_lt = name == str(folder / "libcublas.so.13") and str(folder / "libcublasLt.so.13") not in loaded
        if not name.startswith(str(folder)) or needs_lt:
            raise OSError(name)
        loaded.append(name)
        return object()

    assert missing_libraries(["libcublas.so.13", "libcublasLt.so.13", "libnvinfer.so.10"], load) == (
        "libnvinfer.so.10",
    )
    assert len(loaded) == 2
