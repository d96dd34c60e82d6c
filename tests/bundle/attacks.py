"""Bundles that must not open, each made from a good one by one change; with the words its error has to say.

A check of the format that has no attack here is a check nobody would miss.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.bundle.factory import FILES, make_bundle, make_manifest
from verdiff.bundle import MANIFEST, graph_name
from verdiff.bundle.layout import MAX_FILE_BYTES, MAX_FILES

PRIOR = graph_name("prior")


def _good() -> dict[str, bytes]:
    """Contents of the small bundle by name, the manifest with the right hashes first."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    return {MANIFEST: make_manifest(files=hashes).to_json().encode(), **FILES}


def _info(name: str, compression: int = zipfile.ZIP_STORED, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type, info.create_system, info.external_attr = compression, 3, mode << 16
    return info


def _zip(path: Path, contents: list[tuple[zipfile.ZipInfo | str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name given twice is what some attacks are about
        for info, data in contents:
            archive.writestr(info, data)
    return path


def _with(path: Path, *extra: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    return _zip(path.with_suffix(".verdiff"), [*_good().items(), *extra])


def _without(path: Path, name: str) -> Path:
    return _zip(path.with_suffix(".verdiff"), [(each, data) for each, data in _good().items() if each != name])


def _patched(path: Path, change: Callable[[bytearray], None]) -> Path:
    path = _with(path)
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def _central(data: bytes | bytearray, name: str) -> int:
    """Offset of a file's entry in the zip's index."""
    return data.rindex(name.encode()) - 46


def _folder(path: Path, change: Callable[[Path], object]) -> Path:
    change(make_bundle(path).path)
    return path


def _manifest(path: Path, **changes: object) -> Path:
    values = {**json.loads(_good()[MANIFEST]), **changes}
    values.pop("checksum")
    contents = {**_good(), MANIFEST: json.dumps(values).encode()}
    return _zip(path.with_suffix(".verdiff"), list(contents.items()))


def _name(name: str) -> Callable[[Path], Path]:
    return lambda path: _with(path, (_raw(name), b"x"))


def _raw(name: str) -> zipfile.ZipInfo:
    """A zip entry under exactly this name, which `ZipInfo` itself would tidy."""
    info = _info("x")
    info.filename = name
    return info


def _overlap(data: bytearray) -> None:
    """Two entries of the index on the same bytes: the shape of a zip that unpacks to far more than it weighs."""
    at, other = _central(data, graph_name("denoiser")), _central(data, PRIOR)
    offset = data[other + 42 : other + 46]
    data[at + 42 : at + 46] = offset


def _says_less(data: bytearray) -> None:
    at = _central(data, PRIOR)
    data[at + 24 : at + 28] = struct.pack("<L", 10)


def _lies_twice(data: bytearray) -> None:
    """Index and file agree on a size that runs into the next file."""
    at = _central(data, PRIOR)
    offset = struct.unpack("<L", data[at + 42 : at + 46])[0]
    for place in (at + 20, offset + 18):
        data[place : place + 8] = struct.pack("<LL", 400, 400)


def _other_name_inside(data: bytearray) -> None:
    at = _central(data, PRIOR)
    name = struct.unpack("<L", data[at + 42 : at + 46])[0] + 30
    data[name : name + 6] = b"Graphs"


def _encrypted(data: bytearray) -> None:
    data[_central(data, PRIOR) + 8] |= 1


def _elsewhere(data: bytearray) -> None:
    data[_central(data, PRIOR) + 42] += 1


def _insert_in_index(data: bytearray, extra: bytes) -> None:
    """Put bytes behind the last entry of the index and count them in its size."""
    data[-22:-22] = extra
    size = struct.unpack("<L", data[-10:-6])[0]
    data[-10:-6] = struct.pack("<L", size + len(extra))


def _left_over(data: bytearray) -> None:
    _insert_in_index(data, b"more")


def _large_index(data: bytearray) -> None:
    _insert_in_index(data, bytes(1 << 20))


def _huge(data: bytearray) -> None:
    at = _central(data, PRIOR)
    data[at + 20 : at + 28] = struct.pack("<LL", MAX_FILE_BYTES + 1, MAX_FILE_BYTES + 1)
    offset = struct.unpack("<L", data[at + 42 : at + 46])[0]
    data[offset + 18 : offset + 26] = struct.pack("<LL", MAX_FILE_BYTES + 1, MAX_FILE_BYTES + 1)


def _sparse(root: Path) -> None:
    with (root / PRIOR).open("r+b") as file:
        file.truncate(MAX_FILE_BYTES + 1)


def _link(root: Path) -> None:
    (root / PRIOR).rename(root.parent / "elsewhere")
    (root / PRIOR).symlink_to(root.parent / "elsewhere")


def _folder_link(root: Path) -> None:
    (root / "graphs").rename(root.parent / "elsewhere")
    (root / "graphs").symlink_to(root.parent / "elsewhere")


def _made(path: Path, make: Callable[[], None]) -> Path:
    make()
    return path


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _cut(path: Path, keep: float) -> Path:
    data = _with(path).read_bytes()
    return _write(path.with_suffix(".verdiff"), data[: int(len(data) * keep)])


def _bomb(path: Path) -> Path:
    """A compressed file of 1 MB that says it unpacks to 10 bytes."""
    path = _with(path, (_info("bomb", zipfile.ZIP_DEFLATED), bytes(1 << 20)))
    data = bytearray(path.read_bytes())
    at = _central(data, "bomb")
    data[at + 24 : at + 28] = struct.pack("<L", 10)
    return _write(path, bytes(data))


ATTACKS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing there": (lambda path: path, "nothing at"),
    "an empty file": (lambda path: _write(path, b""), "is empty"),
    "not a zip": (lambda path: _write(path, b"\x89PNG\r\n\x1a\n" * 40), "not a zip"),
    "a zip cut in the middle": (lambda path: _cut(path, 0.5), "without its end"),
    "a zip cut near its end": (lambda path: _cut(path, 0.99), "without its end"),
    "bytes after the zip": (lambda path: _write(_with(path), _with(path).read_bytes() + b"\0" * 30), "without its end"),
    "a zip behind a script": (lambda path: _write(path, b"#!/bin/sh\n" + _with(path).read_bytes()), "not a zip"),
    "an index that lies elsewhere": (
        lambda path: _patched(path, lambda data: data.__setitem__(slice(-6, -2), b"\0\0\0\0")),
        "index that does not fit",
    ),
    "a damaged index": (lambda path: _patched(path, lambda d: d.__setitem__(_central(d, PRIOR), 0)), "damaged index"),
    "an index that points elsewhere": (lambda path: _patched(path, _elsewhere), "is not where the zip's index says"),
    "an index with bytes left over": (lambda path: _patched(path, _left_over), "index longer than its"),
    "an index larger than any model's": (lambda path: _patched(path, _large_index), "has an index of"),
    "a path with a NUL": (lambda path: path.with_name("a\0b"), "NUL"),
    "an empty name": (_name(""), "is empty"),
    "an empty zip": (lambda path: _zip(path, []), "no manifest.json"),
    "an empty folder": (lambda path: _made(path, path.mkdir), "no manifest.json"),
    "a folder packed with its name": (
        lambda path: _zip(path, [(f"model/{name}", data) for name, data in _good().items()]),
        "one at model/manifest.json",
    ),
    "a name with ..": (_name("graphs/../../evil"), "leaves the bundle's folder"),
    "an absolute name": (_name("/etc/passwd"), "is absolute"),
    "a name with backslashes": (_name("graphs\\..\\evil"), "backslash"),
    "a name with a drive letter": (_name("C:evil"), "drive letter"),
    "a Windows device": (_name("graphs/NUL.onnx"), "device on Windows"),
    "a name with a NUL": (_name("graphs/a\0b"), "not allowed"),
    "a hidden name": (_name(".hidden"), "not allowed"),
    "a name beyond ASCII": (_name("graphs/prior\u202exnno.onnx"), "not allowed"),
    "an empty part in a name": (_name("graphs//prior"), "not allowed"),
    "a very long name": (_name("a" * 300), "300 characters"),
    "a name given twice": (lambda path: _with(path, (_raw(PRIOR), b"other")), "two files of one name"),
    "a name in two spellings": (_name(PRIOR.upper()), "two files of one name"),
    "a file that is also a folder": (_name(PRIOR + "/inside"), "the folder of"),
    "a link in the zip": (lambda path: _with(path, (_info("link", mode=0o120777), b"/etc/passwd")), "is a link"),
    "a folder of bytes": (lambda path: _with(path, (_raw("empty/"), b"x")), "folders of no bytes"),
    "an encrypted file": (lambda path: _patched(path, _encrypted), "encrypted"),
    "a compressed file": (lambda path: _with(path, (_info("more", zipfile.ZIP_DEFLATED), bytes(99))), "compressed"),
    "a bomb": (_bomb, "say they unpack to 10"),
    "a stored file that says less than it holds": (lambda path: _patched(path, _says_less), "says it unpacks to 10"),
    "a file that runs into the next": (lambda path: _patched(path, _lies_twice), "overlap"),
    "two entries on the same bytes": (lambda path: _patched(path, _overlap), "differs between the zip's index"),
    "another name inside than in the index": (lambda path: _patched(path, _other_name_inside), "differs between"),
    "a file larger than any graph": (lambda path: _patched(path, _huge), "1,073,741,825 bytes"),
    "more files than any model": (
        lambda path: _with(path, *((f"f{i}", b"") for i in range(MAX_FILES))),
        f"a bundle of {MAX_FILES + len(_good())} files",
    ),
    "a file nobody listed": (_name("extra.txt"), "not in its manifest"),
    "a file that is missing": (lambda path: _without(path, PRIOR), f"lacks {PRIOR}"),
    "a wrong hash": (lambda path: _manifest(path, files={n: "0" * 64 for n in FILES}), "has SHA-256"),
    "a newer schema": (lambda path: _manifest(path, schema_version=3), "upgrade verdiff"),
    "a manifest that names a file outside": (lambda path: _manifest(path, files={"../x": "0" * 64}), "leaves the"),
    "a folder with a changed graph": (lambda path: _folder(path, lambda r: (r / PRIOR).write_bytes(b"?")), "SHA-256"),
    "a folder without a graph": (lambda path: _folder(path, lambda r: (r / PRIOR).unlink()), f"lacks {PRIOR}"),
    "a folder without manifest": (lambda path: _folder(path, lambda r: (r / MANIFEST).unlink()), "no manifest.json"),
    "a folder with one file more": (lambda path: _folder(path, lambda r: (r / "more").write_bytes(b"")), "holds more"),
    "a folder with a huge file": (lambda path: _folder(path, _sparse), "1,073,741,825 bytes"),
    "a folder with a link": (lambda path: _folder(path, _link), "is a link"),
    "a folder with a linked folder": (lambda path: _folder(path, _folder_link), "is a link"),
    "a folder with a pipe": (lambda path: _folder(path, lambda r: os.mkfifo(r / "pipe")), "no plain file"),
    "a pipe": (lambda path: _made(path, lambda: os.mkfifo(path)), "neither a file nor a folder"),
}
