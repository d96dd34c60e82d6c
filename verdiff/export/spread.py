"""How far rounding alone moves a model's answer, and so how far two computations of that model may be apart.

Most networks notice little of it. One that takes the moments of whole slices in its norms, divides by the length of a
vector, or feeds its answer back for some steps can move a few pixels further than a tight limit allows, while the mean
over all pixels stays where it is. So two computations may be as far from each other, at the worst pixel and in the
mean, as the model is from itself when only its rounding changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
# What every model is given, in probability: at the worst pixel, and in the mean over all.
TOLERANCE, MEAN_TOLERANCE = 1e-4, 1e-5
# OpenVINO's norms take the moments of all pixels or voxels in one float32 sum each. With a 3D U-Net, half a million
# voxels, that is 2e-4 off a float64 run in probability at the worst of them, where PyTorch and ONNX Runtime are 2e-5
# and 3e-5 off; with nnU-Net's slices 1.5e-4. The mean over all of them stays far below its limit.
TOLERANCES = {"openvino": 5e-4}
# Backends on processors compute FP16 graphs in FP32 and fuse the casts between them, each in its own way, so which
# values are rounded differs.
HALF_TOLERANCE = 5e-3
# In FP16 the worst pixel of one rounding is one of a handful that a loop magnifies, and another's is another: twice as
# much again. The mean over all pixels, which does not depend on a few, is held to ALLOWANCE.
HALF_WORST = 4.0
# Two roundings are apart by up to the sum of what each is from the true value.
ALLOWANCE = 2.0
# A network whose own rounding in FP32 moves a probability this far, or all of them so far in the mean, is no basis for
# a mask.
MOST, MOST_MEAN = 1e-2, 1e-4


@dataclass(frozen=True)
class Spread:
    """How far a model is from itself at one stage, in probability.

    Attributes:
        worst: Difference at the worst pixel.
        mean: Mean difference over all pixels.
        half: Whether it was rounded to FP16. The gate has then judged what that does to the mask, so nothing caps
            what is allowed.
    """

    worst: float
    mean: float
    half: bool = False

    @classmethod
    def of(cls, reference: Array, *others: NDArray[np.floating]) -> Spread:
        """The larger of the differences of ``others`` from ``reference``, all on [-1, 1]."""
        worst = max(probability_difference(other, reference) for other in others)
        return cls(worst, max(mean_difference(other, reference) for other in others))

    def allows(self, backend: str) -> float:
        """How far ``backend`` may be off at its worst pixel, in probability."""
        if self.half:
            return max(HALF_TOLERANCE, HALF_WORST * self.worst)
        return min(MOST, max(TOLERANCES.get(backend, TOLERANCE), ALLOWANCE * self.worst))

    @property
    def allows_mean(self) -> float:
        """How far any backend may be off in the mean."""
        allowed = max(MEAN_TOLERANCE, ALLOWANCE * self.mean)
        return allowed if self.half else min(MOST_MEAN, allowed)


CALM = Spread(0.0, 0.0)


def probability_difference(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> float:
    """Largest difference of two arrays on [-1, 1], as probabilities."""
    return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max()) / 2


def mean_difference(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> float:
    """Mean difference of two arrays on [-1, 1], as probabilities."""
    return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).mean()) / 2
