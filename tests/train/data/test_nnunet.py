"""nnU-Net raw data sets and the prepared cache."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.train.toy import toy_case, toy_dataset, write_raw_dataset
from verdiff.errors import DataError, OutputError
from verdiff.imaging import Geometry, SlicePlan, plan_slices
from verdiff.train.config import DataConfig, RunConfig
from verdiff.train.data.cases import read_cache, write_cache
from verdiff.train.data.layout import Description
from verdiff.train.data.masks import labels_on
from verdiff.train.data.nnunet import load_dataset, read_raw

VOLUMES = DataConfig(modality="MR", view="sagittal", spacing_mm=1.0, intensity_low=0, intensity_high=100)


def test_a_raw_data_set_becomes_cases_in_canonical_orientation(tmp_path: Path) -> None:
    dataset = read_raw(write_raw_dataset(tmp_path / "Dataset900_Toy"), VOLUMES)
    assert dataset.labels == ("vertebra", "disc") and dataset.label_ids == (1, 2)
    case, source = dataset.cases[0], toy_case("toy0", 0)
    # The files' slices run from left to right, canonical ones from right to left.
    assert np.array_equal(case.labels, source.labels[::-1])
    assert case.images.dtype == np.float16 and np.abs(case.images).max() <= 1
    assert dataset.statistics["slice_spacing_mm"] == [3.0, 3.0]


def test_films_are_read_as_single_slices(tmp_path: Path) -> None:
    folder = write_raw_dataset(tmp_path / "Dataset901_Films", ending=".png")
    dataset = read_raw(folder, DataConfig(modality="XR", view="film", spacing_mm=None))
    assert dataset.cases[0].labels.shape == (1, 40, 36)
    assert np.array_equal(dataset.cases[0].labels[0], toy_case("toy0", 0).labels[0])


def test_a_coarser_model_spacing_shrinks_image_and_mask_together(tmp_path: Path) -> None:
    config = DataConfig(modality="MR", view="sagittal", spacing_mm=2.0)
    case = read_raw(write_raw_dataset(tmp_path / "d"), config).cases[0]
    assert case.images.shape == case.labels.shape == (3, 20, 18)
    full = toy_case("toy0", 0).labels
    assert (case.labels == 1).sum() * 4 == pytest.approx((full == 1).sum(), rel=0.15)
    assert case.spacing_mm == (2.0, 2.0, 3.0)


def test_the_cache_gives_back_what_was_prepared(tmp_path: Path) -> None:
    dataset = toy_dataset()
    write_cache(dataset, tmp_path / "cache")
    again = load_dataset(tmp_path / "cache", RunConfig().data)
    assert again.labels == dataset.labels and again.splits == dataset.splits and again.statistics == dataset.statistics
    assert again.preparation == dataset.preparation
    for ours, theirs in zip(again.cases, dataset.cases, strict=True):
        assert ours.name == theirs.name and ours.spacing_mm == theirs.spacing_mm
        assert np.array_equal(ours.images, theirs.images) and np.array_equal(ours.labels, theirs.labels)


def _edit(path: Path, **changes: object) -> None:
    values = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**values, **changes}), "utf-8")


def _paint(path: Path, value: int) -> None:
    """Every voxel of a mask becomes ``value``."""
    import SimpleITK as sitk

    mask = sitk.ReadImage(str(path))
    sitk.WriteImage(mask * 0 + value, str(path))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "labelsTr" / "toy1.nii.gz").unlink(), "toy1 with an image only"),
        (lambda d: (d / "imagesTr" / "toy2_0000.nii.gz").unlink(), "toy2 with a mask only"),
        (lambda d: (d / "dataset.json").unlink(), "dataset.json cannot be read"),
        (lambda d: (d / "dataset.json").write_text("{", "utf-8"), "dataset.json cannot be read"),
        (lambda d: _edit(d / "dataset.json", labels={"background": 0, "vertebra": 1}), "case toy0: label 2"),
        (lambda d: (d / "splits_final.json").write_text("{", "utf-8"), "splits_final.json cannot be read"),
        (lambda d: (d / "splits_final.json").write_text('{"train": []}', "utf-8"), "splits_final.json holds no folds"),
        (lambda d: _edit(d / "dataset.json", file_ending=".mha"), "nothing named CASE.mha"),
        (lambda d: _edit(d / "dataset.json", file_ending="nii.gz"), "file_ending 'nii.gz'"),
        (lambda d: _edit(d / "dataset.json", labels={"background": 0, "vertebra": 1, "disc": [1, 2]}), "region 'disc'"),
        (lambda d: _edit(d / "dataset.json", labels={"background": 1, "vertebra": 2}), "'background' the id 1"),
        (lambda d: _edit(d / "dataset.json", labels={"vertebra": 1, "disc": 1}), "'vertebra' and 'disc' the id 1"),
        (lambda d: _edit(d / "dataset.json", labels={"vertebra": 0, "disc": 2}), "'vertebra' the id 0"),
        (lambda d: _edit(d / "dataset.json", labels={"background": 0, "ignore": 3}), "names no structure"),
        (lambda d: _edit(d / "dataset.json", labels={"background": 0}), "names no structure"),
        (lambda d: _edit(d / "dataset.json", labels=["vertebra"]), "labels that are no table"),
        (
            lambda d: _edit(d / "dataset.json", labels={"background": 0, "vertebra": 1, "disc": 2, "canal": 3}),
            r"structure 'canal' \(label 3\) is in none of the 3 masks",
        ),
        (lambda d: _edit(d / "dataset.json", patients={f"toy{i}": "one" for i in range(3)}), "one patient only, one"),
        (lambda d: _edit(d / "dataset.json", patients={"toy0": "p", "toy1": "p"}), "patient p is in val of fold 0"),
        (lambda d: _edit(d / "dataset.json", patients={"toy7": "p"}), "case toy7"),
        (lambda d: _paint(d / "labelsTr" / "toy1.nii.gz", 0), "case toy1: its mask is empty"),
        (lambda d: _paint(d / "labelsTr" / "toy1.nii.gz", 9), r"case toy1: label 9 \(4320 voxels\)"),
        (lambda d: (d / "imagesTr" / "toy1_0000.nii.gz").write_bytes(b"no image"), "case toy1"),
    ],
)
def test_a_damaged_data_set_names_the_case_or_file(tmp_path: Path, damage: object, message: str) -> None:
    folder = write_raw_dataset(tmp_path / "d")
    damage(folder)  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        read_raw(folder, VOLUMES)


def test_a_mask_may_be_empty_where_the_data_set_says_so(tmp_path: Path) -> None:
    folder = write_raw_dataset(tmp_path / "d")
    _paint(folder / "labelsTr" / "toy1.nii.gz", 0)
    _edit(folder / "dataset.json", empty_masks=["toy1"])
    assert not read_raw(folder, VOLUMES).cases[1].labels.any()


def test_without_splits_each_patient_is_validated_on_once(tmp_path: Path) -> None:
    folder = write_raw_dataset(tmp_path / "d", cases=4)
    (folder / "splits_final.json").unlink()
    _edit(folder / "dataset.json", patients={"toy0": "p", "toy3": "p"})
    dataset = read_raw(folder, VOLUMES)
    assert sorted(tuple(split["val"]) for split in dataset.splits) == [("toy0", "toy3"), ("toy1",), ("toy2",)]


def test_folds_can_be_made_anew_with_the_patients_the_data_set_knows(tmp_path: Path) -> None:
    folder = write_raw_dataset(tmp_path / "d", cases=4)
    _edit(folder / "dataset.json", patients={"toy1": "p", "toy2": "p"})
    write_cache(read_raw(folder, VOLUMES), tmp_path / "cache")
    dataset = read_cache(tmp_path / "cache").refolded(2)
    assert len(dataset.splits) == 2
    assert any({"toy1", "toy2"} <= set(split["val"]) for split in dataset.splits)
    with pytest.raises(DataError, match="4 folds of 4 cases from 3 patients"):
        dataset.refolded(4)


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    import SimpleITK as sitk

    folder = write_raw_dataset(tmp_path / "d")
    path = str(folder / "labelsTr" / "toy1.nii.gz")
    mask = sitk.ReadImage(path)
    mask.SetOrigin((5.0, 0.0, 0.0))
    sitk.WriteImage(mask, path)
    with pytest.raises(DataError, match=r"case toy1.*one grid"):
        read_raw(folder, VOLUMES)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": ["toy0", "toy1"], "val": ["toy1"]}, "toy1 is in train and val"),
        ({"train": ["toy0"], "val": ["other"]}, "names the case other"),
        ({"train": [], "val": ["toy1"]}, "0 training and 1 validation"),
    ],
)
def test_a_wrong_split_is_refused_before_training(split: dict[str, list[str]], message: str) -> None:
    dataset = toy_dataset()
    broken = dataclasses.replace(dataset, splits=(split,))
    with pytest.raises(DataError, match=message):
        broken.fold(0)
    with pytest.raises(DataError, match="fold 1"):
        broken.fold(1)


def test_a_fold_that_never_trains_on_a_structure_is_refused() -> None:
    dataset = toy_dataset()
    dataset.cases[0].labels[dataset.cases[0].labels == 2] = 0
    split = {"train": ["toy0"], "val": ["toy1"]}
    broken = dataclasses.replace(dataset, splits=(split,))
    with pytest.raises(DataError, match="'disc' is in none of the 1 training masks of fold 0"):
        broken.fold(0)
    for case in dataset.cases[2:]:
        case.labels[case.labels == 2] = 0
    train, _ = broken.fold(0)
    assert [case.name for case in train] == ["toy0"], "what one patient has cannot be on both sides"


def test_the_structure_that_covers_half_of_a_coarse_pixel_gets_it() -> None:
    """Two structures and the background meet in one pixel of the model: 2 x 2 pixels of the scan."""
    plan = plan_slices(Geometry((4, 4, 1), (1.0, 1.0, 1.0)), view="film", spacing_mm=2.0)
    planes = np.array([[[1, 1, 1, 2], [1, 1, 1, 2], [1, 0, 2, 2], [0, 0, 2, 0]]])
    description = Description(".png", {"a": 1, "b": 2})
    assert labels_on(plan, planes, description).tolist() == _argmax_of_all(plan, planes, 2).tolist()


def _argmax_of_all(plan: SlicePlan, planes: np.ndarray, count: int) -> np.ndarray:
    covered = np.concatenate([plan.to_model(2.0 * (planes == k + 1) - 1) for k in range(count)], axis=1)
    return np.where(covered.max(axis=1) > 0, covered.argmax(axis=1) + 1, 0)


@pytest.mark.parametrize(("key", "value"), [("spacing_mm", 0.5), ("intensity_kind", "zscore"), ("crop", 0.5)])
def test_a_cache_made_with_other_settings_is_refused(tmp_path: Path, key: str, value: object) -> None:
    # What is trained on it would be deployed with the configuration's preparation, which it has never seen.
    write_cache(toy_dataset(), tmp_path / "cache")
    other = dataclasses.replace(RunConfig().data, **{key: value})
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path / "cache", other)
    assert f"{key} = {getattr(RunConfig().data, key)}" in caught.value.found
    assert f"{key} = {value}" in caught.value.expected
    assert "--prepare" in caught.value.remedy


def test_one_cache_serves_whole_scans_and_their_middle_slices(tmp_path: Path) -> None:
    write_cache(toy_dataset(), tmp_path / "cache")
    middle = load_dataset(tmp_path / "cache", dataclasses.replace(RunConfig().data, middle_slices=1))
    assert {len(case.images) for case in middle.cases} == {1}


def test_an_unfinished_cache_is_refused(tmp_path: Path) -> None:
    write_cache(toy_dataset(), tmp_path / "cache")
    (tmp_path / "cache" / "toy1.npz").write_bytes(b"")
    with pytest.raises(DataError, match="not a complete cache"):
        read_cache(tmp_path / "cache")


def test_a_cache_replaces_a_cache_of_verdiffs_and_nothing_else(tmp_path: Path) -> None:
    folder, cache = tmp_path / "cache", toy_dataset()
    for _ in range(2):
        write_cache(cache, folder)
    assert [case.name for case in read_cache(folder).cases] == [case.name for case in cache.cases]
    index = folder / "index.json"
    index.write_text(index.read_text("utf-8") + " ", "utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OutputError, match=r"index\.json is there"):
        write_cache(cache, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    index.unlink()
    with pytest.raises(OutputError, match=r"toy0\.npz is there"):
        write_cache(cache, folder)
