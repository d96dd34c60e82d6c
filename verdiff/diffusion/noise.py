"""Noise any language can repeat: Philox4x32-10 (Salmon et al. 2011) and Box-Muller, addressed instead of streamed.

The normals of one slice, one sample and one step are a pure function of (seed, slice, sample, step), so a mask never
depends on how slices were batched or in which order they ran. The mapping, complete:

1. Number the normals of one [K, H, W] array 0, 1, 2, ... in C order. Normal n comes from block j = n // 4.
2. Philox4x32-10 with counter words (j, slice, sample, step) and key words (seed mod 2^32, seed div 2^32), seed an
   unsigned 64-bit number, gives the words w0, w1, w2, w3.
3. u_i = (w_i + 1/2) / 2^32 in float64, which is exact and never 0 or 1.
4. r = sqrt(-2 ln u0), angle = 6.283185307179586 u1: normal 4j is r cos(angle), 4j + 1 is r sin(angle); 4j + 2 and
   4j + 3 come from u2 and u3 in the same way. All in float64, then rounded to float32.
5. Normals past the end of the array are dropped.

Steps 1 to 3 are exact integers. ln, sin and cos differ between mathematical libraries in the last bits of float64,
which rounding to float32 hides except for about one number in 10^8, then by one unit in its last place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import VerdiffError

Words = NDArray[np.uint64]

# Each pair of rows is (words 0 and 2, words 1 and 3) of a counter, or what belongs to them: a round then is five calls.
_MULTIPLIERS = np.array([[0xCD9E8D57], [0xD2511F53]], dtype=np.uint64)
_WEYL = np.array([[0x9E3779B9], [0xBB67AE85]], dtype=np.uint64)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10
# Blocks worked on at once: the arrays stay in a core's cache, and threads that do this side by side rarely wait for
# the interpreter between two calls.
_CHUNK = 8192


def _round_keys(key: tuple[int, int]) -> list[Words]:
    """The key words of each round, [2, 1]."""
    first = np.array([[key[0]], [key[1]]], dtype=np.uint64)
    return [(first + np.uint64(number) * _WEYL) & _LOW for number in range(_ROUNDS)]


def _rounds(
    even: Words, odd: Words, spare: Words, other: Words, keys: list[Words]
) -> tuple[Words, Words, Words, Words]:
    """Words 0 and 2 in ``even``, 1 and 3 in ``odd``, all [2, n], to the output words; the two others are free again."""
    for key in keys:
        np.multiply(even[::-1], _MULTIPLIERS, out=spare)
        np.bitwise_and(spare, _LOW, out=other)
        spare >>= _HALF
        spare ^= odd
        spare ^= key
        even, odd, spare, other = spare, other, even, odd
    return even, odd, spare, other


def philox_normal(seed: int, *, slice_index: int, sample: int, step: int, shape: Sequence[int]) -> NDArray[np.float32]:
    """Standard normal noise of one slice, sample and step.

    Args:
        seed: 0 ... 2^64 - 1.
        slice_index: The slice's number in the scan's canonical order, 0 ... 2^32 - 1 (not its place in a batch).
        sample: The ensemble member.
        step: 0 for the start, i + 1 for row i of the table.
        shape: Shape of the array, for example [K, H, W].

    Returns:
        float32 of that shape.

    Raises:
        VerdiffError: A number out of its range.
    """
    out = np.empty(tuple(shape), dtype=np.float32)
    _fill(out.reshape(-1), seed, slice_index, sample, step)
    return out


def noise_source(
    seed: int, *, slices: Sequence[int], samples: Sequence[int], shape: Sequence[int]
) -> Callable[[int], NDArray[np.float32]]:
    """The noise of a batch for :func:`verdiff.diffusion.loop.run_loop`: step -> float32 [N, *shape].

    Args:
        seed: 0 ... 2^64 - 1.
        slices: The slice's number for each entry of the batch, N of them.
        samples: The ensemble member for each entry of the batch, N of them.
        shape: Shape of one entry, [K, H, W].
    """
    pairs = list(zip(slices, samples, strict=True))

    def noise(step: int) -> NDArray[np.float32]:
        out = np.empty((len(pairs), *shape), dtype=np.float32)
        for entry, (slice_index, sample) in zip(out, pairs, strict=True):
            _fill(entry.reshape(-1), seed, slice_index, sample, step)
        return out

    return noise


def _fill(out: NDArray[np.float32], seed: int, slice_index: int, sample: int, step: int) -> None:
    """Write the normals of one address into a flat float32 array."""
    address_words = {"seed": (seed, 64), "slice": (slice_index, 32), "sample": (sample, 32), "step": (step, 32)}
    for name, (value, bits) in address_words.items():
        if not 0 <= value < 2**bits:
            raise VerdiffError(f"{name} {value}", f"0 ... 2^{bits} - 1", f"use a {name} in that range")
    keys = _round_keys((seed & 0xFFFFFFFF, seed >> 32))
    blocks = -(-out.size // 4)
    count = min(_CHUNK, blocks)
    words = np.empty((4, 2, count), dtype=np.uint64)
    normals = np.empty((count, 2, 2), dtype=np.float64)
    for first in range(0, blocks, count):
        size = min(count, blocks - first)
        even, odd, spare, other = words[..., :size]
        even[0], even[1] = np.arange(first, first + size, dtype=np.uint64), sample
        odd[0], odd[1] = slice_index, step
        _box_muller(*_rounds(even, odd, spare, other, keys), normals[:size])
        part = out[4 * first : 4 * (first + size)]
        part[:] = normals.reshape(-1)[: part.size]


def _box_muller(even: Words, odd: Words, spare: Words, other: Words, normals: NDArray[np.float64]) -> None:
    """The normals [n, pair, cosine or sine] of the words [2, n]; the four arrays of words are used up."""
    # Below 2^32 a signed word is the same number, and is converted faster.
    radius = np.add(even.view(np.int64), 0.5, out=spare.view(np.float64))
    radius *= 2.0**-32
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    # Scaling by a power of two is exact, so this is 2 pi times the uniform number of step 3.
    angle = np.add(odd.view(np.int64), 0.5, out=other.view(np.float64))
    angle *= 2.0 * math.pi * 2.0**-32
    cosine = np.cos(angle, out=even.view(np.float64))
    sine = np.sin(angle, out=angle)
    np.multiply(cosine, radius, out=normals[:, :, 0].T)
    np.multiply(sine, radius, out=normals[:, :, 1].T)
