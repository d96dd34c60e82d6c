"""Cases as volumes: what training sees is what the runtime shows the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.train.toy import write_raw_dataset
from verdiff.imaging.intensity import IntensityRule, intensity_bounds
from verdiff.imaging.picture import picture_of
from verdiff.imaging.reading import read_labels, read_volume
from verdiff.imaging.volume_plan import plan_volume
from verdiff.train.batches3d import pad_to_patch
from verdiff.train.config import DataConfig
from verdiff.train.data.nnunet import read_raw
from verdiff.train.data.volumes import volume_case

CONFIG = DataConfig(
    spacing_mm=1.6, slice_spacing_mm=2.0, crop=0.5, intensity_kind="zscore", intensity_low=-5, intensity_high=5
)
PATCH = (8, 32, 16)


def test_a_case_is_the_volume_that_the_runtime_lays_its_windows_over(tmp_path: Path) -> None:
    folder = write_raw_dataset(tmp_path / "Dataset900_Toy")
    volume = read_volume(folder / "imagesTr" / "toy0_0000.nii.gz", modality="MR")
    truth = read_labels(folder / "labelsTr" / "toy0.nii.gz")
    case = volume_case("toy0", volume, truth, (1, 2), CONFIG)
    plan = plan_volume(volume.geometry, view="sagittal", spacing_mm=(2.0, 1.6, 1.6), patch=PATCH, crop=0.5)
    bounds = intensity_bounds(volume.array, IntensityRule("zscore", -5, 5))
    shown = plan.reader(volume.array, bounds)(slice(0, plan.shape[0]))
    slices, rows, cols = plan.inside
    assert case.images.shape == plan.inside and case.images.dtype == np.float16
    assert np.allclose(case.images, shown[:slices, :rows, :cols], atol=1e-3)
    assert np.array_equal(case.labels, plan.labels_to_model(truth.array, (1, 2))[:slices, :rows, :cols])
    assert case.spacing_mm == (plan.spacing_mm[1], plan.spacing_mm[2], plan.spacing_mm[0])
    # What is padded has the scan's darkest voxel there and the resampled scan's here, whose noise is averaged.
    assert np.allclose(pad_to_patch(case.images, PATCH), shown, atol=0.05)


def test_margins_that_show_nothing_have_no_part_in_the_intensities(tmp_path: Path) -> None:
    folder = write_raw_dataset(tmp_path / "Dataset900_Toy")
    volume = read_volume(folder / "imagesTr" / "toy0_0000.nii.gz", modality="MR")
    truth = read_labels(folder / "labelsTr" / "toy0.nii.gz")
    array, rule = volume.array.copy(), IntensityRule("zscore", -5, 5)
    array[: len(array) // 3] = array.min()
    bounds = intensity_bounds(array[picture_of(array)], rule)
    assert bounds != intensity_bounds(array, rule)
    case = volume_case("toy0", replace(volume, array=array), truth, (1, 2), CONFIG)
    plan = plan_volume(volume.geometry, view="sagittal", spacing_mm=(2.0, 1.6, 1.6), patch=PATCH, crop=0.5)
    slices, rows, cols = plan.inside
    shown = plan.reader(array, bounds)(slice(0, plan.shape[0]))
    assert np.allclose(case.images, shown[:slices, :rows, :cols], atol=1e-3)


def test_a_raw_data_set_with_a_slice_spacing_is_read_as_volumes(tmp_path: Path) -> None:
    folder = write_raw_dataset(tmp_path / "Dataset900_Toy")
    volumes, slices = read_raw(folder, CONFIG), read_raw(folder, DataConfig())
    # 3 slices of 3 mm, 40 rows and 36 columns of 1 mm; the middle half of the columns.
    assert {case.images.shape for case in volumes.cases} == {(4, 25, 11)}
    assert {case.images.shape for case in slices.cases} == {(3, 40, 36)}
    # What gives no signal depends on the intensities, which the two configurations take otherwise.
    looks = [
        {key: value for key, value in each.statistics.items() if not key.startswith("dark_share")}
        for each in (volumes, slices)
    ]
    assert looks[0] == looks[1] and volumes.splits == slices.splits
    for case, whole in zip(volumes.cases, slices.cases, strict=True):
        assert set(np.unique(case.labels)) <= {0, 1, 2} and bool((case.labels == 1).any())
        mine = np.bincount(case.labels.ravel(), minlength=3)[1:] * np.prod(case.spacing_mm)
        cropped = np.bincount(whole.labels[:, :, 9:27].ravel(), minlength=3)[1:] * np.prod(whole.spacing_mm)
        assert np.allclose(mine, cropped, rtol=0.25)
