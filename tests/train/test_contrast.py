"""Other sequences and scanners: contrast that is no brightness, coarse greys, ghosts, metal, black margins."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from verdiff.train.augment import narrow_field
from verdiff.train.batches import generator_for
from verdiff.train.config import AugmentConfig
from verdiff.train.contrast import change_contrast, intensity_map, rescale

STILL = AugmentConfig(0.0, 0.0, 0.0, 0.0)
CHANGES = ("intensity_map", "invert", "rescale", "grey_levels", "ghost", "metal")


def picture() -> torch.Tensor:
    rows, cols = torch.meshgrid(torch.linspace(-1, 0.6, 48), torch.linspace(-0.4, 1, 40), indexing="ij")
    return torch.sin(3 * rows + 5 * cols * rows)[None] * 0.8


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_alone_changes_the_image_and_stays_in_range(change: str) -> None:
    config = dataclasses.replace(STILL, **{change: 1.0})
    changed = [change_contrast(picture(), config, generator_for(seed, 0)) for seed in range(10)]
    assert all(image.shape == (1, 48, 40) and float(image.abs().max()) <= 1 for image in changed)
    assert all(not torch.equal(image, picture()) for image in changed)
    again = change_contrast(picture(), config, generator_for(0, 0))
    assert torch.equal(changed[0], again)


def test_without_a_chance_nothing_changes() -> None:
    assert torch.equal(change_contrast(picture(), STILL, generator_for(0, 0)), picture())


def test_an_intensity_map_can_exchange_bright_and_dark_and_uses_the_whole_range() -> None:
    ramp = torch.linspace(-1, 1, 64 * 48).reshape(1, 64, 48)
    signs = set()
    for seed in range(30):
        mapped = intensity_map(ramp, generator_for(seed, 0))
        signs.add(float(np.sign(np.corrcoef(mapped.numpy().ravel(), ramp.numpy().ravel())[0, 1])))
        assert float(mapped.max()) == 1 and float(mapped.min()) == -1
    assert signs == {-1.0, 1.0}


def test_rescaling_takes_the_crops_own_percentiles() -> None:
    image = torch.linspace(-0.5, 0.25, 1000).reshape(1, 25, 40)
    scaled = rescale(image)
    assert float(scaled.min()) == -1 and float(scaled.max()) == 1
    assert torch.allclose(rescale(scaled), scaled, atol=0.03)


def test_margins_are_exactly_black_and_empty_also_where_nothing_was_known() -> None:
    config = dataclasses.replace(STILL, field_of_view=1.0, field_of_view_depth=0.45)
    edges, depth = set(), 0.0
    for seed in range(40):
        truth = torch.full((2, 48, 40), -1.0)
        truth[0] = 1.0
        image, emptied = narrow_field(torch.full((1, 48, 40), 0.3), truth, config, generator_for(seed, 0))
        black = image[0] == -1
        assert bool(black.any()) and set(np.unique(image.numpy())) <= {np.float32(-1), np.float32(0.3)}
        assert bool((emptied[:, black] == 0).all()) and bool((emptied[0, ~black] == 1).all())
        assert bool((emptied[1, ~black] == -1).all()) and float(truth[0].min()) == 1
        corners = (black[0].all(), black[-1].all(), black[:, 0].all(), black[:, -1].all())
        edges |= {index for index, corner in enumerate(corners) if bool(corner)}
        depth = max(depth, float(black[:, 20].float().mean()), float(black[24].float().mean()))
    assert edges == {0, 1, 2, 3} and depth > 0.35
