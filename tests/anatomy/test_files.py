"""What is written: STL and VTP that other programs read, instances and statistics that agree."""

from __future__ import annotations

import base64
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.anatomy.phantom import LABELS, spine
from verdiff.anatomy import (
    Spine,
    Surface,
    anatomy_files,
    check_anatomy,
    find_vertebrae,
    libraries,
    surface_of,
    write_anatomy,
    write_stl,
    write_vtp,
)
from verdiff.errors import BackendError, InputError, OutputError
from verdiff.imaging import Geometry, Volume, read_labels

TETRAHEDRON = Surface(
    np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]]), np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
)


@pytest.fixture(scope="module")
def found() -> tuple[Spine, Volume]:
    made = spine(4, spacing=2.0, slices=20)
    doubt = np.full(made.labels.shape, 51, np.uint8)
    found = find_vertebrae(made.labels, made.geometry, LABELS, lowest="L5", uncertainty=doubt)
    return found, Volume(made.labels, made.geometry)


def test_an_stl_says_its_space_and_holds_every_triangle(tmp_path: Path) -> None:
    write_stl(tmp_path / "a.stl", TETRAHEDRON)
    raw = (tmp_path / "a.stl").read_bytes()
    assert b"SPACE=LPS" in raw[:80]
    assert not raw.startswith(b"solid")
    assert len(raw) == 84 + 4 * 50
    assert int.from_bytes(raw[80:84], "little") == 4
    facet = np.frombuffer(raw, "<f4", 12, offset=84 + 3 * 50).reshape(4, 3)
    assert np.allclose(facet[0], 1 / np.sqrt(3))
    assert np.array_equal(facet[1:], TETRAHEDRON.vertices_mm[TETRAHEDRON.triangles[3]])


