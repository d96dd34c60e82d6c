"""What two masks have in common, and Dice of it (Dice 1945)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[int, int]:
    """Voxels that two masks of one shape share, and the voxels of the one and of the other added."""
    return int(np.count_nonzero(first & second)), int(np.count_nonzero(first)) + int(np.count_nonzero(second))


def dice_of(common: int, total: int) -> float:
    """Dice from what :func:`overlap` gives; 1 where both masks are empty."""
    return 2 * common / total if total else 1.0


def dice_of_labels(labels: NDArray[Any], reference: NDArray[Any], ids: list[int]) -> list[float]:
    """Dice of each label of two label images of one shape; 1 for a label that neither has."""
    return [dice_of(*overlap(labels == number, reference == number)) for number in ids]
