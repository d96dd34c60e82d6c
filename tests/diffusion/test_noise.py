"""The noise against Random123's vectors, a plain scalar reading of its documentation, and recorded bits."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verdiff.diffusion import noise_source, philox_normal
from verdiff.diffusion.noise import _round_keys, _rounds
from verdiff.errors import VerdiffError

GOLDEN = json.loads((Path(__file__).parent / "golden_noise.json").read_text("utf-8"))

# Random123 (D. E. Shaw Research), tests/kat_vectors: philox4x32 with 10 rounds.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def scalar_normal(seed: int, slice_index: int, sample: int, step: int, element: int) -> float:
    """One normal in float64, as the documentation tells a host to compute it, with Python's numbers."""
    words, key = [element // 4, slice_index, sample, step], [seed % 2**32, seed // 2**32]
    for _ in range(10):
        first, second = 0xD2511F53 * words[0], 0xCD9E8D57 * words[2]
        words = [
            (second >> 32) ^ words[1] ^ key[0],
            second % 2**32,
            (first >> 32) ^ words[3] ^ key[1],
            first % 2**32,
        ]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    pair = 2 * (element % 4 // 2)
    u0, u1 = ((word + 0.5) / 2**32 for word in words[pair : pair + 2])
    angle = 6.283185307179586 * u1
    return math.sqrt(-2.0 * math.log(u0)) * (math.sin(angle) if element % 2 else math.cos(angle))


def philox4x32(counters: Any, key: Any) -> np.ndarray:
    """The output words of each of some counters, [n, 4], by the rounds that the noise is made of."""
    words = np.asarray(counters, np.uint64).T
    even, odd = words[[0, 2]], words[[1, 3]]
    even, odd, _, _ = _rounds(even, odd, np.empty_like(even), np.empty_like(odd), _round_keys(key))
    return np.stack([even[0], odd[0], even[1], odd[1]], axis=1)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_known_answers(counter: Any, key: Any, expected: Any) -> None:
    assert philox4x32([counter], key).tolist() == [list(expected)]


def test_philox_of_arrays_is_philox_of_each_entry() -> None:
    counters, keys, answers = zip(*KNOWN_ANSWERS, strict=True)
    assert philox4x32([counters[0], counters[2]], keys[2])[1].tolist() == list(answers[2])


@given(
    seed=st.integers(0, 2**64 - 1),
    address=st.tuples(*[st.integers(0, 2**32 - 1)] * 3),
    size=st.integers(1, 9),
)
def test_noise_is_what_the_documentation_says(seed: int, address: tuple[int, int, int], size: int) -> None:
    slice_index, sample, step = address
    normals = philox_normal(seed, slice_index=slice_index, sample=sample, step=step, shape=(1, size, 1))
    expected = [scalar_normal(seed, *address, element) for element in range(size)]
    assert normals.dtype == np.float32
    np.testing.assert_allclose(normals.reshape(-1), expected, rtol=2**-23, atol=1e-15)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: f"seed {case['seed']}")
def test_noise_has_the_recorded_bits(case: dict[str, Any]) -> None:
    seed, address = (
        int(case["seed"], 16),
        {"slice_index": case["slice"], "sample": case["sample"], "step": case["step"]},
    )
    normals = philox_normal(seed, shape=case["shape"], **address)
    recorded = np.array([int(bits, 16) for bits in case["bits"]], dtype=np.uint32)
    part = normals.reshape(-1)[case["first_element"] :][: len(recorded)]
    np.testing.assert_array_equal(part.view(np.uint32), recorded)


def test_every_element_of_a_large_array_has_its_own_address() -> None:
    """Work is done in pieces; none may be repeated, skipped or shifted at their borders."""
    normals = philox_normal(11, slice_index=3, sample=1, step=2, shape=(3, 100, 167)).reshape(-1)
    elements = [*range(0, len(normals), 997), *range(16380, 16390), *range(32764, 32772), len(normals) - 1]
    expected = [scalar_normal(11, 3, 1, 2, element) for element in elements]
    np.testing.assert_allclose(normals[elements], expected, rtol=2**-23, atol=1e-15)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=6), st.data())
def test_noise_does_not_depend_on_the_batch_split(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    slices, samples = zip(*pairs, strict=True)
    whole = noise_source(5, slices=slices, samples=samples, shape=(2, 3, 5))
    cut = data.draw(st.integers(0, len(pairs)))
    parts = [
        noise_source(5, slices=slices[part], samples=samples[part], shape=(2, 3, 5))
        for part in (slice(0, cut), slice(cut, None))
    ]
    for step in (0, 1, 7):
        np.testing.assert_array_equal(whole(step), np.concatenate([part(step) for part in parts]))


def test_every_part_of_the_address_changes_all_the_noise() -> None:
    address = {"slice_index": 1, "sample": 2, "step": 3}
    base = philox_normal(9, shape=(64,), **address)  # type: ignore[arg-type]
    others = [philox_normal(seed, shape=(64,), **address) for seed in (10, 9 + 2**32)]  # type: ignore[arg-type]
    others += [philox_normal(9, shape=(64,), **address | {name: 7}) for name in address]  # type: ignore[arg-type]
    for other in others:
        assert (other != base).all()


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    a = philox_normal(0, slice_index=0, sample=0, step=0, shape=(3, 256, 320)).astype(np.float64).reshape(-1)
    b = philox_normal(0, slice_index=1, sample=0, step=0, shape=(3, 256, 320)).astype(np.float64).reshape(-1)
    tolerance = 5 / math.sqrt(a.size)
    assert abs(a.mean()) < tolerance
    assert abs(a.var() - 1) < tolerance * math.sqrt(2)
    assert abs((a**3).mean()) < tolerance * math.sqrt(15)
    assert abs((a**4).mean() - 3) < tolerance * math.sqrt(96)
    assert abs((a * b).mean()) < tolerance
    assert abs((a[1:] * a[:-1]).mean()) < tolerance
    assert (np.abs(a) > 1.959964).mean() == pytest.approx(0.05, abs=0.0025)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**64}, "seed 18446744073709551616"),
        ({"slice_index": -1}, "slice -1"),
        ({"sample": 2**32}, "sample 4294967296"),
        ({"step": -1}, "step -1"),
    ],
)
def test_addresses_out_of_range_are_refused_by_name(words: dict[str, int], named: str) -> None:
    with pytest.raises(VerdiffError, match=named):
        philox_normal(**({"seed": 0, "slice_index": 0, "sample": 0, "step": 0, "shape": (1,)} | words))  # type: ignore[arg-type]
