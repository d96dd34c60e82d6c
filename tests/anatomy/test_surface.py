"""Surfaces: where their vertices lie, that they are closed, and which way round they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from verdiff.anatomy import Surface, surface_of
from verdiff.errors import InputError
from verdiff.imaging import Geometry
from verdiff.imaging.volume import IDENTITY

RADIUS_MM = 11.3
TURNED = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
MIRRORED = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

Mask = NDArray[np.bool_]


def sphere(
    spacing: tuple[float, float, float], direction: tuple[float, ...] = IDENTITY
) -> tuple[Mask, Geometry, NDArray[np.float64]]:
    """Voxels whose centres lie in a sphere, their grid and its centre in mm."""
    x, y, z = (int(2.6 * RADIUS_MM / s) + 2 for s in spacing)
    geometry = Geometry((x, y, z), spacing, (5.0, -30.0, 200.0), direction)
    centre = geometry.index_to_mm([(x - 1) / 2 + 0.3, (y - 1) / 2 - 0.2, (z - 1) / 2])
    index = np.stack(np.indices(geometry.shape)[::-1], axis=-1)
    return np.linalg.norm(geometry.index_to_mm(index) - centre, axis=-1) <= RADIUS_MM, geometry, centre


def edges_of(surface: Surface) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Directed edges as one number each, and the same turned round."""
    a, b, c = surface.triangles.T
    start, end = np.concatenate([a, b, c]), np.concatenate([b, c, a])
    size = len(surface.vertices_mm)
    return start * size + end, end * size + start


def is_closed(surface: Surface) -> bool:
    """Whether every directed edge has exactly one partner that runs the other way."""
    forward, backward = edges_of(surface)
    return len(np.unique(forward)) == len(forward) and set(forward.tolist()) == set(backward.tolist())


@pytest.mark.parametrize(
    "spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.5), (0.5, 0.5, 0.7), (0.9, 0.5, 0.5), (0.5, 0.5, 3.0), (3.0, 0.6, 0.6)]
)
def test_every_vertex_lies_within_half_a_voxel_of_the_sphere(spacing: tuple[float, float, float]) -> None:
    mask, geometry, centre = sphere(spacing)
    surface = surface_of(mask, geometry)
    away = np.abs(np.linalg.norm(surface.vertices_mm - centre, axis=1) - RADIUS_MM)
    assert away.max() <= max(spacing) / 2
    assert away.mean() <= 0.12 * max(spacing)
    assert is_closed(surface)


def test_it_is_smoother_than_the_voxels() -> None:
    """Angles between facets and the sphere's own normals: a staircase has 30 degrees and more."""
    mask, geometry, centre = sphere((1.0, 1.0, 1.0))
    surface = surface_of(mask, geometry)
    a, b, c = (surface.vertices_mm[surface.triangles[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1)
    out = (a + b + c) / 3 - centre
    cosine = np.einsum("ij,ij->i", normal, out) / np.maximum(area * np.linalg.norm(out, axis=1), 1e-12)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    assert np.average(angle, weights=area) < 10


@pytest.mark.parametrize("direction", [IDENTITY, TURNED, MIRRORED])
def test_triangles_face_outwards_in_any_axes(direction: tuple[float, ...]) -> None:
    mask, geometry, centre = sphere((1.0, 1.0, 1.0), direction)
    surface = surface_of(mask, geometry)
    assert surface.volume_ml == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3 / 1000, rel=0.02)
    assert np.allclose(surface.vertices_mm.mean(axis=0), centre, atol=0.2)


def test_a_structure_that_the_scan_cuts_is_closed_at_the_border() -> None:
    mask, geometry, _ = sphere((1.0, 1.0, 1.0))
    half = mask[len(mask) // 2 :]
    cut = Geometry((*geometry.size[:2], len(half)), geometry.spacing_mm)
    surface = surface_of(half, cut)
    assert is_closed(surface)
    assert surface.volume_ml == pytest.approx(half.sum() / 1000, rel=0.03)
    assert surface.vertices_mm[:, 2].min() >= -1.0


@settings(max_examples=40)
@given(arrays(bool, st.tuples(*[st.integers(2, 6)] * 3)), st.sampled_from([(1.0, 1.0, 1.0), (0.5, 0.5, 2.0)]))
def test_any_mask_has_a_closed_surface(mask: Mask, spacing: tuple[float, float, float]) -> None:
    mask[0, 0, 0] = True
    z, y, x = mask.shape
    surface = surface_of(mask, Geometry((x, y, z), spacing))
    forward, backward = edges_of(surface)
    # Voxels that meet in an edge or a point share vertices there: each edge then has several partners, never one less.
    assert sorted(forward.tolist()) == sorted(backward.tolist())


def test_a_mask_without_voxels_and_a_film_have_none() -> None:
    with pytest.raises(InputError, match="0 voxels"):
        surface_of(np.zeros((4, 4, 4), bool), Geometry((4, 4, 4), (1.0, 1.0, 1.0)))
    with pytest.raises(InputError, match="film"):
        surface_of(np.ones((1, 4, 4), bool), Geometry((4, 4, 1), (1.0, 1.0, 1.0)))
    with pytest.raises(InputError, match="shape"):
        surface_of(np.ones((3, 4, 4), bool), Geometry((4, 4, 4), (1.0, 1.0, 1.0)))
