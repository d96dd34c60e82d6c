"""Labelled scans, whole and with their lower end cut off, and what the picture shows of the bodies that are left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.picture import LEAST_BODIES, Surroundings
from verdiff.anatomy.vertebrae import bodies_seen
from verdiff.evaluate.fold import cases_of, scans_of
from verdiff.evaluate.labels import label_table
from verdiff.imaging import Geometry, plan_slices, read_labels
from verdiff.imaging.volume import Array

# Where scans are cut, in pitches below L5's lower end; None is the whole scan. Below 0 the cut runs through L5 and up.
CUTS = (None, 1.5, 1.0, 0.75, 0.5, 0.25, 0.0, -0.5, -1.0, -1.5, -2.0)
# Slices this far from the middle of the mask are left out: levels are read near the curve.
_REACH_MM = 8.0
# A body is another mask's body if its middle lies within this many pitches of it.
_SAME = 0.5
# Distances of bodies in pitches that are even.
_EVEN = (0.7, 1.4)


@dataclass(frozen=True, eq=False)
class Scene:
    """What is seen in one scan, whole or cut.

    Attributes:
        case: Its name.
        patient: Whose it is: what folds are made by.
        cut: Where it ends, in pitches below L5's lower end, or None.
        bodies: Bodies from the lowest up.
        last: Which of them is the last above the sacrum; None where the scan or the mask does not have it.
    """

    case: str
    patient: str
    cut: float | None
    bodies: tuple[Surroundings, ...]
    last: int | None


def scenes(
    data: Path, *, masks: Path | None = None, least_bodies: int = LEAST_BODIES, cuts: tuple[float | None, ...] = CUTS
) -> Iterator[Scene]:
    """Every case of a data set, whole and cut.

    The lowest vertebra of an expert's mask is taken for the last above the sacrum: the data sets are labelled so. Of
    single slices this is sure where they show a column of bodies at even distances, and no pieces of bodies and arches:
    others are left out.

    Args:
        data: An nnU-Net raw data set of MR whose masks have vertebrae.
        masks: A folder with other masks, ``CASE_0000_seg.nii.gz`` as ``verdiff infer`` writes them; cases without one
            are left out. The expert's say where L5 is.
        least_bodies: Scans of which the expert's mask has fewer bodies are left out.
        cuts: Where they are cut.
    """
    ids = label_table(None, data / "labelsTr")
    for scan in scans_of(data, cases_of(data), modality="MR"):
        whole = _slab(scan.volume.array, scan.truth, scan.volume.geometry)
        expert = bodies_seen(whole.labels, whole.geometry, ids, whole.image)
        if len(expert) + 1 < least_bodies or (len(scan.truth) == 1 and not _regular(expert)):
            continue
        used, names = whole, ids
        if masks is not None:
            path = masks / f"{scan.name}_0000_seg.nii.gz"
            if not path.exists():
                continue
            used = _slab(scan.volume.array, read_labels(path).array, scan.volume.geometry)
            names = {"vertebra": 1, "disc": 2, "canal": 3}
        for cut in cuts:
            part = _cut(used, expert, cut)
            if part is None:
                continue
            bodies = bodies_seen(part.labels, part.geometry, names, part.image)
            yield Scene(scan.name, patient_of(scan.name), cut, bodies, _last(bodies, expert))


def patient_of(case: str) -> str:
    """``spider108`` of ``spider108t2_s03``; other cases are patients of their own."""
    found = re.fullmatch(r"(.+\d)t[12]_s\d+", case)
    return case if found is None else found[1]


@dataclass(frozen=True, eq=False)
class _Part:
    image: Array
    labels: NDArray[np.integer]
    geometry: Geometry


def _slab(image: Array, labels: NDArray[np.integer], geometry: Geometry) -> _Part:
    """The sagittal slices near the middle of the mask."""
    plan = plan_slices(geometry, view="sagittal", spacing_mm=None)
    axis = plan.permutation[0]
    filled = np.nonzero(labels)[axis]
    middle = int(np.median(filled)) if filled.size else labels.shape[axis] // 2
    reach = max(1, round(_REACH_MM / plan.slice_spacing_mm))
    return _within(_Part(image, labels, geometry), axis, middle - reach, middle + reach + 1)


def _within(part: _Part, axis: int, first: int, stop: int) -> _Part:
    """The voxels from ``first`` to before ``stop`` along an axis of the arrays."""
    first, stop = max(0, first), min(part.labels.shape[axis], stop)
    voxel, size = [0.0, 0.0, 0.0], list(part.geometry.size)
    voxel[2 - axis], size[2 - axis] = float(first), stop - first
    x, y, z = part.geometry.index_to_mm(voxel).tolist()
    geometry = replace(part.geometry, size=(size[0], size[1], size[2]), origin_mm=(x, y, z))
    chosen = tuple(slice(first, stop) if each == axis else slice(None) for each in range(3))
    return _Part(np.ascontiguousarray(part.image[chosen]), np.ascontiguousarray(part.labels[chosen]), geometry)


def _cut(part: _Part, expert: tuple[Surroundings, ...], cut: float | None) -> _Part | None:
    """The scan with its lower end cut off; None where it ends above the cut already."""
    if cut is None:
        return part
    plan = plan_slices(part.geometry, view="sagittal", spacing_mm=None)
    lowest, above = expert[0].middle_mm[0], expert[1].middle_mm[0]
    rows = round((lowest + (0.5 + cut) * (lowest - above)) / plan.pixel_spacing_mm[0])
    axis, n = plan.permutation[1], plan.scan_rows
    if rows >= n:
        return None
    first, stop = (n - rows, n) if plan.flips[1] else (0, rows)
    return _within(part, axis, first, stop)


def _regular(bodies: tuple[Surroundings, ...]) -> bool:
    rows = np.array([body.middle_mm[0] for body in bodies])
    steps = -np.diff(rows) / bodies[0].pitch_mm
    return bool(((steps > _EVEN[0]) & (steps < _EVEN[1])).all())


def _last(bodies: tuple[Surroundings, ...], expert: tuple[Surroundings, ...]) -> int | None:
    """Which body is where the expert's lowest one is."""
    if not bodies:
        return None
    where, pitch = np.array(expert[0].middle_mm), expert[0].pitch_mm
    far = [float(np.linalg.norm(np.array(body.middle_mm) - where)) for body in bodies]
    nearest = int(np.argmin(far))
    return nearest if far[nearest] < _SAME * pitch else None
