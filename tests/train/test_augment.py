"""Augmentation and damage to the prior."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from tests.train.toy import toy_case, toy_config
from verdiff.train.augment import change_intensity, crop_and_warp
from verdiff.train.batches import generator_for, make_batch
from verdiff.train.config import AugmentConfig
from verdiff.train.corrupt import DAMAGES, corrupt_prior, grow, shift

STILL = AugmentConfig(0.0, 0.0, 0.0, 0.0)


def test_no_augmentation_returns_the_slice_itself() -> None:
    case = toy_case("a", 1)
    image, label = torch.from_numpy(case.images[0].astype(np.float32)), torch.from_numpy(case.labels[0])
    warped, truth = crop_and_warp(image, label, (40, 36), STILL, generator_for(0, 0), classes=2)
    assert torch.allclose(warped[0], image, atol=1e-4)
    assert torch.equal(truth, torch.stack([label == 1, label == 2]).float())
    assert torch.allclose(change_intensity(warped, STILL, generator_for(0, 0)), warped, atol=1e-6)


def test_image_and_truth_move_together() -> None:
    config = AugmentConfig(30.0, 0.05, 3.0, 0.0, zoom=1.3)
    label = torch.zeros(64, 64, dtype=torch.uint8)
    label[20:44, 16:48] = 1
    for seed in range(5):
        warped, truth = crop_and_warp(label.float() * 2 - 1, label, (64, 64), config, generator_for(seed, 0), classes=1)
        assert torch.equal((warped > 0).float(), truth)


def test_outside_the_image_is_background() -> None:
    ones = torch.ones(16, 16)
    warped, truth = crop_and_warp(ones, ones.to(torch.uint8), (32, 32), STILL, generator_for(0, 0), classes=1)
    assert warped[0, 0, 0] == -1 and truth[0, 0, 0] == 0 and warped[0, 16, 16] == 1


def test_intensities_stay_in_range_and_do_change() -> None:
    config = AugmentConfig(0, 0, 0, 0.3, gamma=0.4, bias_field=0.5, blur_px=1.5, noise=0.2, low_resolution=3.0)
    image = torch.linspace(-1, 1, 48 * 40).reshape(1, 48, 40)
    for seed in range(20):
        changed = change_intensity(image, config, generator_for(seed, 0))
        assert changed.shape == image.shape and changed.abs().max() <= 1 and not torch.equal(changed, image)


def test_a_batch_depends_on_seed_and_iteration_alone() -> None:
    cases = [toy_case("a", 1), toy_case("b", 2)]
    first, again, later = (make_batch(cases, 2, toy_config(), generator_for(35, i)) for i in (4, 4, 5))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], later[0])


def test_whole_slices_are_padded_to_the_multiple_and_not_squared() -> None:
    image, truth = make_batch([toy_case("a", 1, rows=41, cols=30)], 2, toy_config(crop=None), generator_for(0, 0))
    assert image.shape == (2, 1, 44, 32) and truth.shape == (2, 2, 44, 32)


def test_a_small_field_of_view_varies_in_size_and_is_mostly_on_the_spine() -> None:
    config = toy_config(crop=(32, 32), batch=3)
    config = dataclasses.replace(config, augment=dataclasses.replace(STILL, small_field=1.0))
    sizes, with_spine = set(), 0
    for seed in range(12):
        image, truth = make_batch([toy_case("a", 1), toy_case("b", 2)], 2, config, generator_for(seed, 0))
        sizes.add(image.shape[2:])
        assert image.shape[2] % 4 == 0 and image.shape[3] % 4 == 0 and max(image.shape[2:]) <= 32
        with_spine += int((truth.sum(dim=(1, 2, 3)) > 0).sum())
        assert image.abs().max() <= 1
    assert len(sizes) > 3 and 12 < with_spine <= 36


def test_shift_and_growth_do_what_they_say() -> None:
    prior = torch.full((1, 9, 9), -1.0)
    prior[0, 4, 4] = 1.0
    assert shift(prior, 2, -3)[0, 6, 1] == 1 and shift(prior, 2, -3).sum() == prior.sum()
    assert (grow(prior, 1) > 0).sum() == 9 and (grow(grow(prior, 2), -2) > 0).sum() == 1
    assert (grow(prior, -1) > 0).sum() == 0


def test_every_damage_changes_a_prior_and_keeps_its_range() -> None:
    prior = torch.full((2, 32, 32), -0.9)
    prior[0, 8:20, 8:20], prior[1, 22:28, 8:20] = 0.9, 0.9
    for damage in DAMAGES:
        damaged = [damage(prior, generator_for(seed, 0)) for seed in range(8)]
        assert any(not torch.equal(d, prior) for d in damaged), damage.__name__
        assert all(d.shape == prior.shape and d.abs().max() <= 1 for d in damaged), damage.__name__


def test_the_share_of_damaged_priors_is_the_one_asked_for() -> None:
    prior = torch.rand(400, 1, 8, 8) * 2 - 1
    damaged = corrupt_prior(prior, 0.5, generator_for(0, 0))
    share = (damaged != prior).flatten(1).any(dim=1).float().mean()
    assert 0.35 < share < 0.6
    assert torch.equal(corrupt_prior(prior, 0.0, generator_for(0, 0)), prior)


ELSEWHERE = {
    "blur_px": 1.0, "low_resolution": 2.5, "field_of_view": 0.35, "intensity_map": 0.4, "invert": 0.5, "rescale": 0.5,
    "grey_levels": 0.1, "ghost": 0.5, "metal": 0.3,
}  # fmt: skip


def test_plain_samples_keep_the_look_of_their_scanner() -> None:
    config = AugmentConfig(noise=0.1, gamma=0.3, zoom=1.2, mirror=True, plain=0.25, **ELSEWHERE)
    rng = generator_for(0, 0)
    drawn = [config.of_sample(rng) for _ in range(400)]
    plain = [each for each in drawn if each != config]
    assert 70 <= len(plain) <= 130
    assert set(plain) == {AugmentConfig(noise=0.1, gamma=0.3, zoom=1.2, mirror=True, plain=0.25)}


def test_a_batch_has_plain_samples_among_others_and_draws_nothing_where_it_may_not() -> None:
    bright = np.ones((1, 40, 36), np.float16)
    case = dataclasses.replace(toy_case("a", 1, slices=1), images=bright)
    config = dataclasses.replace(toy_config(batch=40, crop=(16, 16)), augment=dataclasses.replace(STILL, invert=1.0))
    all_dark, _ = make_batch([case], 2, config, generator_for(3, 0))
    assert torch.all(all_dark[:, 0, 8, 8] < 0)
    again = dataclasses.replace(config, augment=dataclasses.replace(config.augment, plain=0.5))
    some, _ = make_batch([case], 2, again, generator_for(3, 0))
    assert 8 <= int((some[:, 0, 8, 8] > 0).sum()) <= 32
    assert config.augment.of_sample(rng := generator_for(3, 0)) is config.augment
    assert rng.random() == generator_for(3, 0).random()
