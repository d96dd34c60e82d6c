"""Test-time averaging: a prior network's answer to several views of a slice, each put back and averaged.

A view moves, turns or scales the slice in its plane or changes its grey values. What a view pushes out of the picture
it does not vote on; the slice as it is always votes, so every pixel has an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from studies.library.runtime_slices import Answer, Maps, RuntimeSlices
from verdiff.imaging.slicing import PADDING


@dataclass(frozen=True)
class View:
    """One way to look at a slice.

    Attributes:
        shift: Pixels down and to the right.
        angle_deg: Rotation about the middle.
        zoom: Magnification about the middle.
        gamma: Exponent of the grey values on [0, 1]; below 1 is brighter.
    """

    shift: tuple[int, int] = (0, 0)
    angle_deg: float = 0.0
    zoom: float = 1.0
    gamma: float = 1.0

    @property
    def name(self) -> str:
        """What it does, for the record."""
        parts = [f"shift {self.shift[0]:+d} {self.shift[1]:+d}"] if any(self.shift) else []
        parts += [f"turn {self.angle_deg:+g} deg"] if self.angle_deg else []
        parts += [f"zoom {self.zoom:g}"] if self.zoom != 1 else []
        parts += [f"gamma {self.gamma:g}"] if self.gamma != 1 else []
        return ", ".join(parts) or "as it is"

    def look(self, image: Maps) -> Maps:
        """The slice [H, W] on [-1, 1] as this view shows it."""
        seen = self._warp(image, inverse=False, outside=PADDING)
        if self.gamma != 1:
            grey = np.clip((seen + 1) / 2, 0, 1)
            seen = np.asarray(2 * grey**self.gamma - 1, np.float32)
        return seen

    def put_back(self, probabilities: Maps) -> Maps:
        """Probabilities [K, H, W] of what the view shows, in the slice's own place."""
        return np.stack([self._warp(channel, inverse=True) for channel in probabilities])

    def vote(self, shape: tuple[int, int]) -> Maps:
        """How much of each pixel [H, W] the view saw, 0 to 1: what comes back of a picture of ones."""
        return self._warp(self._warp(np.ones(shape, np.float32), inverse=False), inverse=True)

    def _warp(self, plane: Maps, *, inverse: bool, outside: float = 0.0) -> Maps:
        if not any(self.shift) and self.angle_deg == 0 and self.zoom == 1:
            return plane
        angle = np.deg2rad(self.angle_deg)
        turn = self.zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = (np.array(plane.shape) - 1) / 2
        moved = middle + np.array(self.shift)
        # scipy asks where each output pixel comes from: forward, the inverse of x -> turn (x - middle) + moved.
        matrix, origin, target = (turn, moved, middle) if inverse else (np.linalg.inv(turn), middle, moved)
        warped: Maps = ndimage.affine_transform(
            plane, matrix, offset=origin - matrix @ target, order=1, cval=outside, output=np.float32
        )
        return warped


AS_IT_IS = View()
CANDIDATES = (
    AS_IT_IS,
    # The network's coarsest level has 16 pixels a cell, so these fall differently into its grid.
    *(View(shift=shift) for shift in ((4, 0), (-4, 0), (0, 4), (0, -4), (8, 8), (-8, -8), (8, -8), (-8, 8))),
    *(View(gamma=gamma) for gamma in (0.7, 0.85, 1.2, 1.4)),
    *(View(angle_deg=angle) for angle in (-6.0, -3.0, 3.0, 6.0)),
    *(View(zoom=zoom) for zoom in (0.9, 0.95, 1.05, 1.1)),
)


@dataclass(frozen=True)
class Votes:
    """What every view says of some slices.

    Attributes:
        placed: Probabilities in place times the vote, float16 [V, n, K, H, W]: all views of all patients are held at
            once while views are chosen.
        vote: float32 [V, 1, 1, H, W].
    """

    placed: NDArray[np.float16]
    vote: Maps

    def total(self, members: Sequence[int]) -> tuple[Maps, Maps]:
        """Sums of ``placed`` and ``vote`` over the views ``members``, float32."""
        chosen = list(members)
        return self.placed[chosen].sum(axis=0, dtype=np.float32), self.vote[chosen].sum(axis=0)

    def mean(self, members: Sequence[int]) -> Maps:
        """Probabilities [n, K, H, W] of the views ``members``, each with its vote."""
        placed, vote = self.total(members)
        return placed / vote


def collect(slices: RuntimeSlices, images: Maps, views: Sequence[View]) -> Votes:
    """Ask the prior for every one of ``views`` of ``images`` [n, 1, H, W]."""
    seen = slices.lanes.map(lambda view: np.stack([view.look(image[0]) for image in images]), views)
    answers = slices.priors(np.concatenate(seen)[:, None])
    votes = np.stack(slices.lanes.map(lambda view: view.vote(images.shape[2:]), views))[:, None, None]
    asked = [view for view in views for _ in images]
    placed = slices.lanes.map(lambda pair: pair[0].put_back(pair[1]), zip(asked, answers, strict=True))
    weighted = np.stack(placed).reshape(len(views), len(images), *answers.shape[1:]) * votes
    return Votes(weighted.astype(np.float16), votes)


def averaged_answer(slices: RuntimeSlices, views: Sequence[View]) -> Answer:
    """The prior's answer averaged over ``views``."""
    return lambda images, numbers: collect(slices, images, views).mean(range(len(views)))


def choose_views(score: Callable[[Sequence[int]], float], candidates: int, most: int) -> tuple[list[int], list[float]]:
    """The series of views that is best for the prior, greedily: each joins where it helps the mean most.

    Args:
        score: Mean Dice of the average over some candidates, by number.
        candidates: How many there are; number 0 is the slice as it is, which comes first.
        most: Length of the series.

    Returns:
        The candidates' numbers in the order of joining, and the score of each beginning of the series.
    """
    series, scores = [0], [score([0])]
    while len(series) < min(most, candidates):
        left = [each for each in range(candidates) if each not in series]
        tried = {each: score([*series, each]) for each in left}
        best = max(left, key=tried.__getitem__)
        series.append(best)
        scores.append(tried[best])
    return series, scores
