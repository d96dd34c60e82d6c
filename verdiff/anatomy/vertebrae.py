"""A semantic mask becomes vertebrae: each found, counted, named where something says its level, and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.anchor import sight_of
from verdiff.anatomy.column import BONE, DISC, Column, Spacing, column_of, profile, tissues
from verdiff.anatomy.frame import AnatomicalFrame, Labels, Mask, frame_of
from verdiff.anatomy.levels import parse_level
from verdiff.anatomy.measures import level_votes, measured, remarks_on
from verdiff.anatomy.naming import names_of, numbered
from verdiff.anatomy.picture import Surroundings, surroundings
from verdiff.anatomy.regions import assign
from verdiff.anatomy.roles import roles_of
from verdiff.anatomy.segments import Segment, pitch_mm, segments_of
from verdiff.anatomy.spine import CANAL_ID, DISCS_FROM, PARTIAL_FROM, Spine
from verdiff.errors import InputError
from verdiff.imaging import Geometry
from verdiff.imaging.volume import Array

_UNOWNED = 255
ASK_FOR_LOWEST = "levels unknown: nothing in the mask says them; name the lowest vertebra, for example --lowest L5"


def find_vertebrae(
    labels: Labels,
    geometry: Geometry,
    label_ids: Mapping[str, int],
    *,
    lowest: str | None = None,
    uncertainty: NDArray[np.uint8] | None = None,
    image: Array | None = None,
) -> Spine:
    """The vertebrae of a mask.

    Args:
        labels: Label ids [z, y, x].
        geometry: Their grid. A single plane without thickness is a film: its rows run from top to bottom, and a pixel
            counts as a millimetre.
        label_ids: Name and id of the structures; see :func:`verdiff.anatomy.roles.roles_of`.
        lowest: Level of the lowest vertebra in the mask, for example ``"L5"``.
        uncertainty: 0 (sure) to 255, on the same grid.
        image: Intensities of an MR scan on the same grid, from which levels are read where nothing else says them
            (:mod:`verdiff.anatomy.anchor`); None leaves them unknown.

    Raises:
        InputError: No structure is a vertebra, ``lowest`` is no level, or the arrays do not fit the grid.
        BackendError: The extra ``[anatomy]`` is not installed.
    """
    roles = roles_of(label_ids)
    level = None if lowest is None else parse_level(lowest)
    for name, array in (("labels", labels), ("uncertainty", uncertainty), ("image", image)):
        if array is not None and array.shape != geometry.shape:
            raise InputError(
                f"{name} of shape {array.shape}", f"the grid's shape {geometry.shape}", "give arrays of one grid"
            )
    bone, disc, canal, sacrum = (np.isin(labels, ids) for ids in (roles.bones, roles.discs, roles.canal, roles.sacrum))
    instances = np.zeros(labels.shape, np.uint8)
    instances[canal] = CANAL_ID
    if not bone.any():
        return Spine(instances, (), None, ("no vertebra in the mask",), geometry)
    parted = _part(bone, disc, canal, sacrum, geometry)
    if parted is None:
        return Spine(instances, (), None, ("no vertebral body in the mask",), geometry)
    frame, tissue, column, segments = parted
    regions = assign(tissue, column, segments, frame.spacing_mm)
    there = set(np.unique(regions).tolist())
    kept = [n for n, segment in enumerate(segments, start=1) if not segment.dropped and n in there][::-1]
    if not kept:
        return Spine(instances, (), None, ("no vertebral body in the mask",), geometry)
    bodies = [segments[number - 1] for number in kept]
    numbers = numbered([body.middle_mm for body in bodies], [body.height_mm for body in bodies])
    ids = [number + PARTIAL_FROM * body.cut_off for number, body in zip(numbers, bodies, strict=True)]
    _put_vertebrae(instances, frame, regions, dict(zip(kept, ids, strict=True)), bone, tissue)
    if roles.discs:
        _put_discs(instances, frame, column, tissue, disc, bodies, numbers)
    film = frame.plan.view == "film"
    names = names_of(
        numbers,
        lowest=level,
        votes=level_votes(labels, instances, ids, roles),
        on_sacrum=bool(sacrum.any()) and _on_sacrum(frame.reduced(sacrum), column, bodies[0], frame.spacing_mm),
        sight=None if image is None or film else sight_of(surroundings(image, frame, column, bodies)),
    )
    vertebrae = measured(instances, geometry, bodies, numbers, names, uncertainty, film)
    unowned_ml = (int(bone.sum()) - int(np.isin(instances, ids).sum())) * geometry.voxel_ml
    ask = () if names.source is not None else (ASK_FOR_LOWEST,)
    remarks = (*names.remarks, *ask, *remarks_on(segments, bodies, vertebrae, unowned_ml, film))
    return Spine(instances, vertebrae, names.source, remarks, geometry, names.probability)


def bodies_seen(
    labels: Labels, geometry: Geometry, label_ids: Mapping[str, int], image: Array
) -> tuple[Surroundings, ...]:
    """What a picture shows of the bodies of a mask, from the lowest up: what levels are read from.

    Args:
        labels: Label ids [z, y, x].
        geometry: Their grid.
        label_ids: Name and id of the structures.
        image: Intensities [z, y, x] on the same grid.
    """
    roles = roles_of(label_ids)
    bone, disc, canal, sacrum = (np.isin(labels, ids) for ids in (roles.bones, roles.discs, roles.canal, roles.sacrum))
    parted = _part(bone, disc, canal, sacrum, geometry) if bone.any() else None
    if parted is None:
        return ()
    frame, _, column, segments = parted
    return surroundings(image, frame, column, [each for each in segments if not each.dropped][::-1])


def _part(
    bone: Mask, disc: Mask, canal: Mask, sacrum: Mask, geometry: Geometry
) -> tuple[AnatomicalFrame, NDArray[np.uint8], Column, list[Segment]] | None:
    """The working grid, what is in it, the spine's curve and the bodies along it; None where there is no body."""
    frame = frame_of(bone | disc | canal | sacrum, geometry)
    tissue = tissues(*(frame.reduced(mask) for mask in (bone, disc, canal)))
    column = column_of(tissue, frame.spacing_mm)
    return None if column is None else (frame, tissue, column, _segments(tissue, column, frame))


