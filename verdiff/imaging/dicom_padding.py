"""Pixels that a DICOM image states to be none: those at its border with its Pixel Padding Value (PS3.3, C.7.5.1.1.2).

Padding darker than the image stays as it is stored: :mod:`verdiff.imaging.padding` knows it in every format. Brighter
padding would be taken for tissue, so it becomes the darkest that the image itself has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verdiff.imaging.dicom_header import DicomFile
from verdiff.imaging.volume import Array

_VALUE, _LIMIT = 0x00280120, 0x00280121
_STORED, _SIGNED = 0x00280101, 0x00280103


@dataclass
class Padded:
    """What was found while planes were read.

    Attributes:
        pixels: Pixels of padding that were brighter than the image, in all planes.
    """

    pixels: int = 0

    def without(self, plane: Array, file: DicomFile, *, inverted: bool) -> Array:
        """A plane whose padding is as dark as its darkest pixel; the same object where there is nothing to change.

        A number in the middle of an image is no padding, whatever the header states: some state one that tissue has,
        too. So padding counts only where it fills a corner.

        Args:
            plane: Stored numbers [rows, columns].
            file: The file that they are from.
            inverted: Whether high numbers are dark (MONOCHROME1).
        """
        stated = _range(file)
        if stated is None or plane.dtype.kind == "f":
            return plane
        low, high = stated
        padding = (plane >= low) & (plane <= high)
        if not padding[[0, 0, -1, -1], [0, -1, 0, -1]].any():
            return plane
        # A plane of nothing else has no image to be as dark as; negative padding is known in every format.
        image = np.array([0, _most(file)], plane.dtype) if padding.all() else plane[~padding]
        darkest = image.max() if inverted else image.min()
        if (high >= darkest) if inverted else (low <= darkest):
            return plane
        self.pixels += int(np.count_nonzero(padding))
        return np.where(padding, darkest, plane)


def _most(file: DicomFile) -> int:
    """The greatest number that a pixel of a file can hold."""
    return (1 << file.whole(_STORED) - file.whole(_SIGNED)) - 1


def _range(file: DicomFile) -> tuple[int, int] | None:
    """The stored numbers that are padding, both ends among them; None where the file states none."""
    if len(file.elements.get(_VALUE, b"")) < 2:
        return None
    value = _number(file, file.whole(_VALUE))
    limit = _number(file, file.whole(_LIMIT)) if len(file.elements.get(_LIMIT, b"")) >= 2 else value
    return min(value, limit), max(value, limit)


def _number(file: DicomFile, bits: int) -> int:
    """16 bits as the number they are among the pixels, which may have signs."""
    return bits - (1 << 16) if file.whole(_SIGNED) and bits >= 1 << 15 else bits
