"""The few numbers that say what a scan and its mask look like."""

from __future__ import annotations

import numpy as np
import pytest

from verdiff.imaging import Geometry, plan_slices
from verdiff.imaging.look import largest_part, look_of_mask, look_of_scan
from verdiff.imaging.slicing import canonical_direction

IDS = {"vertebra": 1, "disc": 4}
BOUNDS = (100.0, 1100.0)


def sagittal(slices: int, rows: int, cols: int) -> Geometry:
    return Geometry((cols, rows, slices), (0.5, 1.0, 4.0), direction=canonical_direction("sagittal"))


def test_a_scan_is_told_by_its_field_and_by_what_gives_no_signal() -> None:
    geometry = sagittal(5, 40, 30)
    plan = plan_slices(geometry, view="sagittal", spacing_mm=1.0)
    array = np.full(geometry.shape, 600)
    array[:, :10] = 100
    look = look_of_scan(plan, array, BOUNDS)
    assert look == {"rows_mm": 40.0, "columns_mm": 15.0, "width_mm": 20.0, "dark_share": 0.25, "slices": 5.0}
    flat = sagittal(1, 40, 30)
    alone = look_of_scan(plan_slices(flat, view="sagittal", spacing_mm=1.0), array[:1], BOUNDS)
    assert "width_mm" not in alone and alone["slices"] == 1.0


def test_a_mask_is_told_by_areas_volumes_and_what_of_it_gives_no_signal() -> None:
    geometry = sagittal(5, 40, 30)
    plan = plan_slices(geometry, view="sagittal", spacing_mm=1.0)
    array, labels = np.full(geometry.shape, 600), np.zeros(geometry.shape, np.uint8)
    labels[1:3, 10:20, 10:20] = 1
    labels[2, 20:24, 10:20] = 1
    array[1, 10:20] = 0
    look = look_of_mask(plan, labels, IDS, array, BOUNDS)
    assert look == {
        "area_mm2.vertebra": 70.0,
        "volume_ml.vertebra": pytest.approx(240 * 0.5 * 4 / 1000),
        "dark_share.vertebra": pytest.approx(100 / 240),
        "largest_part": 1.0,
    }
    assert look_of_mask(plan, labels * 0, IDS, array, BOUNDS) == {}


def test_the_largest_part_is_that_of_all_structures_together() -> None:
    mask = np.zeros((3, 40, 40), bool)
    mask[:, 4:12, 4:12] = True
    mask[:, 20:24, 20:28] = True
    assert largest_part(mask) == pytest.approx(2 / 3)
    assert largest_part(mask & False) == 1.0


@pytest.mark.parametrize("view", ["sagittal", "coronal", "axial"])
def test_the_canonical_direction_of_a_view_needs_no_turning(view: str) -> None:
    geometry = Geometry((3, 4, 5), (1.0, 1.0, 1.0), direction=canonical_direction(view))  # type: ignore[arg-type]
    plan = plan_slices(geometry, view=view, spacing_mm=None)  # type: ignore[arg-type]
    assert plan.permutation == (0, 1, 2) and not any(plan.flips)
    assert abs(abs(np.linalg.det(geometry.matrix)) - 1) < 1e-12
