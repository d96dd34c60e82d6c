"""What a page holds lies where the scan lies, whole or coarser, and carries nothing of its header."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from tests.anatomy.phantom import LABELS, spine
from tests.runtime.scans import mr_scan
from verdiff.anatomy import find_vertebrae, surface_of
from verdiff.imaging import Geometry, Volume, read_volume
from verdiff.page.payload import held_of
from verdiff.page.shapes import coarser, packed, shapes_of


def read_back(raw: bytes, path: Path) -> Volume:
    path.write_bytes(raw)
    return read_volume(path)


def test_the_scan_comes_back_in_its_place_to_a_grey_level(tmp_path: Path) -> None:
    scan = mr_scan()
    labels = (scan.array > 1200).astype(np.uint8)
    held = held_of(scan, labels, 255 * labels)
    found = read_back(held.scan, tmp_path / "scan.nii.gz")
    assert held.every == (1, 1, 1) and found.geometry.matches(scan.geometry)
    assert np.abs(found.array - scan.array.astype(float)).max() <= np.ptp(scan.array) / 1000
    assert (read_back(held.labels, tmp_path / "mask.nii.gz").array == labels).all()
    header = gzip.decompress(held.scan)[:348]
    assert not any(header[4:40]) and not any(header[148:252])


def test_a_scan_of_eight_bits_is_held_as_it_is(tmp_path: Path) -> None:
    grid = Geometry((12, 10, 4), (0.5, 0.5, 2.0))
    scan = Volume(np.random.default_rng(3).integers(-100, 156, grid.shape).astype(np.int16), grid)
    nothing = np.zeros(grid.shape, np.uint8)
    held = held_of(scan, nothing, nothing)
    assert len(gzip.decompress(held.scan)) == 352 + scan.array.size
    assert (read_back(held.scan, tmp_path / "scan.nii.gz").array == scan.array).all()


@pytest.mark.parametrize("most", [2000, 500, 40])
def test_a_large_scan_is_held_coarser_where_it_was(most: int, tmp_path: Path) -> None:
    scan = mr_scan()
    ramp = scan.geometry.index_to_mm(np.moveaxis(np.indices(scan.array.shape)[::-1], 0, -1))[..., 1]
    held = held_of(
        Volume(ramp, scan.geometry), np.ones(ramp.shape, np.uint8), np.zeros(ramp.shape, np.uint8), most=most
    )
    found = read_back(held.scan, tmp_path / "scan.nii.gz")
    assert 1 < found.array.size <= most and found.geometry.matches(held.grid)
    # Each voxel holds its own position, so means of blocks hold theirs.
    places = held.grid.index_to_mm(np.moveaxis(np.indices(found.array.shape)[::-1], 0, -1))[..., 1]
    assert np.abs(found.array - places).max() <= 0.01 * np.ptp(ramp)


def test_a_long_axis_is_cut_to_what_a_browser_takes() -> None:
    film = Volume(np.arange(48000).reshape(1, 3000, 16), Geometry((16, 3000, 1), (0.1, 0.1, 1.0)))
    nothing = np.zeros(film.array.shape, np.uint8)
    held = held_of(film, nothing, nothing)
    assert held.every == (1, 2, 1) and held.grid.size == (16, 1500, 1)


def test_surfaces_come_back_as_they_were_packed_and_each_vertebra_has_one() -> None:
    made = spine(3, slices=16, spacing=2.0)
    found = find_vertebrae(made.labels, made.geometry, LABELS, lowest="L5")
    shapes = shapes_of(made.labels, made.geometry, {number: name for name, number in LABELS.items()}, found)
    assert {"L5", "L4", "L3", "canal"} <= {shape.name for shape in shapes}
    for shape in shapes:
        raw, about = packed(shape.surface)
        plain = gzip.decompress(raw)
        count = int(about["vertices"])  # type: ignore[call-overload]
        steps = np.frombuffer(plain, "<u2", 3 * count).reshape(-1, 3)
        vertices = np.asarray(about["low"]) + steps * np.asarray(about["step"])
        assert np.abs(vertices * (-1, -1, 1) - shape.surface.vertices_mm).max() < 0.01
        moves = np.frombuffer(plain[len(plain) - 12 * len(shape.surface.triangles) :], "<i4")
        assert (np.cumsum(moves).reshape(-1, 3) == shape.surface.triangles).all()


def test_a_coarser_surface_encloses_the_same_in_fewer_triangles() -> None:
    places = np.moveaxis(np.indices((40, 40, 40)), 0, -1)
    ball = np.linalg.norm(places - 19.5, axis=-1) < 15
    fine = surface_of(ball, Geometry((40, 40, 40), (1.0, 1.0, 1.0)))
    coarse = coarser(fine, 3.0)
    assert len(coarse.triangles) < len(fine.triangles) / 4
    assert coarse.volume_ml == pytest.approx(fine.volume_ml, rel=0.03)
    radii = np.linalg.norm(coarse.vertices_mm - 19.5, axis=1)
    assert np.abs(radii - 15).max() < 0.6
    edges = np.sort(np.concatenate([coarse.triangles[:, [0, 1]], coarse.triangles[:, [1, 2]]]), axis=1)
    assert (edges[:, 0] != edges[:, 1]).all()