def _segments(tissue: NDArray[np.uint8], column: Column, frame: AnatomicalFrame) -> list[Segment]:
    bone, disc = profile(tissue, column, frame.spacing_mm)
    first, last = column.points_mm[0, 1], column.points_mm[-1, 1]
    bottom = (tissue.shape[1] - 1) * frame.spacing_mm[1]
    return segments_of(
        bone,
        disc,
        open_top=frame.open_top and first < frame.spacing_mm[1] * 1.5,
        open_bottom=frame.open_bottom and last > bottom - frame.spacing_mm[1] * 1.5 - 1,
    )


def _put_vertebrae(
    instances: NDArray[np.uint8],
    frame: AnatomicalFrame,
    regions: NDArray[np.int32],
    ids: Mapping[int, int],
    bone: Mask,
    tissue: NDArray[np.uint8],
) -> None:
    table = np.full(int(regions.max()) + 1, _UNOWNED, np.uint8)
    for region, number in ids.items():
        if region < len(table):
            table[region] = number
    found = np.where(tissue == BONE, table[regions], 0)
    fine = frame.restored(found, bone)
    fine[fine == _UNOWNED] = 0
    np.copyto(instances, fine, where=bone)


def _put_discs(
    instances: NDArray[np.uint8],
    frame: AnatomicalFrame,
    column: Column,
    tissue: NDArray[np.uint8],
    disc: Mask,
    bodies: Sequence[Segment],
    numbers: Sequence[int],
) -> None:
    """Each disc voxel goes to the nearest space between two bodies; the ends have one more each."""
    half = float(np.median(pitch_mm(list(bodies)[::-1]))) / 2
    spaces = [(bodies[0].bottom_mm + half / 3, numbers[0])]
    spaces += [
        ((lower.top_mm + upper.bottom_mm) / 2, number)
        for lower, upper, number in zip(bodies, bodies[1:], numbers[1:], strict=False)
    ]
    spaces.append((bodies[-1].top_mm - half / 3, numbers[-1] + 1))
    index = np.argwhere(tissue == DISC)
    if not len(index):
        return
    at_mm = column.project(index * np.asarray(frame.spacing_mm))[1]
    nearest = np.abs(at_mm[:, None] - np.array([at for at, _ in spaces])).argmin(axis=1)
    found = np.zeros(tissue.shape, np.uint8)
    found[tuple(index.T)] = DISCS_FROM + np.array([number for _, number in spaces])[nearest]
    np.copyto(instances, frame.restored(found, disc), where=disc)


def _on_sacrum(sacrum: Mask, column: Column, lowest: Segment, spacing_mm: Spacing) -> bool:
    """Whether the sacrum begins where the next vertebra would."""
    rows = np.flatnonzero(sacrum.any(axis=(0, 2)))
    end = min(round(lowest.bottom_mm), len(column.points_mm) - 1)
    return bool(rows.size) and abs(rows[0] * spacing_mm[1] - column.points_mm[end, 1]) < lowest.height_mm
