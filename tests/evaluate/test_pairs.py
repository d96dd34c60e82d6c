"""Pairing files by case, and refusing pairs that do not belong together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from verdiff.errors import DataError, InputError
from verdiff.evaluate.cases import case_name, load_pair, mask_files, pair_cases, validation_cases


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def write(path: Path, array: np.ndarray, spacing=(0.5, 0.75, 3.0), origin=(0.0, 0.0, 0.0)) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def labels() -> np.ndarray:
    array = np.zeros((4, 6, 8), dtype=np.uint8)
    array[1:3, 2:5, 2:6] = 2
    return array


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("spider005.nii.gz", "spider005"),
        ("spider005_0000_seg.nii.gz", "spider005"),
        ("t2_seg.mha", "t2"),
        ("xray001.PNG", "xray001"),
        ("v1.2.nrrd", "v1.2"),
    ],
)
def test_a_case_is_named_by_its_file_without_what_tools_append(name, case):
    assert case_name(Path(name)) == case


def test_beside_scans_and_previews_only_files_marked_seg_are_masks(tmp_path):
    folder = touch(tmp_path / "out", "a.nii.gz", "a_seg.nii.gz", "a_uncertainty.nii.gz", "a_seg.json", "a_preview.png")
    assert mask_files(folder) == {"a": folder / "a_seg.nii.gz"}


def test_what_macos_keeps_beside_masks_is_none(tmp_path):
    assert mask_files(touch(tmp_path / "out", "a.nii.gz", "._a.nii.gz", "._b.nii.gz")).keys() == {"a"}


def test_two_masks_of_one_case_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.mha and a\.nii\.gz"):
        mask_files(touch(tmp_path / "out", "a.nii.gz", "a.mha"))


@pytest.mark.parametrize("make", [False, True], ids=["missing", "empty"])
def test_a_folder_without_masks_is_refused(tmp_path, make):
    folder = touch(tmp_path / "out") if make else tmp_path / "out"
    with pytest.raises(DataError):
        mask_files(folder)


def test_a_missing_mask_on_either_side_is_an_error_that_names_every_case(tmp_path):
    predictions = touch(tmp_path / "p", "a.nii.gz", "b.nii.gz")
    references = touch(tmp_path / "r", "b.nii.gz", "c.nii.gz")
    with pytest.raises(DataError) as caught:
        pair_cases(predictions, references)
    assert "no prediction for c" in caught.value.found
    assert "no reference for a" in caught.value.found


def test_listed_cases_are_paired_and_the_others_left_alone(tmp_path):
    predictions = touch(tmp_path / "p", "b_seg.nii.gz", "c_seg.nii.gz")
    references = touch(tmp_path / "r", "a.nii.gz", "b.nii.gz")
    assert [(pair.case, pair.prediction.name) for pair in pair_cases(predictions, references, ["b"])] == [
        ("b", "b_seg.nii.gz")
    ]


def test_a_listed_case_without_a_mask_is_an_error(tmp_path):
    predictions, references = touch(tmp_path / "p", "b.nii.gz"), touch(tmp_path / "r", "b.nii.gz")
    with pytest.raises(DataError, match="no prediction for d"):
        pair_cases(predictions, references, ["b", "d"])


def test_two_files_are_a_pair_whatever_their_names(tmp_path):
    folder = touch(tmp_path / "f", "mine.nii.gz", "expert.nii.gz")
    [pair] = pair_cases(folder / "mine.nii.gz", folder / "expert.nii.gz")
    assert (pair.case, pair.prediction.name) == ("expert", "mine.nii.gz")


def test_the_validation_cases_of_a_fold(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": ["a"], "val": ["b", "c"]}, {"train": ["b"], "val": ["a"]}]), "utf-8")
    assert validation_cases(path, 0) == ["b", "c"]


@pytest.mark.parametrize(("content", "fold"), [("[]", 0), ("{", 0), ('[{"train": []}]', 0), ('[{"val": ["a"]}]', -1)])
def test_a_fold_that_is_not_there_is_refused(tmp_path, content, fold):
    path = tmp_path / "splits_final.json"
    path.write_text(content, "utf-8")
    with pytest.raises(DataError):
        validation_cases(path, fold)


def test_a_pair_on_one_grid_loads_with_its_spacing_in_array_order(tmp_path, labels):
    write(tmp_path / "p" / "a.nii.gz", labels)
    write(tmp_path / "r" / "a.mha", labels.astype(np.float32))
    [pair] = pair_cases(tmp_path / "p", tmp_path / "r")
    loaded = load_pair(pair)
    assert loaded.spacing_mm == pytest.approx((3.0, 0.75, 0.5))
    assert np.array_equal(loaded.prediction, labels)
    assert np.array_equal(loaded.reference, labels)
    assert loaded.reference.dtype.kind in "iu"


def test_masks_without_any_structure_are_masks_all_the_same(tmp_path, labels):
    write(tmp_path / "p" / "a.nii.gz", np.zeros_like(labels))
    write(tmp_path / "r" / "a.nii.gz", np.zeros_like(labels))
    [pair] = pair_cases(tmp_path / "p", tmp_path / "r")
    assert not load_pair(pair).prediction.any()


@pytest.mark.parametrize(
    "other",
    [{"spacing": (0.5, 0.75, 3.1)}, {"origin": (0.0, 0.5, 0.0)}, {"rows": 5}],
    ids=["spacing", "origin", "size"],
)
def test_masks_on_different_grids_are_refused_by_case(tmp_path, labels, other):
    rows = other.pop("rows", labels.shape[1])
    write(tmp_path / "p" / "a.nii.gz", labels[:, :rows], **other)
    write(tmp_path / "r" / "a.nii.gz", labels)
    [pair] = pair_cases(tmp_path / "p", tmp_path / "r")
    with pytest.raises(DataError, match="case a"):
        load_pair(pair)


@pytest.mark.parametrize("value", [0.5, -1.0])
def test_values_that_are_no_label_ids_are_refused(tmp_path, labels, value):
    write(tmp_path / "p" / "a.nii.gz", np.where(labels, value, 0).astype(np.float32))
    write(tmp_path / "r" / "a.nii.gz", labels)
    [pair] = pair_cases(tmp_path / "p", tmp_path / "r")
    with pytest.raises(InputError, match="mask"):
        load_pair(pair)


def test_a_file_that_is_no_image_is_an_input_error(tmp_path, labels):
    touch(tmp_path / "p", "a.nii.gz")
    write(tmp_path / "r" / "a.nii.gz", labels)
    [pair] = pair_cases(tmp_path / "p", tmp_path / "r")
    with pytest.raises(InputError):
        load_pair(pair)


def test_slicer_s_segmentation_files_are_masks_of_their_case() -> None:
    for name in ("spider001.seg.nrrd", "spider001_seg.seg.nrrd", "spider001_seg.nrrd", "spider001.nii.gz"):
        assert case_name(Path(name)) == "spider001"
