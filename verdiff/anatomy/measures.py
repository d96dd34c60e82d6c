"""What is measured of each vertebra, and what a reader of the figures should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.frame import Labels
from verdiff.anatomy.libraries import library
from verdiff.anatomy.naming import Names, typical_heights
from verdiff.anatomy.roles import Roles
from verdiff.anatomy.segments import Segment
from verdiff.anatomy.spine import PARTIAL_FROM, Vertebra
from verdiff.imaging import Geometry, sides_cut

_UNOWNED_ML = 0.2
_UNLIKE = 0.35


def level_votes(labels: Labels, instances: NDArray[np.uint8], ids: Sequence[int], roles: Roles) -> list[dict[str, int]]:
    """For each vertebra how many of its voxels the model gave each level."""
    if not roles.levels:
        return [{} for _ in ids]
    boxes = library("scipy.ndimage").find_objects(instances)
    votes = []
    for number in ids:
        counted: Counter[str] = Counter()
        if number <= len(boxes) and boxes[number - 1] is not None:
            own = labels[boxes[number - 1]][instances[boxes[number - 1]] == number]
            for value, count in zip(*np.unique(own, return_counts=True), strict=True):
                if int(value) in roles.levels:
                    counted[roles.levels[int(value)]] += int(count)
        votes.append(dict(counted))
    return votes


def measured(
    instances: NDArray[np.uint8],
    geometry: Geometry,
    bodies: Sequence[Segment],
    numbers: Sequence[int],
    names: Names,
    uncertainty: NDArray[np.uint8] | None,
    film: bool,
) -> tuple[Vertebra, ...]:
    boxes = library("scipy.ndimage").find_objects(instances, max_label=255)
    found = []
    for body, number, level in zip(bodies, numbers, names.levels, strict=True):
        value = number + PARTIAL_FROM * body.cut_off
        box = boxes[value - 1]
        own = instances[box] == value
        index = np.argwhere(own).mean(axis=0) + [part.start for part in box]
        doubt = None if uncertainty is None else float(uncertainty[box][own].mean()) / 255
        x, y, z = geometry.index_to_mm(index[::-1]).tolist()
        found.append(
            Vertebra(
                number=number,
                level=level,
                complete=not body.cut_off,
                volume_ml=None if film else int(own.sum()) * geometry.voxel_ml,
                centroid_mm=(x, y, z),
                height_mm=body.height_mm,
                separation=body.separation,
                uncertainty=doubt,
                confidence=None if doubt is None else (1 - doubt) * body.separation,
                cut_sides=sides_cut(instances == value, geometry),
            )
        )
    return tuple(found)


def remarks_on(
    segments: Sequence[Segment],
    bodies: Sequence[Segment],
    vertebrae: Sequence[Vertebra],
    unowned_ml: float,
    film: bool,
) -> list[str]:
    said = []
    for lower, upper in pairwise(vertebrae):
        if missed := upper.number - lower.number - 1:
            said.append(f"{missed} missing between {lower.name} and {upper.name}: the mask has a gap there")
    whole = [vertebra for vertebra in vertebrae if vertebra.complete]
    for vertebra, usual in zip(whole, typical_heights([each.height_mm for each in whole]), strict=True):
        if abs(vertebra.height_mm / usual - 1) > _UNLIKE:
            said.append(f"{vertebra.name} is {vertebra.height_mm:.0f} mm tall, those around it {usual:.0f} mm")
    for vertebra, body in zip(vertebrae, bodies, strict=True):
        if body.below is not None and body.below.witness == "height":
            said.append(f"{vertebra.name} was parted from the one below by its height alone")
    said += [
        f"{vertebra.name} is cut off where the scan or the mask ends" for vertebra in vertebrae if not vertebra.complete
    ]
    partial = [vertebra.name for vertebra in vertebrae if vertebra.cut_sides]
    if partial and not film:
        said.append(f"the field of view cuts {', '.join(partial)}: each volume is of the part within it")
    dropped = sum(segment.dropped for segment in segments)
    if dropped:
        said.append(f"{dropped} piece{'s' * (dropped > 1)} too small to be a vertebra left without a number")
    if not film and unowned_ml > _UNOWNED_ML:
        said.append(f"{unowned_ml:.1f} ml of vertebra belong to none whose body is in the scan")
    return said
