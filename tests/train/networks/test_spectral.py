"""The FF-parser is a filter in Fourier space, written without a Fourier transform."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from verdiff.train.networks.spectral import FFParser


def frequencies(count: int) -> Tensor:
    """Cycles a pixel of each row of a transform, from -1/2 (excluded) to 1/2."""
    return torch.tensor([k / count if 2 * k <= count else k / count - 1 for k in range(count)])


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (16, 9), (33, 40), (1, 4), (3, 1), (1, 1)])
def test_it_is_the_product_with_its_weights_between_a_transform_and_its_inverse(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    parser = FFParser(3, (5, 4))
    with torch.no_grad():
        parser.real.normal_()
        parser.imaginary.normal_()
        x = torch.randn(2, 3, *size)
        weights = torch.complex(*parser.weights(frequencies(size[0]), torch.arange(size[1] // 2 + 1) / size[1]))
        expected = torch.fft.irfft2(torch.fft.rfft2(x) * weights, s=size)
        assert torch.allclose(parser(x), expected, atol=2e-5)


def test_it_starts_as_the_identity() -> None:
    x = torch.randn(1, 2, 20, 13)
    assert torch.allclose(FFParser(2)(x), x, atol=3e-5)


@pytest.mark.parametrize("size", [32, 64])
def test_what_it_learnt_holds_for_waves_of_one_length_at_every_size(size: int) -> None:
    parser = FFParser(1, (9, 5))
    column = torch.arange(size, dtype=torch.float32)
    slow, fast = (torch.cos(2 * math.pi * f * column).expand(1, 1, size, size) for f in (1 / 8, 3 / 8))
    with torch.no_grad():
        parser.real[:, :, 3] = 0.0  # three eighths of a cycle a pixel along the columns
        assert torch.allclose(parser(slow + fast), slow, atol=1e-5)
        # A quarter turn where the weight is i: the cosine becomes a negative sine.
        parser.real[:, :, 1], parser.imaginary[:, :, 1] = 0.0, 1.0
        turned = -torch.sin(2 * math.pi * column / 8).expand(1, 1, size, size)
        assert torch.allclose(parser(slow), turned, atol=1e-5)


def test_the_high_frequencies_of_a_large_map_are_as_exact_as_the_low_ones() -> None:
    x = torch.randn(1, 1, 4, 500, generator=torch.Generator().manual_seed(0))
    assert (FFParser(1)(x) - x).abs().max() < 3e-5
