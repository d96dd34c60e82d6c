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
from numpy.typing import ArrayLike, NDArray

from verdiff.errors import VerdiffError

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10
_CHUNK = 4096  # blocks worked on at once: the temporaries stay in the cache of one core


def philox4x32(counter: ArrayLike, key: tuple[int, int]) -> NDArray[np.uint64]:
    """Philox4x32 with 10 rounds.

    Args:
        counter: Four counter words, each a number or an array; arrays broadcast together.
        key: Two key words.

    Returns:
        The four output words, uint64 [4, ...] with values below 2^32.
    """
    words = [np.asarray(word, dtype=np.uint64) for word in counter]  # type: ignore[union-attr]
    return np.stack(np.broadcast_arrays(*_rounds(words, key)))


def _rounds(words: list[NDArray[np.uint64]], key: tuple[int, int]) -> list[NDArray[np.uint64]]:
    x0, x1, x2, x3 = words
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0, p1 = x0 * _M0, x2 * _M1
        x0 = (p1 >> _HALF) ^ x1 ^ np.uint64(k0)
        x2 = (p0 >> _HALF) ^ x3 ^ np.uint64(k1)
        x1, x3 = p1 & _LOW, p0 & _LOW
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return [x0, x1, x2, x3]


def philox_normal(seed: int, *, slice_index: int, sample: int, step: int, shape: Sequence[int]) -> NDArray[np.float32]:
    """Standard normal noise of one slice, sample and step.

    Args:
        seed: 0 ... 2^64 - 1.
        slice_index: The slice's number in the scan's canonical order, 0 ... 2^32 - 1 (not its place in a batch).
        sample: The ensemble member.
        step: 0 for the start, i + 1 for row i of the table.
        shape: For example [K, H, W].

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
        shape: Of one entry, [K, H, W].
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
    key = (seed & 0xFFFFFFFF, seed >> 32)
    address = [np.asarray(word, dtype=np.uint64) for word in (slice_index, sample, step)]
    blocks = -(-out.size // 4)
    for first in range(0, blocks, _CHUNK):
        block = np.arange(first, min(first + _CHUNK, blocks), dtype=np.uint64)
        w0, w1, w2, w3 = _rounds([block, *address], key)
        normals = np.empty((len(block), 4), dtype=np.float32)
        normals[:, 0], normals[:, 1] = _box_muller(w0, w1)
        normals[:, 2], normals[:, 3] = _box_muller(w2, w3)
        part = out[4 * first : 4 * (first + len(block))]
        part[:] = normals.reshape(-1)[: part.size]


def _box_muller(
    first: NDArray[np.uint64], second: NDArray[np.uint64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    radius, angle = _uniform(first), _uniform(second)
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle *= 2.0 * math.pi
    cosine = np.cos(angle)
    np.sin(angle, out=angle)
    cosine *= radius
    angle *= radius
    return cosine, angle


def _uniform(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    u = words.astype(np.float64)
    u += 0.5
    u *= 2.0**-32
    return u