def arrays_of(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of a VTP file by name."""
    types = {"UInt8": "u1", "Float32": "<f4", "Int32": "<i4"}
    found = {}
    for node in ElementTree.parse(path).iter("DataArray"):
        raw = base64.b64decode(node.text or "")
        assert int.from_bytes(raw[:8], "little") == len(raw) - 8
        found[node.attrib["Name"]] = np.frombuffer(raw[8:], types[node.attrib["type"]])
    return found


def test_a_vtp_holds_several_surfaces_by_label(tmp_path: Path) -> None:
    other = Surface(TETRAHEDRON.vertices_mm + 20, TETRAHEDRON.triangles)
    write_vtp(tmp_path / "a.vtp", {3: TETRAHEDRON, 101: other})
    read = arrays_of(tmp_path / "a.vtp")
    points = read["Points"].reshape(-1, 3)
    polygons = read["connectivity"].reshape(-1, 3)
    assert read["label"].tolist() == [3] * 4 + [101] * 4
    assert read["offsets"].tolist() == list(range(3, 27, 3))
    assert np.array_equal(points[polygons[4:]], other.vertices_mm[other.triangles])
    space = ElementTree.parse(tmp_path / "a.vtp").find(".//FieldData/Array")
    assert space is not None
    assert bytes(int(code) for code in (space.text or "").split()) == b"LPS\0"
    piece = ElementTree.parse(tmp_path / "a.vtp").find(".//Piece")
    assert piece is not None
    assert (piece.attrib["NumberOfPoints"], piece.attrib["NumberOfPolys"]) == ("8", "8")


def test_a_vtp_of_nothing_is_a_file_all_the_same(tmp_path: Path) -> None:
    write_vtp(tmp_path / "a.vtp", {})
    assert all(array.size == 0 for array in arrays_of(tmp_path / "a.vtp").values())


@pytest.mark.parametrize(
    ("mask", "instances"),
    [
        ("scan_seg.nii.gz", "scan_instances.nii.gz"),
        ("mine.nrrd", "mine_instances.nrrd"),
        ("a.b_seg.nii", "a.b_instances.nii"),
    ],
)
def test_files_are_named_after_the_mask(mask: str, instances: str) -> None:
    files = anatomy_files(Path("out") / mask, instances=True, statistics=True, mesh=True)
    base = instances.partition("_instances")[0]
    assert [path.name for path in files.named.values()] == [
        instances,
        f"{base}_vertebrae.json",
        f"{base}_vertebrae.csv",
        f"{base}_mesh.vtp",
        f"{base}_outer.vtp",
        f"{base}_inner.vtp",
        f"{base}_meshes",
    ]
    assert anatomy_files(Path(mask), statistics=True).instances is None


def test_instances_statistics_and_meshes_agree(found: tuple[Spine, Volume], tmp_path: Path) -> None:
    made, scan = found
    files = anatomy_files(tmp_path / "scan_seg.nii.gz", instances=True, statistics=True, mesh=True)
    assert files.instances and files.statistics and files.table and files.mesh and files.meshes
    write_anatomy(made, scan, files)
    report = json.loads(files.statistics.read_text("utf-8"))
    assert (report["space"], report["levels_from"]) == ("LPS", "told")
    assert [row["level"] for row in report["vertebrae"]] == ["L5", "L4", "L3", "L2"]
    instances = read_labels(files.instances).array
    with files.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["level"] for row in rows] == ["L5", "L4", "L3", "L2"]
    for row, entry in zip(rows, report["vertebrae"], strict=True):
        own = instances == int(row["id"])
        assert float(row["volume_ml"]) == pytest.approx(own.sum() * 0.008, abs=1e-3)
        assert float(row["uncertainty"]) == pytest.approx(0.2)
        assert float(row["centroid_s_mm"]) == entry["centroid_s_mm"]
    assert set(report["structures"].values()) == set(np.unique(instances).tolist()) - {0}
    assert {path.stem for path in files.meshes.iterdir()} == set(report["structures"])
    read = arrays_of(files.mesh)
    assert set(read["label"].tolist()) == set(report["structures"].values())
    corners = read["Points"].reshape(-1, 3)[read["connectivity"].reshape(-1, 3)[read["label"] == 1]]
    index = np.argwhere(instances == 1)[:, ::-1]
    low, high = made.geometry.index_to_mm(index).min(axis=0), made.geometry.index_to_mm(index).max(axis=0)
    assert np.allclose(corners.min(axis=(0, 1)), low - 1, atol=1)
    assert np.allclose(corners.max(axis=(0, 1)), high + 1, atol=1)


def test_meshes_of_an_earlier_run_do_not_stay_and_others_do(found: tuple[Spine, Volume], tmp_path: Path) -> None:
    made, scan = found
    files = anatomy_files(tmp_path / "scan_seg.nii.gz", mesh=True)
    assert files.meshes
    files.meshes.mkdir()
    (files.meshes / "implant.stl").write_bytes(b"somebody's own")
    write_anatomy(made, scan, files)
    for name in ("T3", "vertebra-09"):
        shutil.copy(files.meshes / "canal.stl", files.meshes / f"{name}.stl")
    write_anatomy(made, scan, files)
    names = {path.stem for path in files.meshes.iterdir()}
    assert {"implant", "L5", "canal"} <= names
    assert names.isdisjoint({"T3", "vertebra-09"})


def test_a_mesh_of_somebody_elses_under_a_name_of_ours_is_refused(found: tuple[Spine, Volume], tmp_path: Path) -> None:
    made, scan = found
    files = anatomy_files(tmp_path / "scan_seg.nii.gz", mesh=True)
    assert files.meshes
    files.meshes.mkdir()
    (files.meshes / "L5.stl").write_bytes(b"an expert's")
    with pytest.raises(OutputError, match=r"L5\.stl"):
        write_anatomy(made, scan, files)
    assert [path.name for path in tmp_path.rglob("*")] == ["scan_meshes", "L5.stl"]
    assert (files.meshes / "L5.stl").read_bytes() == b"an expert's"


def test_what_cannot_work_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    mask = tmp_path / "scan_seg.nii.gz"
    meshes = anatomy_files(mask, mesh=True)
    check_anatomy(meshes, LABELS, lowest="L5")
    with pytest.raises(InputError, match="film"):
        check_anatomy(meshes, LABELS, film=True)
    with pytest.raises(InputError, match="Q1"):
        check_anatomy(meshes, LABELS, lowest="Q1")
    with pytest.raises(InputError, match="vertebra"):
        check_anatomy(meshes, {"liver": 1})
    (tmp_path / "scan_meshes").write_text("", "utf-8")
    with pytest.raises(OutputError, match="is a file"):
        check_anatomy(meshes, LABELS)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(BackendError, match=r"\.\[anatomy\]"):
        libraries.library("skimage")


@pytest.mark.parametrize("write", [lambda path: write_stl(path, TETRAHEDRON), lambda path: write_vtp(path, {})])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        write(tmp_path / "nowhere" / "a.stl")


def test_importing_anatomy_loads_nothing_heavy() -> None:
    code = "import sys, verdiff.anatomy; print(sorted({'scipy', 'skimage', 'SimpleITK'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_small_surface_goes_to_files_in_the_scans_millimetres(tmp_path: Path) -> None:
    mask = np.zeros((6, 6, 6), bool)
    mask[2:4, 2:4, 2:4] = True
    surface = surface_of(mask, Geometry((6, 6, 6), (2.0, 2.0, 2.0), (100.0, -50.0, 30.0)))
    write_vtp(tmp_path / "a.vtp", {1: surface})
    points = arrays_of(tmp_path / "a.vtp")["Points"].reshape(-1, 3)
    assert np.allclose(points.mean(axis=0), [105, -45, 35], atol=0.1)
