"""The page of `make web`, in headless Chromium: Python's labels, a scan that never leaves the machine, its readers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from tests.native.conftest import AGREEMENT, EXAMPLE, ROOT, Expected
from tests.native.scans import small_scan
from tests.peers import needs, program
from verdiff.imaging import read_labels

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
