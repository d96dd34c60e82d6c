"""Float16 storage of numbers in [0, 1], rounded as IEEE 754 says, at the speed of the memory.

numpy converts one number at a time and reports an underflow for every one below 2^-14; most probabilities of a
background are, and a slice then takes as long as a tenth of its network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Half = NDArray[np.float16]

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
