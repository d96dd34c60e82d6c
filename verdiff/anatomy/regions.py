"""Which vertebra each voxel of bone belongs to: bodies flooded from the curve, arches and processes joined to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.column import BONE, Column, Floats, Spacing, body_depth_mm
from verdiff.anatomy.libraries import library
from verdiff.anatomy.processes import Fragment, owners
from verdiff.anatomy.segments import Segment, pitch_mm

Regions = NDArray[np.int32]

# The part of a body, from end plate to end plate, that surely is its own.
_CORE = 0.7
# A cut without a witness is a wall this thick to the flood; others are necks of the bone, which it finds by itself.
_WALL_MM = 3.0
# One vertebra's arch reaches from its upper articular process to the tip of its spinous process; the part of it that
# a stack of midline slices shows does not.
_ARCH_PITCHES, _PROCESS_PITCHES = 1.6, 1.0
_ERODE_MM = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0)
_BEHIND_MM = 1.0
_LEAST_FRAGMENT_ML = 0.05


def assign(tissue: NDArray[np.uint8], column: Column, segments: Sequence[Segment], spacing_mm: Spacing) -> Regions:
    """The segment, counted from 1 at the top, that each voxel of bone belongs to; 0 for none.

    Bodies are flooded from their cores by watershed on the depth of the bone, so that they part at its necks
    (osteophytes, facet joints, a mask's bridges). What lies behind the canal's front wall is taken as whole fragments,
    which join the body they touch most, then the vertebra they touch most, and where they touch none the one whose
    processes are to be expected there.
    """
    ndimage = library("scipy.ndimage")
    bone, n = tissue == BONE, len(segments)
    index = np.argwhere(bone)
    at, at_mm, offset = column.project(index * np.asarray(spacing_mm))
    behind = np.einsum("ij,ij->i", offset, column.backwards[at])
    markers = np.zeros(tissue.shape, np.int32)
    flat = np.asarray(np.ravel_multi_index(tuple(index.T), tissue.shape))
    depth = ndimage.distance_transform_edt(bone, spacing_mm)
    landscape = -depth.ravel()[flat]
    within = np.einsum("ij,ij->i", offset, offset) <= column.radius_mm[at] ** 2
    wall = _body_depth(tissue, column, segments, spacing_mm)
    arch = behind > wall[at] + _BEHIND_MM
    for number, segment in enumerate(segments, start=1):
        margin = (1 - _CORE) / 2 * segment.height_mm
        core = within & (at_mm >= segment.top_mm + margin) & (at_mm <= segment.bottom_mm - margin)
        markers.ravel()[flat[core]] = number
        for cut in (segment.above, segment.below):
            if cut is not None and not cut.sure:
                landscape = np.where(arch, landscape, landscape * np.clip(np.abs(at_mm - cut.at_mm) / _WALL_MM, 0, 1))
    _mark_arches(markers, flat, at_mm, arch, depth, segments)
    heights = np.zeros(tissue.shape, np.float32)
    heights.ravel()[flat] = landscape
    flooded: Regions = library("skimage.segmentation").watershed(heights, markers, mask=bone).astype(np.int32)
    loose = ndimage.label(bone & (flooded == 0))[0]
    flooded[loose > 0] = loose[loose > 0] + max(int(flooded.max()), n)
    labels = flooded.ravel()[flat]
    counts, sums = np.bincount(labels), np.bincount(labels, weights=at_mm)
    low, high = _extents(labels, at_mm)
    fragments = [
        Fragment(i, int(counts[i]), float(sums[i] / counts[i]), float(low[i]), float(high[i]))
        for i in np.flatnonzero(counts).tolist()
        if i > n
    ]
    owner = owners(fragments, _contacts(flooded, spacing_mm), segments)
    table = np.zeros(len(counts), np.int32)
    table[: n + 1] = np.arange(n + 1)[: len(counts)]
    smallest = _LEAST_FRAGMENT_ML * 1000 / float(np.prod(spacing_mm))
    for fragment in fragments:
        speck = fragment.voxels < smallest and fragment.label not in owner
        table[fragment.label] = 0 if speck else owner.get(fragment.label, 0)
    regions: Regions = table[flooded]
    return regions


def _body_depth(tissue: NDArray[np.uint8], column: Column, segments: Sequence[Segment], spacing_mm: Spacing) -> Floats:
    """Distance from the curve to the bodies' back wall, at every millimetre: each body's median, joined by lines."""
    rays = body_depth_mm(tissue, column, spacing_mm)
    at, depths = [], []
    for segment in segments:
        within = rays[round(segment.top_mm) : round(segment.bottom_mm)]
        if np.isfinite(within).any():
            at.append(segment.middle_mm)
            depths.append(float(np.nanmedian(within)))
    if not at:
        return np.full(len(rays), np.inf)
    return np.interp(np.arange(len(rays)), at, depths)


def _mark_arches(
    markers: Regions,
    flat: NDArray[np.intp],
    at_mm: Floats,
    arch: NDArray[np.bool_],
    depth: Floats,
    segments: Sequence[Segment],
) -> None:
    """A marker for each piece of the arches that is no longer than one vertebra's; longer ones are eroded until so."""
    ndimage = library("scipy.ndimage")
    pitch, middles = pitch_mm(segments), [segment.middle_mm for segment in segments]
    body = np.zeros(markers.shape, bool)
    body.ravel()[flat[~arch]] = True
    beside_body = ndimage.binary_dilation(body).ravel()
    left = arch & (markers.ravel()[flat] == 0)
    fresh = int(markers.max()) + 1
    for erode in _ERODE_MM:
        left &= depth.ravel()[flat] > erode
        if not left.any():
            break
        mask = np.zeros(markers.shape, bool)
        mask.ravel()[flat[left]] = True
        where = flat[left]
        piece = ndimage.label(mask)[0].ravel()[where]
        low, high = _extents(piece, at_mm[left])
        touching = np.bincount(piece, beside_body[where]) > 0
        middle = np.bincount(piece, at_mm[left]) / np.maximum(np.bincount(piece), 1)
        longest = np.where(touching, _ARCH_PITCHES, _PROCESS_PITCHES) * np.interp(middle, middles, pitch)
        short = high - low <= longest
        number = np.cumsum(short) + fresh
        markers.ravel()[where[short[piece]]] = number[piece[short[piece]]]
        fresh = int(number[-1]) + 1
        # What was eroded away from a piece that is still too long belongs to whichever flood reaches it.
        left[left] = ~short[piece]


def _extents(labels: NDArray[np.integer], values: Floats) -> tuple[Floats, Floats]:
    """Least and largest value of each label from 0 on; plus and minus infinity for one that is not there."""
    low = np.full(int(labels.max(initial=0)) + 1, np.inf)
    high = -low
    np.minimum.at(low, labels, values)
    np.maximum.at(high, labels, values)
    return low, high


def _contacts(labels: Regions, spacing_mm: Spacing) -> dict[tuple[int, int], float]:
    """Area in mm2 of the faces between each two labels, both ways."""
    areas: dict[tuple[int, int], float] = {}
    size = int(labels.max()) + 1
    for axis, spacing in enumerate(spacing_mm):
        face = float(np.prod(spacing_mm)) / spacing
        here = np.moveaxis(labels, axis, 0)
        first, second = here[:-1], here[1:]
        touching = (first != second) & (first > 0) & (second > 0)
        pairs, counts = np.unique(first[touching].astype(np.int64) * size + second[touching], return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            for key in (divmod(pair, size), divmod(pair, size)[::-1]):
                areas[key] = areas.get(key, 0.0) + count * face
    return areas
