"""Masks and scans unlike the training data are warned of by name; what is like it is not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtime.tiny_bundle import tiny_manifest
from verdiff.bundle import Label, Manifest, open_bundle, resolve_model
from verdiff.imaging import Geometry, SlicePlan, plan_slices
from verdiff.imaging.slicing import canonical_direction
from verdiff.runtime.plausibility import warnings_of_mask, warnings_of_scan

SEEN = {
    "rows_mm": [200.0, 300.0], "columns_mm": [150.0, 250.0], "width_mm": [15.0, 30.0], "dark_share": [0.0, 0.4],
    "area_mm2.vertebra": [800.0, 1500.0], "volume_ml.vertebra": [20.0, 60.0], "dark_share.vertebra": [0.0, 0.05],
    "largest_part": [0.85, 1.0],
}  # fmt: skip
BOUNDS = (0.0, 1000.0)


def manifest(**suitability: list[float]) -> Manifest:
    return tiny_manifest(labels=(Label(1, "vertebra"),), suitability=suitability or SEEN)


def scan(slices: int = 5, rows: int = 250, cols: int = 200, slice_mm: float = 4.0) -> tuple[SlicePlan, np.ndarray]:
    geometry = Geometry((cols, rows, slices), (1.0, 1.0, slice_mm), direction=canonical_direction("sagittal"))
    return plan_slices(geometry, view="sagittal", spacing_mm=1.0), np.full(geometry.shape, 500, np.int16)


def names(warned: tuple[object, ...]) -> list[str]:
    return [each.name for each in warned]  # type: ignore[attr-defined]


def test_a_scan_like_the_training_data_is_not_warned_of() -> None:
    plan, array = scan()
    labels = np.zeros(array.shape, np.uint8)
    labels[:, 50:80, 50:90] = 1
    assert warnings_of_scan(manifest(), plan, array, BOUNDS) == ()
    assert warnings_of_mask(manifest(), plan, labels, array, BOUNDS) == ()


@pytest.mark.parametrize(
    ("name", "size"),
    [("wider-scan", {"slices": 20}), ("larger-field", {"rows": 700}), ("larger-field", {"cols": 600})],
)
def test_a_scan_much_larger_than_any_in_training_is_named(name: str, size: dict[str, int]) -> None:
    plan, array = scan(**size)
    warned = warnings_of_scan(manifest(), plan, array, BOUNDS)
    assert names(warned) == [name] and not warned[0].of_mask and "training saw up to" in warned[0].text


@pytest.mark.parametrize(
    ("fewest", "least_mm2", "warned"),
    [
        ([5.0, 30.0], 800.0, ["wider-scan"]),
        ([1.0, 30.0], 800.0, []),
        # A bundle that does not count slices: 20 ml in 30 mm or less have a slice of 667 mm2 at least.
        (None, 800.0, ["wider-scan"]),
        (None, 700.0, ["wider-scan"]),
        (None, 600.0, []),
    ],
)
def test_a_width_is_compared_only_where_the_width_of_every_training_scan_is_known(
    fewest: list[float] | None, least_mm2: float, warned: list[str]
) -> None:
    plan, array = scan(slices=25)
    seen = {**SEEN, "area_mm2.vertebra": [least_mm2, 1500.0], **({"slices": fewest} if fewest else {})}
    assert names(warnings_of_scan(manifest(**seen), plan, array, BOUNDS)) == warned


def test_the_width_of_a_body_is_no_wonder_to_the_shipped_model_which_saw_slices_from_all_over_it() -> None:
    shipped = open_bundle(resolve_model(None)).manifest
    plan, array = scan(slices=67, rows=300, cols=250, slice_mm=1.5)
    assert names(warnings_of_scan(shipped, plan, array, BOUNDS)) == []
    slabs = {**shipped.suitability, "slices": [10.0, 27.0]}
    assert names(warnings_of_scan(manifest(**slabs), plan, array, BOUNDS)) == ["wider-scan"]


def test_a_scan_that_is_mostly_without_signal_is_named() -> None:
    plan, array = scan()
    array[:, :200] = 0
    assert names(warnings_of_scan(manifest(), plan, array, BOUNDS)) == ["dark-scan"]


def test_bone_in_the_air_too_much_of_it_and_scattered_bone_are_named() -> None:
    plan, array = scan()
    labels = np.zeros(array.shape, np.uint8)
    labels[:, 50:80, 50:90] = 1
    dark = array.copy()
    dark[:, 60:] = 0
    assert names(warnings_of_mask(manifest(), plan, labels, dark, BOUNDS)) == ["structure-in-the-dark"]
    large = labels.copy()
    large[:, 50:150, 50:100] = 1
    assert names(warnings_of_mask(manifest(), plan, large, array, BOUNDS)) == ["large-structure"]
    scattered = labels.copy()
    scattered[:, 150:180, 150:180] = 1
    (warned,) = warnings_of_mask(manifest(), plan, scattered, array, BOUNDS)
    assert warned.name == "scattered-structures" and warned.of_mask
    assert warned.to_dict() == {"name": warned.name, "text": warned.text, "of_mask": True}


def test_a_bundle_that_does_not_say_what_training_looked_like_warns_of_nothing() -> None:
    plan, array = scan(slices=60, rows=900)
    few = manifest(pixel_spacing_mm=[1.0, 1.0])
    labels = np.ones(array.shape, np.uint8)
    assert warnings_of_scan(few, plan, array, BOUNDS) == ()
    assert warnings_of_mask(few, plan, labels, array * 0, BOUNDS) == ()
