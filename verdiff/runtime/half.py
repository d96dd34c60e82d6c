"""Float16 storage of numbers in [0, 1], rounded as IEEE 754 says, at the speed of the memory; and of whole stacks.

numpy converts one number at a time and reports an underflow for every one below 2^-14; most probabilities of a
background are, and a slice then takes as long as a tenth of its network.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Half = NDArray[np.float16]
Bytes = NDArray[np.uint8]

# Float32 counts its exponent from -127, float16 from -15, and has 13 bits less behind the point.
_EXPONENTS = 127 - 15
_DROPPED = 13
_SMALLEST_NORMAL = np.float32(2.0**-14)
# Adding it rounds to even where it drops half of what is left or more; the exponents differ.
_ROUND_AND_MOVE = np.uint32((0x0FFF - (_EXPONENTS << 23)) % 2**32)


def store_half(values: NDArray[np.float32], into: Half) -> None:
    """``into[...] = values`` for values in [0, 1], bit for bit what numpy's conversion gives."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits >> _DROPPED
    rounded &= 1
    rounded += bits
    rounded += _ROUND_AND_MOVE
    rounded >>= _DROPPED
    # Below the smallest normal number steps are 2^-24, as they are for a float32 between 1/2 and 1: the processor's own
    # addition rounds to them.
    small = (values + np.float32(0.5)).view(np.uint32)
    small -= np.float32(0.5).view(np.uint32)
    np.copyto(rounded, small, where=values < _SMALLEST_NORMAL)
    into.view(np.uint16)[...] = rounded


def from_half(half: Half) -> NDArray[np.float32]:
    """Numbers in [0, 1] as float32, which is exact."""
    bits = half.view(np.uint16).astype(np.uint32)
    bits <<= _DROPPED
    values: NDArray[np.float32] = bits.view(np.float32)
    values *= np.float32(2.0**_EXPONENTS)
    return values


# Above this a stack is kept deflated, which costs about one percent of the time of its networks.
PLAIN_BYTES = 256 << 20
# Of two bytes, the one behind the point is noise, which stays; sign, exponent and first digits take a quarter of their
# room. That is 62 % of the whole for the shipped model's probabilities, here rounded up.
DEFLATED = 0.65
_WINDOW = -15  # zlib's window bits for deflated data without header and checksum, which memory does not need


@dataclass(frozen=True)
class HalfStack:
    """Maps in [0, 1] of a stack of slices, each in a buffer of its own that is replaced and never changed.

    Args:
        slices: How many.
        shape: Shape of one slice's maps.
    """

    slices: int
    shape: tuple[int, ...]
    _kept: list[tuple[Bytes, bytes | None] | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_kept", [None] * self.slices)

    @property
    def plain_bytes(self) -> int:
        """What the float16 numbers of all slices take."""
        return 2 * self.slices * math.prod(self.shape)

    @property
    def kept_bytes(self) -> int:
        """What all slices are expected to take as they are kept; the share that deflates depends on the model."""
        return math.ceil(self.plain_bytes * (DEFLATED if self.deflated else 1))

    @property
    def deflated(self) -> bool:
        """Whether slices are deflated, without loss."""
        return self.plain_bytes > PLAIN_BYTES

    def put(self, index: int, values: NDArray[np.float32]) -> None:
        """Keep the maps of one slice, rounded to float16."""
        half = np.empty(self.shape, np.float16)
        store_half(values, half)
        pairs = half.view(np.uint8).reshape(-1, 2)
        if not self.deflated:
            self._kept[index] = pairs, None
            return
        deflate = zlib.compressobj(1, zlib.DEFLATED, _WINDOW, 9, zlib.Z_RLE)
        packed = deflate.compress(pairs[:, 1].tobytes()) + deflate.flush()
        self._kept[index] = np.ascontiguousarray(pairs[:, 0]), packed

    def get(self, index: int) -> NDArray[np.float32]:
        """The maps of one slice, float32 of :attr:`shape`; zeros for one that was never put."""
        kept = self._kept[index]
        if kept is None:
            return np.zeros(self.shape, np.float32)
        pairs, packed = kept
        if packed is not None:
            pairs = np.stack([pairs, np.frombuffer(zlib.decompress(packed, _WINDOW), np.uint8)], axis=1)
        return from_half(pairs.view(np.float16).reshape(self.shape))

    def fill(self, values: NDArray[np.float32]) -> None:
        """Keep the same maps for every slice, in one buffer."""
        self.put(0, values)
        self._kept[:] = [self._kept[0]] * self.slices

    def copy(self) -> HalfStack:
        """One that keeps what this one holds now; nothing is copied but the list of it."""
        copy = HalfStack(self.slices, self.shape)
        copy.share(self)
        return copy

    def share(self, other: HalfStack) -> None:
        """Keep what another one of this size holds now; a slice that is put later replaces it in one of them alone."""
        self._kept[:] = other._kept
