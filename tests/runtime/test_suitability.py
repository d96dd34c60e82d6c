"""Which scans a model refuses, and what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.runtime.scans import AXIAL, ct_scan, mr_scan
from tests.runtime.tiny_bundle import tiny_manifest
from verdiff.imaging import Geometry, Volume, plan_slices
from verdiff.runtime.suitability import unsuitable_reasons


def reasons(scan: Volume, **changes: object) -> str:
    manifest = tiny_manifest(**changes)
    view = manifest.view
    plan = plan_slices(scan.geometry, view=view, spacing_mm=manifest.spacing_mm, multiple=4)  # type: ignore[arg-type]
    return "; ".join(unsuitable_reasons(scan, manifest, plan))


def film() -> Volume:
    return Volume(mr_scan(1).array, Geometry((38, 45, 1), (1.0, 1.0, 1.0)), "XR")


def test_a_sagittal_mr_stack_is_taken() -> None:
    assert reasons(mr_scan()) == ""
    assert reasons(replace(mr_scan(), modality="MR")) == ""


def test_a_normalised_mr_with_small_negative_numbers_is_taken() -> None:
    scan = mr_scan()
    array = ((scan.array - scan.array.mean()) / scan.array.std()).astype(np.float32)
    assert array.min() < 0
    assert reasons(replace(scan, array=array)) == ""


def test_interpolation_overshoot_does_not_make_an_mr_a_ct() -> None:
    scan = mr_scan(10)
    array = scan.array.copy()
    array[0, 0, :20] = -120
    assert reasons(replace(scan, array=array)) == ""


def test_hounsfield_units_are_recognised_without_a_header() -> None:
    assert "CT scan by its intensities" in reasons(ct_scan())


def test_hounsfield_units_are_recognised_in_a_crop_without_air() -> None:
    """Fat near -100 is enough; a crop of a spine has no air."""
    scan = mr_scan()
    array = (scan.array // 8 - 90).astype(np.int16)
    assert array.min() > -150
    assert "CT scan" in reasons(replace(scan, array=array))


def test_a_stated_modality_is_believed() -> None:
    assert reasons(replace(mr_scan(), modality="CT")) == "it is a CT scan, the model is for an MR scan"
    assert "of modality PT" in reasons(replace(mr_scan(), modality="PT"))


def test_an_axial_stack_is_refused_and_an_isotropic_volume_is_not() -> None:
    scan = mr_scan(40, 40, 40, pixel=1.0, step=1.0)
    assert reasons(scan) == ""
    axial = replace(scan, geometry=Geometry((40, 40, 40), (1.0, 1.0, 4.0), direction=AXIAL))
    assert reasons(axial) == "it is a stack of axial slices, the model is for the sagittal view"


def test_a_film_is_refused_by_an_mr_model_and_a_stack_by_a_film_model() -> None:
    found = reasons(film())
    assert "film (X-ray)" in found
    assert "single plane" in found
    assert reasons(film(), modality="XR", view="film") == ""
    assert "MR scan" in reasons(mr_scan(), modality="XR", view="film")


def test_an_mr_is_refused_by_a_ct_model() -> None:
    assert reasons(ct_scan(), modality="CT", view="axial", suitability={}) == ""
    assert "the model is for a CT scan" in reasons(mr_scan(), modality="CT")


@pytest.mark.parametrize("pixel", [0.05, 3.0])
def test_pixels_far_outside_the_training_range_are_refused(pixel: float) -> None:
    assert "the model takes 0.2 to 2.4 mm" in reasons(mr_scan(pixel=pixel, step=4.0))


def test_thick_clinical_slices_are_taken_and_gaps_of_a_vertebra_are_not() -> None:
    assert reasons(mr_scan(step=5.5)) == ""
    assert "20 mm apart" in reasons(mr_scan(step=20.0))


def test_a_slice_larger_than_the_model_takes_is_refused() -> None:
    assert "1000 pixels at most" in reasons(mr_scan(), max_pixels=1000)


@pytest.mark.parametrize("value", [-1024, -3024, -32768])
def test_padding_around_an_mr_makes_no_ct_of_it_and_around_a_ct_no_mr(value: int) -> None:
    scan, ct = mr_scan(10), ct_scan()
    array = scan.array.copy()
    array[:, :, :4] = value
    assert reasons(replace(scan, array=array)) == ""
    body = (mr_scan(6, 40, 40).array // 8 - 90).astype(np.int16)
    body[:, :, :4] = value
    assert "CT scan by its intensities" in reasons(replace(ct, array=body))


def test_the_edge_of_resampled_padding_makes_no_ct_of_an_mr() -> None:
    scan = mr_scan(10)
    array = scan.array.astype(np.float32)
    array[:, :, :4] = -1024
    share = np.linspace(0, 1, array[:, :, 4].size, dtype=np.float32).reshape(array[:, :, 4].shape)
    array[:, :, 4] = share * array[:, :, 4] + (share - 1) * 1024
    assert reasons(replace(scan, array=array)) == ""


def test_a_mask_given_as_a_scan_is_a_reason() -> None:
    scan = mr_scan()
    mask = np.zeros_like(scan.array)
    mask[:, 10:20, 10:25], mask[:, 25:30, 10:25] = 1, 2
    assert reasons(replace(scan, array=mask)).startswith("it looks like a mask: it has 3 different values")
