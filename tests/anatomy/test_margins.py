"""Distances between surfaces of a map and true ones, and moved surfaces, on spheres whose margins are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from verdiff.anatomy import margins
from verdiff.anatomy.margins import distance_field, moved_surface, surface_errors
from verdiff.anatomy.surface import Surface
from verdiff.errors import InputError
from verdiff.imaging import Geometry

Floats = NDArray[np.float32]

TURNED = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
# x, y, z: near-cubes, thick slices, and an oblique grid whose axes are left-handed.
GRIDS = {
    "cubes": Geometry((48, 50, 52), (0.9, 0.94, 0.94), (3.0, -40.0, 70.0)),
    "thick slices": Geometry((60, 64, 12), (0.8, 0.8, 4.0), (0.0, 0.0, 0.0)),
    "oblique": Geometry((48, 50, 40), (1.0, 0.8, 1.2), (5.0, 6.0, -7.0), tuple((TURNED * [1, 1, -1]).ravel())),
}
CENTRE = np.array([22.0, 23.0, 24.0])
# Half a cube, and the voxels of the truth, which are what they are.
TOLERANCE_MM = 0.5 * margins.CUBE_MM + 0.5


def distance_to_centre(grid: Geometry) -> NDArray[np.float64]:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.size), indexing="ij"), axis=-1)
    centre = np.linalg.norm(index * grid.spacing_mm - CENTRE, axis=-1)
    return centre.transpose(2, 1, 0)


def ball_map(grid: Geometry, radius: float) -> Floats:
    """A map that falls from 1 to 0 over 4 mm around the surface of a ball, and is 0.5 on it."""
    return np.clip(0.5 - (distance_to_centre(grid) - radius) / 4, 0, 1).astype(np.float32)


def ball(grid: Geometry, radius: float) -> NDArray[np.bool_]:
    return distance_to_centre(grid) <= radius


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("missing_mm", [0.0, 1.5, 4.0])
def test_a_surface_that_lies_too_far_in_has_to_be_moved_out_by_that_much(name: str, missing_mm: float) -> None:
    grid = GRIDS[name]
    found = surface_errors(distance_field(ball_map(grid, 14 - missing_mm), grid, level=0.5), ball(grid, 14), grid)
    thick = max(grid.spacing_mm) / 2 if name == "thick slices" else 0
    assert found.outward_mm(0.5) == pytest.approx(missing_mm, abs=TOLERANCE_MM + thick / 2)
    assert missing_mm - TOLERANCE_MM <= found.outward_mm(1.0) <= missing_mm + 2 * TOLERANCE_MM + thick
    assert found.inward_mm(1.0) <= 2 * TOLERANCE_MM + thick


@pytest.mark.parametrize("grid", [GRIDS["cubes"], GRIDS["oblique"]])
@pytest.mark.parametrize("too_much_mm", [1.5, 4.0])
def test_a_surface_that_lies_too_far_out_has_to_be_moved_in_by_that_much(grid: Geometry, too_much_mm: float) -> None:
    found = surface_errors(distance_field(ball_map(grid, 12 + too_much_mm), grid, level=0.5), ball(grid, 12), grid)
    assert found.outward_mm(1.0) <= TOLERANCE_MM
    assert found.inward_mm(1.0) == pytest.approx(too_much_mm, abs=2 * TOLERANCE_MM)


def test_another_level_of_the_map_is_another_surface() -> None:
    grid = GRIDS["cubes"]
    truth = ball(grid, 14)
    needed = [
        surface_errors(distance_field(ball_map(grid, 14), grid, level=level), truth, grid).outward_mm(0.5)
        for level in (0.75, 0.25)
    ]
    assert needed == pytest.approx([1.0, 0.0], abs=TOLERANCE_MM)


def test_what_is_moved_by_its_distance_covers_and_by_less_does_not() -> None:
    grid = GRIDS["oblique"]
    rough = ball_map(grid, 11) + np.random.default_rng(0).normal(0, 0.05, grid.shape).astype(np.float32)
    found = surface_errors(distance_field(rough, grid, level=0.5), ball(grid, 13), grid)
    for share in (0.9, 0.95, 0.99, 1.0):
        needed = found.outward_mm(share)
        assert found.covered(needed) >= share
        assert found.covered(needed - 0.02) < share
    assert found.outward_mm(0.9) < found.outward_mm(1.0)


def test_what_is_moved_in_by_its_distance_holds_little_that_is_wrong_and_by_less_too_much() -> None:
    grid = GRIDS["oblique"]
    rough = ball_map(grid, 15) + np.random.default_rng(1).normal(0, 0.05, grid.shape).astype(np.float32)
    found = surface_errors(distance_field(rough, grid, level=0.5), ball(grid, 12), grid)
    for share in (0.9, 0.99, 1.0):
        needed = found.inward_mm(share)
        assert found.not_wrong(needed) >= share - 1e-9
        assert found.not_wrong(needed - 0.02) < share
    assert found.inward_mm(0.9) < found.inward_mm(1.0)


def test_an_invented_island_is_as_deep_as_it_is() -> None:
    grid = GRIDS["cubes"]
    both = np.maximum(ball_map(grid, 10), np.roll(ball_map(grid, 5), 22, axis=0))
    found = surface_errors(distance_field(both, grid, level=0.5), ball(grid, 10), grid)
    assert found.inward_mm(1.0) == pytest.approx(5, abs=2 * TOLERANCE_MM)


def test_where_the_scan_ends_is_no_surface_to_cover() -> None:
    """A tube through the whole volume; the map ends 8 mm before the last plane, or not at all."""
    grid = Geometry((40, 40, 40), (1.0, 1.0, 1.0))
    y, x = np.mgrid[:40, :40]
    tube = np.broadcast_to(np.hypot(y - 20, x - 20) <= 8, grid.shape)
    whole = surface_errors(distance_field(tube.astype(np.float32), grid, level=0.5), tube, grid)
    assert whole.outward_mm(1.0) <= TOLERANCE_MM
    short = tube.astype(np.float32)
    short[32:] = 0
    cut = surface_errors(distance_field(short, grid, level=0.5), tube, grid)
    assert cut.outward_mm(1.0) == pytest.approx(8, abs=2 * TOLERANCE_MM)


def test_a_structure_that_was_missed_is_covered_by_no_margin() -> None:
    grid = GRIDS["cubes"]
    nothing = distance_field(np.zeros(grid.shape, np.float32), grid, level=0.5)
    assert nothing is None
    found = surface_errors(nothing, ball(grid, 8), grid)
    assert math.isinf(found.outward_mm(0.95)) and found.covered(100.0) == 0
    assert found.inward_mm(1.0) == 0 and found.not_wrong(0.0) == 1


def test_a_structure_that_fills_the_scan_has_no_surface_in_it() -> None:
    grid = Geometry((8, 8, 8), (1.0, 1.0, 1.0))
    field = distance_field(np.ones(grid.shape, np.float32), grid, level=0.5)
    found = surface_errors(field, np.ones(grid.shape, bool), grid)
    assert (found.outward_mm(1.0), found.inward_mm(1.0), found.covered(0.0)) == (0, 0, 1)


def radii(surface: Surface, grid: Geometry) -> NDArray[np.float64]:
    return np.linalg.norm(surface.vertices_mm - grid.index_to_mm(CENTRE / grid.spacing_mm), axis=1)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("offset_mm", [3.0, 0.0, -4.0])
def test_a_moved_ball_is_a_ball_of_another_radius_in_its_place(name: str, offset_mm: float) -> None:
    grid = GRIDS[name]
    field = distance_field(ball_map(grid, 14), grid, level=0.5)
    assert field is not None
    surface = moved_surface(field, offset_mm)
    assert surface is not None
    thick = max(grid.spacing_mm) / 2 if name == "thick slices" else 0
    assert np.abs(radii(surface, grid) - 14 - offset_mm).max() <= TOLERANCE_MM + thick
    assert surface.volume_ml == pytest.approx(4 / 3 * math.pi * (14 + offset_mm) ** 3 / 1000, rel=0.1)


def closed(surface: Surface) -> bool:
    t = surface.triangles
    edges = np.sort(np.concatenate([t[:, [0, 1]], t[:, [1, 2]], t[:, [2, 0]]]), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    return bool((counts % 2 == 0).all())


def test_a_moved_surface_is_closed_also_where_the_scan_ends() -> None:
    grid = GRIDS["cubes"]
    field = distance_field(ball_map(grid, 21), grid, level=0.5)
    assert field is not None
    for offset in (5.0, -2.0):
        surface = moved_surface(field, offset)
        assert surface is not None and closed(surface)


def test_nothing_is_left_of_a_ball_that_is_moved_in_by_more_than_its_radius() -> None:
    grid = GRIDS["cubes"]
    field = distance_field(ball_map(grid, 6), grid, level=0.5)
    assert field is not None and -field.signed_mm.min() == pytest.approx(6, abs=TOLERANCE_MM)
    assert moved_surface(field, -8.0) is None


def test_moved_out_a_surface_has_no_cavity() -> None:
    """A hollow ball: what is within is no place to go."""
    grid = GRIDS["cubes"]
    hollow = ball_map(grid, 15)
    hollow[ball(grid, 5)] = 0
    field = distance_field(hollow, grid, level=0.5)
    assert field is not None
    surface = moved_surface(field, 1.0)
    assert surface is not None
    assert radii(surface, grid).min() > 14


def test_a_film_has_no_depth_to_measure_in() -> None:
    with pytest.raises(InputError, match="film"):
        distance_field(np.zeros((1, 8, 8), np.float32), Geometry((8, 8, 1), (1.0, 1.0, 1.0)), level=0.5)


def test_a_large_scan_gets_larger_cubes() -> None:
    assert margins.cubes_of(GRIDS["cubes"]).spacing_mm == pytest.approx([0.75] * 3, rel=0.02)
    wide = margins.cubes_of(Geometry((512, 512, 300), (0.9, 0.9, 1.0)))
    assert math.prod(wide.size) < 1.05 * margins.MOST_CUBES
    assert max(wide.spacing_mm) / min(wide.spacing_mm) < 1.02


@pytest.mark.parametrize("name", GRIDS)
def test_the_cubes_fill_the_extent_of_the_scan(name: str) -> None:
    grid, cubes = GRIDS[name], margins.cubes_of(GRIDS[name])
    for corner in ([-0.5, -0.5, -0.5], [n - 0.5 for n in grid.size]):
        there = [-0.5 if each == -0.5 else n - 0.5 for each, n in zip(corner, cubes.size, strict=True)]
        np.testing.assert_allclose(cubes.index_to_mm(there), grid.index_to_mm(corner), atol=1e-9)
