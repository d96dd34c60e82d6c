"""Windows to train on: reproducible, whole, changed alike in all their slices."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.train.toy3d import PATCH, SPACING, STILL, toy_config3d, toy_volume
from verdiff.train.augment import crop_and_warp
from verdiff.train.batches import generator_for
from verdiff.train.batches3d import make_batch3d, pad_to_patch, verification_windows
from verdiff.train.config import AugmentConfig
from verdiff.train.data.cases import CaseSlices
from verdiff.train.losses import UNKNOWN

EVERYTHING = AugmentConfig(
    zoom=1.2, gamma=0.3, bias_field=0.3, blur_px=1.0, low_resolution=2.0, field_of_view=0.5, mirror=True
)


def test_a_batch_depends_on_its_seed_alone_and_has_the_patchs_size() -> None:
    cases, config = [toy_volume("a", 0), toy_volume("b", 1)], toy_config3d(EVERYTHING, batch=3)
    image, truth = make_batch3d(cases, 2, config, generator_for(35, 7))
    again, truth_again = make_batch3d(cases, 2, config, generator_for(35, 7))
    other, _ = make_batch3d(cases, 2, config, generator_for(35, 8))
    assert image.shape == (3, 1, *PATCH) and truth.shape == (3, 2, *PATCH)
    assert torch.equal(image, again) and torch.equal(truth, truth_again) and not torch.equal(image, other)
    assert set(truth.unique().tolist()) == {0.0, 1.0} and bool((truth.sum(dim=1) <= 1).all())
    assert float(image.min()) >= -1 and float(image.max()) <= 1


def test_every_change_but_noise_is_the_same_in_all_slices() -> None:
    one = toy_volume("a", 0)
    same = dataclasses.replace(
        one, images=np.repeat(one.images[2:3], 6, axis=0), labels=np.repeat(one.labels[2:3], 6, axis=0)
    )
    for iteration in range(8):
        image, truth = make_batch3d([same], 2, toy_config3d(EVERYTHING, batch=1), generator_for(35, iteration))
        assert torch.allclose(image, image[:, :, :1].expand_as(image), atol=1e-6)
        assert torch.equal(truth, truth[:, :, :1].expand_as(truth))


def test_a_volume_is_warped_as_each_of_its_slices_alone() -> None:
    case = toy_volume("a", 0)
    image, label = torch.from_numpy(case.images.astype(np.float32)), torch.from_numpy(case.labels)
    config = AugmentConfig(zoom=1.3)
    whole, truth = crop_and_warp(image, label, (32, 16), config, generator_for(0, 0), classes=2)
    for index in range(len(image)):
        alone, alone_truth = crop_and_warp(image[index], label[index], (32, 16), config, generator_for(0, 0), classes=2)
        assert torch.allclose(whole[:, index], alone, atol=1e-6) and torch.equal(truth[:, index], alone_truth)


def test_slices_keep_their_order_and_stay_neighbours() -> None:
    images = np.broadcast_to(np.linspace(-0.5, 0.5, 9, dtype=np.float16)[:, None, None], (9, 32, 16)).copy()
    case = CaseSlices("steps", images, np.zeros(images.shape, np.uint8), SPACING)
    starts = set()
    for iteration in range(40):
        image, _ = make_batch3d([case], 2, toy_config3d(STILL, batch=1), generator_for(0, iteration))
        index = torch.round((image[0, 0, :, 16, 8] + 0.5) * 8).int().tolist()
        assert index == list(range(index[0], index[0] + 4))
        starts.add(index[0])
    assert starts == set(range(6))


def test_a_volume_smaller_than_the_patch_is_padded_with_its_darkest_voxel() -> None:
    case = toy_volume("small", 0, (3, 30, 14))
    image, truth = make_batch3d([case], 2, toy_config3d(STILL, batch=1), generator_for(0, 0))
    darkest = float(case.images.min())
    assert torch.allclose(image[0, 0, 3], torch.tensor(darkest), atol=1e-6) and not truth[0, :, 3].any()
    # Rows and columns: the slice lies in the middle, a row and a column of padding on each side.
    assert torch.allclose(image[0, 0, :, 0], torch.tensor(darkest), atol=1e-6)
    shown = torch.from_numpy(case.images.astype(np.float32))
    assert torch.allclose(image[0, 0, :3, 1:-1, 1:-1], shown, atol=1e-5)
    assert torch.equal(truth[0, :, :3, 1:-1, 1:-1].argmax(0)[shown > 0.5], torch.ones(int((shown > 0.5).sum())).long())


def test_a_structure_that_the_data_set_does_not_label_is_unknown_in_every_window() -> None:
    case = dataclasses.replace(toy_volume("a", 0), unknown=(1,))
    _, truth = make_batch3d([case], 2, toy_config3d(batch=3), generator_for(35, 0))
    assert bool((truth[:, 1] == UNKNOWN).all()) and set(truth[:, 0].unique().tolist()) == {0.0, 1.0}


def test_a_third_of_the_windows_of_a_large_volume_are_laid_on_a_structure() -> None:
    labels = np.zeros((40, 128, 64), np.uint8)
    labels[30, 100, 50] = 1
    case = CaseSlices("large", labels.astype(np.float16) - 0.5, labels, SPACING)
    hits = sum(
        bool(make_batch3d([case], 2, toy_config3d(STILL, batch=1), generator_for(0, i))[0].max() > -0.4)
        for i in range(120)
    )
    # By chance alone it would be one window in sixty or fewer.
    assert 24 <= hits <= 60


def test_padding_is_behind_below_and_to_the_right_and_large_volumes_have_none() -> None:
    images = np.random.default_rng(0).random((3, 30, 20)).astype(np.float16)
    padded = pad_to_patch(images, PATCH)
    assert padded.shape == (4, 32, 20) and padded.dtype == np.float32
    assert np.array_equal(padded[:3, :30], images.astype(np.float32))
    assert np.all(padded[3] == images.min()) and np.all(padded[:, 30:] == images.min())


@pytest.mark.parametrize("count", [2, 9])
def test_verification_windows_are_the_middles_of_at_most_six_patients(count: int) -> None:
    cases = [toy_volume(f"p{index}", index, (6, 40, 20)) for index in range(count)]
    windows = verification_windows(cases, toy_config3d())
    assert windows.shape == (min(count, 6), *PATCH) and windows.dtype == np.float16
    assert np.array_equal(windows[1], cases[1].images[1:5, 4:36, 2:18])
