"""The NIfTI readers in C++ and JavaScript take and refuse what Python's does, and make the same volume of it."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.native.scans import (
    CODES,
    HEADER,
    OFFSET,
    PLACE,
    QUATERNION,
    ROWS,
    SCALING,
    SPACING,
    UNITS,
    small_scan,
    with_bytes,
)
from tests.native.test_hosts import CPP, CPP_PEERS, JS
from tests.peers import needs
from verdiff.errors import InputError
from verdiff.imaging import read_labels, read_volume

JS_PEERS = ("node", str(JS / "node_modules" / "nifti-reader-js" / "package.json"))
READ_IN_JS = """
import { readFileSync, writeFileSync } from 'node:fs'
const { maskFile, readVolume } = await import(process.argv[1])
try {
  const bytes = readFileSync(process.argv[2])
  const volume = readVolume(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
  const { size, spacingMm, direction, voxels } = volume
  writeFileSync(process.argv[3], maskFile(volume, new Uint8Array(voxels.length)))
  console.log(JSON.stringify({ size, spacingMm, direction, voxels: [...voxels] }))
} catch (error) {
  console.log(JSON.stringify({ refused: error.message }))
}
"""
READERS = [pytest.param("cpp", marks=needs(*CPP_PEERS)), pytest.param("js", marks=needs(*JS_PEERS))]

Reader = Callable[[Path, Path], dict[str, Any]]


@pytest.fixture(scope="module", params=READERS)
def read(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """What a host's reader makes of a scan; it writes a mask without a structure."""
    if request.param == "js":
        command = ["node", "--input-type=module", "-e", READ_IN_JS, (JS / "nifti.mjs").as_uri()]
    else:
        reader = tmp_path_factory.mktemp("build") / "read-nifti"
        source, headers = Path(__file__).with_name("read_nifti.cpp"), [f"-I{CPP}", "-I/usr/include/nifti"]
        words = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", *headers, "-o", reader, source]
        subprocess.run([*words, "-lniftiio", "-lznz", "-lcrypto"], check=True, capture_output=True, text=True)
        command = [str(reader)]

    def run(scan: Path, mask: Path) -> dict[str, Any]:
        done = subprocess.run([*command, scan, mask], check=True, capture_output=True, text=True)
        return dict(json.loads(done.stdout))

    return run


def placed(
    data: bytes, codes: tuple[int, int], change: Callable[[NDArray[np.float64]], None] = lambda rows: None
) -> bytes:
    """A scan with these codes, whose sform is the one it had, changed."""
    rows = np.array(struct.unpack_from("<12f", data, ROWS)).reshape(3, 4)
    change(rows)
    return with_bytes(with_bytes(data, CODES, struct.pack("<hh", *codes)), ROWS, struct.pack("<12f", *rows.ravel()))


def in_unit(data: bytes, code: int, millimetres: float) -> bytes:
    """A scan that states its lengths in another unit: pixdim, the place of the qform, the sform."""
    for at, count in ((SPACING, 3), (PLACE, 3), (ROWS, 12)):
        lengths = np.array(struct.unpack_from(f"<{count}f", data, at)) / millimetres
        data = with_bytes(data, at, struct.pack(f"<{count}f", *lengths))
    return with_bytes(data, UNITS, bytes([code]))


def flip(rows: NDArray[np.float64]) -> None:
    rows[:, 0] *= -1


def move(rows: NDArray[np.float64]) -> None:
    rows[0, 3] += 30


def stretch(rows: NDArray[np.float64]) -> None:
    rows[:, :3] *= 1.1


def shear(rows: NDArray[np.float64]) -> None:
    rows[:, 1] = rows[:, 1] * np.cos(0.01) + rows[:, 0] * np.sin(0.01)


REFUSED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a qform of a higher code that flips": ("two orientations", lambda data: placed(data, (2, 1), flip)),
    "a qform elsewhere": ("two orientations", lambda data: placed(data, (1, 1), move)),
    "a quaternion of no turn": (
        "two orientations",
        lambda data: with_bytes(placed(data, (1, 1)), QUATERNION, struct.pack("<3f", 1, 1, 1)),
    ),
    "an sform of other pitches": ("two spacings", lambda data: placed(data, (0, 1), stretch)),
    "a sheared sform": ("sheared", lambda data: placed(data, (0, 1), shear)),
    "an sform of no numbers": ("no numbers", lambda data: placed(data, (0, 1), lambda rows: rows.fill(np.nan))),
    "a negative pitch": ("spacing of -1.5", lambda data: with_bytes(data, SPACING, struct.pack("<f", -1.5))),
    "voxels in the header": ("vox_offset", lambda data: with_bytes(data, OFFSET, struct.pack("<f", 200))),
    "voxels beyond the end": ("vox_offset", lambda data: with_bytes(data, OFFSET, struct.pack("<f", 1e8))),
}
TAKEN: dict[str, Callable[[bytes], bytes]] = {
    "as written": lambda data: data,
    "the qform alone": lambda data: with_bytes(data, CODES, struct.pack("<hh", 1, 0)),
    "the sform alone": lambda data: with_bytes(data, CODES, struct.pack("<hh", 0, 1)),
    "a qform of a higher code": lambda data: placed(data, (2, 1)),
    "metres": lambda data: in_unit(data, 1, 1000),
    "micrometres": lambda data: in_unit(data, 3, 1e-3),
    "no offset": lambda data: with_bytes(data, OFFSET, bytes(4)),
    "no offset, bare": lambda data: with_bytes(data, OFFSET, bytes(4))[: HEADER - 4] + data[HEADER:],
    "an odd offset": lambda data: (
        with_bytes(data, OFFSET, struct.pack("<f", HEADER + 3))[:HEADER] + bytes(3) + data[HEADER:]
    ),
    "no slope": lambda data: with_bytes(data, SCALING, struct.pack("<2f", np.nan, np.nan)),
    "no intercept": lambda data: with_bytes(data, SCALING, struct.pack("<2f", 0.3, np.nan)),
    "scaled": lambda data: with_bytes(data, SCALING, struct.pack("<2f", 0.3, -7)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_header_that_python_refuses_is_refused(read: Reader, tmp_path: Path, kind: str) -> None:
    scan, mask, (why, change) = tmp_path / "scan.nii", tmp_path / "mask.nii", REFUSED[kind]
    scan.write_bytes(change(small_scan()))
    assert why in read(scan, mask)["refused"] and not mask.exists()
    with pytest.raises(InputError):
        read_volume(scan)


@pytest.mark.parametrize("kind", TAKEN)
def test_a_header_means_what_it_means_in_python(read: Reader, tmp_path: Path, kind: str) -> None:
    scan, mask = tmp_path / "scan.nii", tmp_path / "mask.nii"
    scan.write_bytes(TAKEN[kind](small_scan()))
    found, volume = read(scan, mask), read_volume(scan)
    assert "refused" not in found, found
    assert found["size"] == list(volume.geometry.size)
    assert found["spacingMm"] == pytest.approx(volume.geometry.spacing_mm, rel=1e-12)
    assert found["direction"] == pytest.approx(volume.geometry.matrix.ravel(), abs=1e-6)
    assert np.array_equal(np.float32(found["voxels"]), volume.array.ravel().astype(np.float32))
    written = read_labels(mask)
    assert not written.array.any()
    assert written.geometry.size == volume.geometry.size
    assert written.geometry.spacing_mm == pytest.approx(volume.geometry.spacing_mm, rel=1e-6)
    assert np.allclose(written.geometry.matrix, volume.geometry.matrix, atol=1e-6)
    assert np.allclose(written.geometry.origin_mm, volume.geometry.origin_mm, atol=1e-4)
