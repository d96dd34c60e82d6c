"""The page of `make web`, in headless Chromium: Python's labels, a scan that never leaves the machine, its readers."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from tests.native.conftest import AGREEMENT, EXAMPLE, ROOT, Expected
from tests.native.test_hosts import CODES, HEADER, JS, ROWS, small_scan, with_bytes
from tests.peers import needs, program
from verdiff.errors import InputError
from verdiff.imaging import read_labels, read_volume

WEB = ROOT / "web"
NAMES = ("vertebra", "disc", "canal")
pytestmark = needs("chromium", "node", str(WEB / "node_modules" / "playwright-core" / "package.json"))

Visit = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def visit(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """Opens the page in a browser with a scan; what it showed, asked for and complained of."""
    built = tmp_path_factory.mktemp("web")
    subprocess.run(["node", WEB / "build.mjs", model, built], check=True, capture_output=True, text=True)
    with subprocess.Popen(["node", WEB / "serve.mjs", built, "0"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()

        def open_page(scan: Path, folder: Path, *more: str) -> dict[str, Any]:
            browser = str(program("chromium"))
            command = ["node", WEB / "drive.mjs", browser, f"{address}?device=wasm", scan, folder, *more]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seen = json.loads(done.stdout)
            assert all(request.startswith(f"GET {address}") for request in seen["before"])
            return dict(seen)

        yield open_page
        server.terminate()


def test_the_page_gives_the_labels_of_python_and_asks_for_nothing(
    visit: Visit, expected: Expected, tmp_path: Path
) -> None:
    seen = visit(EXAMPLE, tmp_path)
    assert seen["complaints"] == [] and seen["after"] == []
    found, labels = read_labels(tmp_path / "mr_t2_sample_seg.nii.gz"), expected(EXAMPLE)
    assert (found.array == labels).mean() >= AGREEMENT
    millilitres = np.prod(found.geometry.spacing_mm) / 1000
    counted = [f"{name}{(found.array == id).sum() * millilitres:.1f} ml" for id, name in enumerate(NAMES, 1)]
    assert seen["volumes"] == counted


def test_a_dicom_folder_is_read_in_the_page_too(
    visit: Visit, oblique: Path, expected: Expected, tmp_path: Path
) -> None:
    series = tmp_path / "series"
    write_series(oblique, series)
    seen = visit(series, tmp_path)
    assert seen["complaints"] == [] and seen["after"] == []
    mask = sitk.ReadImage(str(tmp_path / seen["mask"]))
    # The page's reader keeps another order of rows: compared where the voxels lie.
    found = sitk.Resample(mask, sitk.ReadImage(str(oblique)), sitk.Transform(), sitk.sitkNearestNeighbor)
    assert (sitk.GetArrayFromImage(found) == expected(oblique)).mean() >= AGREEMENT


def test_what_is_no_scan_is_refused_by_name(visit: Visit, tmp_path: Path) -> None:
    other = tmp_path / "notes.nii.gz"
    other.write_bytes(b"not a scan")
    seen = visit(other, tmp_path)
    assert "not a NIfTI-1 file" in seen["status"] and "mask" not in seen and seen["after"] == []


def test_one_page_opens_scan_after_scan_and_never_two_at_once(visit: Visit, oblique: Path, tmp_path: Path) -> None:
    series, empty, first, second = (tmp_path / name for name in ("series", "empty", "first.nii", "second.nii"))
    write_series(oblique, series)
    empty.mkdir()
    (empty / "notes.txt").write_text("not a scan")
    first.write_bytes(small_scan())
    second.write_bytes(small_scan())
    seen = visit(series, tmp_path, str(series), str(empty), f"drop:{first},{second}", str(second))
    again, refused, dropped, last = seen["later"]
    assert again["mask"] == seen["mask"]
    assert "neither a NIfTI file nor a DICOM series" in refused["status"]
    assert refused["mask"] is None and refused["prompt"]
    assert dropped["mask"] == "first_seg.nii.gz" and dropped["status"].startswith("first.nii: ")
    assert last["mask"] == "second_seg.nii.gz"
    assert seen["complaints"] == [] and seen["after"] == []


def test_the_page_s_server_outlives_what_is_no_address(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("here")
    with subprocess.Popen(["node", WEB / "serve.mjs", tmp_path, "0"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().strip().rstrip("/").split(":")[-1])
        try:
            assert [status_of(port, path) for path in ("/%", "/", "/none")] == [400, 200, 404]
        finally:
            server.terminate()


def status_of(port: int, path: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    return connection.getresponse().status


def write_series(scan: Path, folder: Path) -> None:
    """A scan as a classic DICOM series of MR slices."""
    folder.mkdir()
    image = sitk.Cast(sitk.ReadImage(str(scan)), sitk.sitkInt16)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    common = {
        "0008|0020": "20260101",
        "0008|0030": "120000",
        "0008|0060": "MR",
        "0020|0011": "1",
        "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
        "0010|0020": "P",
        "0020|000d": "1.2.826.0.1.3680043.2.1125.1",
        "0020|000e": "1.2.826.0.1.3680043.2.1125.2",
        "0020|0052": "1.2.826.0.1.3680043.2.1125.3",
        "0020|0037": "\\".join(f"{value:.10g}" for value in direction[:, :2].T.ravel()),
        "0018|0050": f"{image.GetSpacing()[2]:g}",
        "0008|0008": "ORIGINAL\\PRIMARY",
    }
    for index in range(image.GetSize()[2]):
        plane = image[:, :, index]
        position = image.TransformIndexToPhysicalPoint((0, 0, index))
        own = {
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.4.{index + 1}",
            "0020|0013": str(index + 1),
            "0020|0032": "\\".join(f"{value:.10g}" for value in position),
        }
        for key, value in {**common, **own}.items():
            plane.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{index:03d}.dcm"))
        writer.Execute(plane)


JS_PEERS = ("node", str(JS / "node_modules" / "nifti-reader-js" / "package.json"))
READ = """
import { readFileSync } from 'node:fs'
const { maskFile, readVolume } = await import(process.argv[1])
try {
  const bytes = readFileSync(process.argv[2])
  const volume = readVolume(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
  const { size, spacingMm, direction, voxels } = volume
  const mask = maskFile(volume, new Uint8Array(voxels.length)).length
  console.log(JSON.stringify({ size, spacingMm, direction, voxels: [...voxels], mask }))
} catch (error) {
  console.log(JSON.stringify({ refused: error.message }))
}
"""


def read_in_js(scan: Path) -> dict[str, Any]:
    """What the reader in JavaScript makes of a scan."""
    command = ["node", "--input-type=module", "-e", READ, (JS / "nifti.mjs").as_uri(), str(scan)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def placed(
    data: bytes, codes: tuple[int, int], change: Callable[[NDArray[np.float64]], None] = lambda rows: None
) -> bytes:
    """A scan with these codes, whose sform is the one it had, changed."""
    rows = np.array(struct.unpack_from("<12f", data, ROWS)).reshape(3, 4)
    change(rows)
    return with_bytes(with_bytes(data, CODES, struct.pack("<hh", *codes)), ROWS, struct.pack("<12f", *rows.ravel()))


def in_unit(data: bytes, code: int, millimetres: float) -> bytes:
    """A scan that states its lengths in another unit: pixdim, the place of the qform, the sform."""
    for at, count in ((80, 3), (268, 3), (ROWS, 12)):
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


OFFSET, SCALING, UNITS, SPACING = 108, 112, 123, 80
REFUSED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a qform of a higher code that flips": ("two orientations", lambda data: placed(data, (2, 1), flip)),
    "a qform elsewhere": ("two orientations", lambda data: placed(data, (1, 1), move)),
    "a quaternion of no turn": (
        "two orientations",
        lambda data: with_bytes(placed(data, (1, 1)), 256, struct.pack("<3f", 1, 1, 1)),
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


@needs(*JS_PEERS)
@pytest.mark.parametrize("kind", REFUSED)
def test_a_header_that_python_refuses_is_refused_in_javascript(tmp_path: Path, kind: str) -> None:
    scan, (why, change) = tmp_path / "scan.nii", REFUSED[kind]
    scan.write_bytes(change(small_scan()))
    assert why in read_in_js(scan)["refused"]
    with pytest.raises(InputError):
        read_volume(scan)


@needs(*JS_PEERS)
@pytest.mark.parametrize("kind", TAKEN)
def test_a_header_means_in_javascript_what_it_means_in_python(tmp_path: Path, kind: str) -> None:
    scan = tmp_path / "scan.nii"
    scan.write_bytes(TAKEN[kind](small_scan()))
    found, volume = read_in_js(scan), read_volume(scan)
    assert "refused" not in found, found
    assert found["spacingMm"] == pytest.approx(volume.geometry.spacing_mm, rel=1e-12)
    assert found["direction"] == pytest.approx(volume.geometry.matrix.ravel(), abs=1e-6)
    assert np.array_equal(np.float32(found["voxels"]), volume.array.ravel().astype(np.float32))
    assert found["size"] == list(volume.geometry.size) and found["mask"] == HEADER + volume.array.size
