"""Soft masks from the scan's own or finer pixels, and pixels of which nothing is known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from tests.train.toy import toy_case, write_raw_dataset
from verdiff.errors import DataError
from verdiff.train.augment import crop_and_warp
from verdiff.train.batches import generator_for
from verdiff.train.config import AugmentConfig, DataConfig
from verdiff.train.data.cases import IGNORE
from verdiff.train.data.check import check_dataset
from verdiff.train.data.nnunet import read_raw
from verdiff.train.losses import UNKNOWN, logit_loss, soft_dice_loss
from verdiff.train.validate import dice_of_case, dice_per_class

COARSE = DataConfig(spacing_mm=2.0, intensity_low=0, intensity_high=100, soft_masks=True)
STILL = AugmentConfig(0.0, 0.0, 0.0, 0.0)


def test_a_pixel_holds_the_share_of_it_that_a_structure_covers(tmp_path: Path) -> None:
    case = read_raw(write_raw_dataset(tmp_path / "Dataset900_Toy"), COARSE).cases[0]
    assert case.coverage is not None and case.own is not None
    assert case.coverage.shape == (3, 2, 20, 18) and case.own.shape == (3, 40, 36)
    partly = (case.coverage > 20) & (case.coverage < 235)
    assert 0.02 < partly.mean() < 0.3
    # Averages keep the area: a pixel of the model is four of the scan.
    area = case.coverage.sum(axis=(0, 2, 3)) / 255 * 4
    assert area == pytest.approx([(case.own == 1).sum(), (case.own == 2).sum()], rel=0.01)


def test_without_soft_masks_there_is_one_label_a_pixel(tmp_path: Path) -> None:
    hard = dataclasses.replace(COARSE, soft_masks=False)
    assert read_raw(write_raw_dataset(tmp_path / "Dataset900_Toy"), hard).cases[0].coverage is None


def finer_masks(folder: Path, factor: int = 2, slices: int = 1) -> None:
    """The masks once more with finer pixels over the same field of view, and so many slices for each."""
    (folder / "labelsFull").mkdir()
    for path in (folder / "labelsTr").iterdir():
        mask = sitk.ReadImage(str(path))
        array = sitk.GetArrayFromImage(mask).repeat(slices, axis=0).repeat(factor, axis=1).repeat(factor, axis=2)
        # One pixel more of the first structure than the coarse mask could show.
        array[:, :, 1:][(array[:, :, :-1] == 1) & (array[:, :, 1:] == 0)] = 1
        fine = sitk.GetImageFromArray(array)
        fine.SetDirection(mask.GetDirection())
        sx, sy, sz = mask.GetSpacing()
        fine.SetSpacing((sx / factor, sy / factor, sz / slices))
        shift = [-0.5 + 0.5 / count for count in (factor, factor, slices)]
        fine.SetOrigin(mask.TransformContinuousIndexToPhysicalPoint(shift))
        sitk.WriteImage(fine, str(folder / "labelsFull" / path.name))


def test_finer_masks_give_the_shares_and_the_labels_to_validate_on(tmp_path: Path) -> None:
    folder = write_raw_dataset(tmp_path / "Dataset900_Toy")
    finer_masks(folder)
    as_is = dataclasses.replace(COARSE, spacing_mm=1.0)
    case = read_raw(folder, as_is).cases[0]
    assert case.own is not None and case.own.shape == (3, 80, 72) and case.images.shape == (3, 40, 36)
    assert case.coverage is not None and bool(((case.coverage > 100) & (case.coverage < 155)).any())
    assert check_dataset(folder).usable


def test_a_finer_mask_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = write_raw_dataset(tmp_path / "Dataset900_Toy")
    finer_masks(folder)
    path = next((folder / "labelsFull").iterdir())
    mask = sitk.ReadImage(str(path))
    mask.SetOrigin((20.0, 0.0, 0.0))
    sitk.WriteImage(mask, str(path))
    with pytest.raises(DataError, match="labelsFull"):
        read_raw(folder, COARSE)


def test_a_finer_mask_with_more_slices_than_its_image_is_refused(tmp_path: Path) -> None:
    folder = write_raw_dataset(tmp_path / "Dataset900_Toy")
    finer_masks(folder, slices=2)
    with pytest.raises(DataError, match=r"labelsFull has 6 slices \(sagittal\)"):
        read_raw(folder, COARSE)
    findings = check_dataset(folder).findings
    assert {finding.expected.partition(":")[0] for finding in findings if finding.fatal} == {"the image's 3"}


def ignoring(folder: Path) -> Path:
    """The toy data set with its discs labelled as ignored."""
    description = json.loads((folder / "dataset.json").read_text("utf-8"))
    description["labels"] = {"background": 0, "vertebra": 1, "ignore": 2}
    (folder / "dataset.json").write_text(json.dumps(description), "utf-8")
    return folder


def test_nnu_nets_ignore_label_is_read_and_checked(tmp_path: Path) -> None:
    folder = ignoring(write_raw_dataset(tmp_path / "Dataset900_Toy"))
    dataset = read_raw(folder, dataclasses.replace(COARSE, spacing_mm=1.0))
    assert dataset.labels == ("vertebra",)
    assert set(np.unique(dataset.cases[0].labels)) == {0, 1, IGNORE}
    report = check_dataset(folder)
    assert report.usable and report.labels == {"vertebra": 1}


def test_a_coarse_pixel_that_touches_an_ignored_one_is_ignored(tmp_path: Path) -> None:
    folder = ignoring(write_raw_dataset(tmp_path / "Dataset900_Toy"))
    fine = read_raw(folder, dataclasses.replace(COARSE, spacing_mm=1.0)).cases[0].labels == IGNORE
    coarse = read_raw(folder, COARSE).cases[0].labels == IGNORE
    touched = fine.reshape(3, 20, 2, 18, 2).any(axis=(2, 4))
    assert bool(coarse[touched].all())


def test_ignored_pixels_stay_unknown_through_the_warp() -> None:
    label = torch.zeros(32, 32, dtype=torch.uint8)
    label[8:16, 8:24], label[20:28, 8:24] = 1, IGNORE
    moving = AugmentConfig(30.0, 0.05, 3.0, 0.0, zoom=1.3)
    for seed in range(5):
        _, truth = crop_and_warp(torch.zeros(32, 32), label, (32, 32), moving, generator_for(seed, 0), classes=1)
        assert set(np.unique(truth.numpy())) == {UNKNOWN, 0.0, 1.0}
    _, still = crop_and_warp(torch.zeros(32, 32), label, (32, 32), STILL, generator_for(0, 0), classes=1)
    assert bool((still[0][label == IGNORE] == UNKNOWN).all()) and int((still == UNKNOWN).sum()) == 8 * 16


def test_shares_go_through_the_warp_without_a_threshold() -> None:
    coverage = torch.zeros(1, 32, 32, dtype=torch.uint8)
    coverage[0, 10:20, 10:20] = 102
    label = torch.zeros(32, 32, dtype=torch.uint8)
    _, truth = crop_and_warp(
        torch.zeros(32, 32), label, (32, 32), STILL, generator_for(0, 0), classes=1, coverage=coverage
    )
    assert float(truth.max()) == pytest.approx(0.4, abs=1e-5)


def test_what_is_unknown_has_no_part_in_a_loss() -> None:
    logits = torch.randn(2, 2, 8, 8, requires_grad=True)
    truth = (torch.rand(2, 2, 8, 8) > 0.5).float()
    truth[:, 1], truth[0, 0, :4] = UNKNOWN, UNKNOWN
    logit_loss(logits, truth, 1.0, 1.0).backward()
    assert logits.grad is not None
    assert not bool(logits.grad[truth == UNKNOWN].any()) and bool(logits.grad[truth >= 0].all())


def test_the_dice_loss_of_a_soft_truth_is_least_at_the_truth() -> None:
    truth = torch.full((1, 1, 4, 4), 0.4)
    losses = {share: float(soft_dice_loss(torch.full_like(truth, share), truth)) for share in (0.2, 0.4, 0.6, 1.0)}
    assert min(losses, key=lambda share: losses[share]) == 0.4 and losses[0.4] == pytest.approx(0, abs=1e-6)


def test_scores_leave_out_what_is_ignored_and_what_is_not_labelled() -> None:
    case = toy_case("a", 1)
    labels = case.labels.copy()
    labels[labels == 2] = IGNORE
    shown = np.where(case.labels == 2, 1, case.labels)
    assert dice_per_class(shown, labels, 1).tolist() == [1.0]
    probabilities = np.stack([case.labels == 1, case.labels == 2], axis=1).astype(np.float32)
    scores = dice_of_case(probabilities, dataclasses.replace(case, unknown=(1,)), np.arange(3), 2)
    assert scores[0] == 1.0 and np.isnan(scores[1])


def test_scores_are_those_of_the_scans_own_pixels() -> None:
    case = toy_case("a", 1)
    own = case.labels.repeat(2, axis=1).repeat(2, axis=2)
    own[:, :, 1:][(own[:, :, :-1] > 0) & (own[:, :, 1:] == 0)] = 1
    probabilities = np.stack([case.labels == 1, case.labels == 2], axis=1).astype(np.float32)
    scores = dice_of_case(probabilities, dataclasses.replace(case, own=own), np.arange(3), 2)
    # The fine mask has a column more than the coarse one can show.
    assert 0.95 < scores[0] < 1
