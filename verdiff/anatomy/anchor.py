"""Which body the picture shows to be the last one above the sacrum, how surely, and whether that is sure enough.

A logistic regression gives each body the odds of being the last; that one of them is and that none is exclude each
other, so a body's probability is its share of all odds and 1. Weights, training and measured errors stand in
``anchor.json``, which ``python -m studies levels`` writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.picture import BACK, CELLS, DIRECTIONS, DOWN, SHAPE, Surroundings
from verdiff.errors import VerdiffError

# Standardised features count no further than this, so that a strange picture cannot shout.
_MOST = 4.0
# Distance to the next body above, in pitches, of which a frame around the body can be trusted.
_STEP, _EVEN = SHAPE.index("step") - len(SHAPE), (0.6, 1.6)


@dataclass(frozen=True, eq=False)
class AnchorModel:
    """The logistic regression.

    Attributes:
        mean, scale: Moments of each feature in training; a feature that the picture does not show counts as the mean.
        weights, bias: Coefficients of the standardised features.
        slope, offset: What makes the odds of other patients' bodies as sure as they are right, from cross-fitting.
        threshold: Least probability that a level is named with.
        least_seen_below: Least part of a pitch below the body's lower end that the picture must show.
        pitch_mm: Least and most usual distance of bodies; other spines are not what it was trained on.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: float
    slope: float
    offset: float
    threshold: float
    least_seen_below: float
    pitch_mm: tuple[float, float]

    def standard(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features [n, k] in units of their spread in training; 0 where the picture does not show them."""
        values = np.clip((features - self.mean) / self.scale, -_MOST, _MOST)
        return np.where(np.isnan(values), 0.0, values)

    def raw(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds before calibration, [n], of features [n, k]."""
        odds: NDArray[np.float64] = self.standard(features) @ self.weights + self.bias
        return odds

    def probabilities(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of each body [n] to be the last above the sacrum; what they lack of 1 is that none of them is."""
        odds = np.exp(np.clip(self.slope * self.raw(features) + self.offset, -30, 30))
        share: NDArray[np.float64] = odds / (1 + odds.sum())
        return share

    def to_dict(self) -> dict[str, Any]:
        """What ``anchor.json`` holds of it."""
        cells = {"down": list(DOWN), "back": list(BACK), "cells": list(CELLS), "directions": DIRECTIONS}
        return {
            "patch": cells,
            "shape": list(SHAPE),
            "mean": [round(float(value), 5) for value in self.mean],
            "scale": [round(float(value), 5) for value in self.scale],
            "weights": [round(float(value), 5) for value in self.weights],
            "bias": round(self.bias, 5),
            "slope": round(self.slope, 5),
            "offset": round(self.offset, 5),
            "threshold": self.threshold,
            "least_seen_below": self.least_seen_below,
            "pitch_mm": list(self.pitch_mm),
        }

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> AnchorModel:
        """The model of such an object.

        Raises:
            VerdiffError: It is of other features than this version computes.
        """
        patch = {"down": list(DOWN), "back": list(BACK), "cells": list(CELLS), "directions": DIRECTIONS}
        size = CELLS[0] * CELLS[1] * DIRECTIONS + len(SHAPE)
        arrays = [np.array(written[name], dtype=np.float64) for name in ("mean", "scale", "weights")]
        if written["patch"] != patch or written["shape"] != list(SHAPE) or any(len(each) != size for each in arrays):
            raise VerdiffError(
                f"anchor weights of the patch {written['patch']} and {len(arrays[0])} features",
                f"the patch {patch} and {size} features",
                "make them again with 'python -m studies levels'",
            )
        low, high = written["pitch_mm"]
        numbers = {n: float(written[n]) for n in ("bias", "slope", "offset", "threshold", "least_seen_below")}
        return cls(arrays[0], arrays[1], arrays[2], **numbers, pitch_mm=(float(low), float(high)))


@dataclass(frozen=True)
class Sight:
    """What the picture says of the bodies of a mask.

    Attributes:
        index: The body that is most likely the last above the sacrum, counted from the lowest in the mask, which is 0.
        probability: Probability that it is the anchor.
        refused: Why its level is not named, or None.
    """

    index: int
    probability: float
    refused: str | None = None


@cache
def anchor_model() -> AnchorModel:
    """The model that the package carries."""
    text = resources.files("verdiff.anatomy").joinpath("anchor.json").read_text("utf-8")
    return AnchorModel.from_dict(json.loads(text)["model"])


def sight_of(found: Sequence[Surroundings], model: AnchorModel | None = None) -> Sight | None:
    """The most likely last body above the sacrum, or None where the mask has too few bodies to tell.

    Args:
        found: What is seen of the bodies, from the lowest up.
        model: Instead of the package's own.
    """
    if not found:
        return None
    model = anchor_model() if model is None else model
    likely = model.probabilities(np.array([each.features for each in found]))
    index = int(likely.argmax())
    probability, seen = float(likely[index]), found[index]
    low, high = model.pitch_mm
    refused = None
    if probability < model.threshold:
        refused = f"less than {model.threshold:g}, which is asked for"
    elif seen.seen_below < model.least_seen_below:
        refused = "but the picture ends too near below it to show a sacrum"
    elif not low <= seen.pitch_mm <= high:
        refused = (
            f"but its vertebrae are {seen.pitch_mm:.0f} mm apart, and {low:g} to {high:g} mm in what it learned from"
        )
    elif not _EVEN[0] <= seen.features[_STEP] <= _EVEN[1]:
        refused = "but it lies unusually near to the one above it, or far from it"
    return Sight(index, probability, refused)
