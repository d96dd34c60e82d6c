"""The logistic regression behind levels from the picture: fitted, and calibrated on patients it has not seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from studies.levels.scenes import Scene
from verdiff.anatomy.anchor import AnchorModel

Floats = NDArray[np.float64]

# A priori: what a named level must be worth, and how much of a sacrum must be in the picture.
THRESHOLD, LEAST_SEEN_BELOW = 0.95, 0.5
PENALTY = 10.0
FOLDS = 8
# Other spines may be this much smaller or larger than those in training.
_SLACK = 0.1
_SLOPES, _OFFSETS = np.linspace(0.3, 2.0, 18), np.linspace(-3.0, 3.0, 25)


def fit(scenes: Sequence[Scene], *, seed: int = 0) -> AnchorModel:
    """A calibrated model of these scenes.

    The weights come from all of them. Slope and offset come from the odds that models of the other folds' patients gave
    each: those of the largest likelihood.
    """
    slope, offset = _calibrated([pair for fold in _folds(scenes, (), seed) for pair in fold.odds])
    pitches = [body.pitch_mm for scene in scenes for body in scene.bodies]
    limits = (round(min(pitches) * (1 - _SLACK), 1), round(max(pitches) * (1 + _SLACK), 1))
    return replace(_weights(scenes), slope=slope, offset=offset, pitch_mm=limits)


def cross_fitted(
    scenes: Sequence[Scene], *, seed: int = 0, fixed: Sequence[Scene] = ()
) -> Iterator[tuple[Scene, AnchorModel]]:
    """Each scene with a model whose weights and calibration come from the other folds' patients.

    Args:
        scenes: What is divided, by patient.
        seed: Seed of the order of patients.
        fixed: Scenes that every model sees.
    """
    folds = _folds(scenes, fixed, seed)
    for fold in folds:
        slope, offset = _calibrated([pair for other in folds if other is not fold for pair in other.odds])
        for scene, _ in fold.odds:
            yield scene, replace(fold.model, slope=slope, offset=offset)


@dataclass(frozen=True, eq=False)
class _Fold:
    """A model, and the patients it has not seen, each scene with its odds."""

    model: AnchorModel
    odds: list[tuple[Scene, Floats]]


def _folds(scenes: Sequence[Scene], fixed: Sequence[Scene], seed: int) -> list[_Fold]:
    patients = sorted({scene.patient for scene in scenes if scene.bodies})
    order = np.random.default_rng(seed).permutation(len(patients))
    folds = []
    for first in range(min(FOLDS, len(patients))):
        hidden = {patients[index] for index in order[first::FOLDS]}
        model = _weights([*fixed, *(scene for scene in scenes if scene.patient not in hidden)])
        odds = [(each, model.raw(_features(each))) for each in scenes if each.patient in hidden and each.bodies]
        folds.append(_Fold(model, odds))
    return folds


def _features(scene: Scene) -> Floats:
    return np.array([body.features for body in scene.bodies])


def _weights(scenes: Sequence[Scene]) -> AnchorModel:
    """Penalised maximum likelihood by Newton's steps; not calibrated."""
    used = [scene for scene in scenes if scene.bodies]
    features = np.concatenate([_features(scene) for scene in used])
    truth = np.concatenate([np.arange(len(scene.bodies)) == scene.last for scene in used]).astype(np.float64)
    mean, scale = np.nanmean(features, axis=0), np.nanstd(features, axis=0) + 1e-6
    size = features.shape[1]
    model = AnchorModel(mean, scale, np.zeros(size), 0.0, 1.0, 0.0, THRESHOLD, LEAST_SEEN_BELOW, (0.0, np.inf))
    design = np.hstack([model.standard(features), np.ones((len(features), 1))])
    penalty = np.append(np.full(size, PENALTY), 0.0)
    found = np.zeros(size + 1)
    for _ in range(60):
        likely = 1 / (1 + np.exp(-np.clip(design @ found, -30, 30)))
        slopes = design.T @ (likely - truth) + penalty * found
        curvature = (design * (likely * (1 - likely))[:, None]).T @ design + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curvature, slopes)
        found -= step
        if np.abs(step).max() < 1e-7:
            break
    return replace(model, weights=found[:-1], bias=float(found[-1]))


def _calibrated(held_out: Sequence[tuple[Scene, Floats]]) -> tuple[float, float]:
    """Slope and offset of the largest likelihood of which body is the last, or that none is."""
    most = max(len(raw) for _, raw in held_out)
    odds = np.full((len(held_out), most), -np.inf)
    for row, (_, raw) in enumerate(held_out):
        odds[row, : len(raw)] = raw
    there = np.isfinite(odds)
    truth = np.array([-1 if scene.last is None else scene.last for scene, _ in held_out])
    rows, none = np.arange(len(truth)), truth < 0
    best = (-np.inf, 1.0, 0.0)
    for slope in _SLOPES:
        scaled = np.where(there, slope * np.where(there, odds, 0.0), -np.inf)
        for offset in _OFFSETS:
            of_all = np.log1p(
                np.exp(np.clip(scaled + offset, -30, 30), where=there, out=np.zeros_like(odds)).sum(axis=1)
            )
            right = np.where(none, 0.0, scaled[rows, np.maximum(truth, 0)] + offset)
            likelihood = float((right - of_all).sum())
            best = max(best, (likelihood, float(slope), float(offset)))
    return best[1], best[2]
