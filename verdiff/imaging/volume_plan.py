"""A scan as one volume on a 3D model's grid: resampled in the plane and across the slices, padded to its patch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from verdiff.choices import View
from verdiff.errors import VerdiffError
from verdiff.imaging.intensity import normalise
from verdiff.imaging.resample import resize_matrix
from verdiff.imaging.slicing import PADDING, SlicePlan, plan_slices
from verdiff.imaging.volume import Array, Geometry
from verdiff.imaging.windows import Read, Shape

Plane = NDArray[np.float32]
Mapper = Callable[[Callable[[int], Plane], Iterable[int]], Iterable[Plane]]

# Slices of the scan on the model's pixels that are held at a time.
_BLOCK = 32


@dataclass(frozen=True)
class VolumePlan:
    """How a scan's array becomes a volume of the model, and how maps come back.

    Args:
        planes: The scan's slices and their way to the model's pixels; with a crop, only what lies in it.
        slices: The model's slices over the same extent, before padding.
        shape: Slices, rows and columns that windows are laid over: at least a patch each, never made a multiple of it.
        spacing_mm: Millimetres from slice to slice, row to row and column to column of the model's grid.
    """

    planes: SlicePlan
    slices: int
    shape: Shape
    spacing_mm: tuple[float, float, float]

    @property
    def inside(self) -> Shape:
        """Slices, rows and columns of :attr:`shape` that show the scan; after them comes padding."""
        return self.slices, self.planes.padded_rows, self.planes.padded_cols

    @property
    def across(self) -> NDArray[np.float32]:
        """Weights [scan's slices, model's slices] that bring maps back to the scan's slices; rows sum to 1."""
        return resize_matrix(self.planes.slices, self.slices)

    def reader(self, array: Array, bounds: tuple[float, float], over: Mapper = map) -> Read:
        """The scan as the network sees it, some slices of the model at a time.

        Args:
            array: The scan's own, [z, y, x].
            bounds: Intensities that become -1 and 1.
            over: Maps the work over the scan's slices, for example over several workers.

        Returns:
            A function of ``start:stop`` within :attr:`shape` that gives float32 [n, H, W] in [-1, 1]; what is padding
            has the scan's darkest voxel. A slice's bits do not depend on which others are asked for.
        """
        planes = self.planes.extract(array)
        darkest = float(normalise(array.min(keepdims=True), *bounds)[0, 0, 0])

        def read(wanted: slice) -> Plane:
            return self.to_model(lambda index: normalise(planes[index], *bounds), wanted, padding=darkest, over=over)

        return read

    def to_model(
        self, plane_of: Callable[[int], Plane], wanted: slice, *, padding: float = PADDING, over: Mapper = map
    ) -> Plane:
        """Slices ``wanted`` of the model's volume, float32 [n, H, W].

        Args:
            plane_of: Slice of the scan -> [scan_rows, scan_cols].
            wanted: Part of :attr:`shape` that is wanted.
            padding: Fills what lies beyond the scan.
            over: See :meth:`reader`.
        """
        slices, rows, cols = self.inside
        volume = np.full((wanted.stop - wanted.start, *self.shape[1:]), padding, np.float32)
        weights = resize_matrix(slices, self.planes.slices)[wanted]
        part = volume[: len(weights), :rows, :cols]
        part[...] = 0

        def one(index: int) -> Plane:
            # One at a time: a matrix product over more planes may round differently.
            plane: Plane = self.planes.to_model(plane_of(index)[None])[0, 0]
            return plane

        used = np.flatnonzero(weights.any(axis=0))
        for first in range(0, len(used), _BLOCK):
            sources = [int(index) for index in used[first : first + _BLOCK]]
            for source, plane in zip(sources, over(one, sources), strict=True):
                for index in np.flatnonzero(weights[:, source]):
                    part[index] += weights[index, source] * plane
        return volume

    def labels_to_model(self, array: Array, ids: Sequence[int]) -> NDArray[np.uint8]:
        """A mask on the model's grid, uint8 of :attr:`shape`: 0 background and padding, then order in ``ids`` + 1.

        Each structure is resampled as a map of its own and the largest wins where it passes one half: a mask taken
        from the nearest voxel would have the scan's staircase.

        Args:
            array: Label ids, [z, y, x].
            ids: Label ids of the structures, in the order of the channels.
        """
        planes = self.planes.extract(array)
        labels = np.zeros(self.shape, np.uint8)
        best = np.full(self.shape, 0.5, np.float32)
        for channel, value in enumerate(ids, start=1):
            share = self.to_model(
                lambda index, value=value: (planes[index] == value).astype(np.float32),  # type: ignore[misc]
                slice(0, self.shape[0]),
                padding=0.0,
            )
            larger = share > best
            labels[larger] = channel
            np.copyto(best, share, where=larger)
        return labels


def plan_volume(
    geometry: Geometry, *, view: View, spacing_mm: Sequence[float], patch: Sequence[int], crop: float = 1.0
) -> VolumePlan:
    """How to bring this grid before a 3D model: upright slices as :func:`plan_slices` orders them, then the model's
    spacing along all three axes, then padding behind, below and to the right up to a patch.

    Args:
        geometry: The scan's grid.
        view: The model's view.
        spacing_mm: The model's, from slice to slice, row to row, column to column.
        patch: Slices, rows and columns of the network's input.
        crop: Share of the columns that is kept, around the middle. A sagittal scan of the spine has it in its middle
            half (SAFNet, "Data preprocessing": a box of D x H x W / 2 around the centre); outside of the crop the
            answer is background.

    Raises:
        VerdiffError: For an unknown view, a spacing that is not positive, an empty patch or a crop outside (0, 1].
    """
    if len(spacing_mm) != 3 or len(patch) != 3 or not all(0 < p < float("inf") for p in spacing_mm) or min(patch) < 1:
        raise VerdiffError(
            f"a patch of {tuple(patch)} at a spacing of {tuple(spacing_mm)} mm",
            "three lengths of at least 1 and three positive spacings: slices, rows, columns",
            "correct the model's manifest or the training configuration",
        )
    if not 0 < crop <= 1:
        raise VerdiffError(f"a crop to {crop!r} of the columns", "more than 0, at most 1", "correct the crop")
    own = plan_slices(geometry, view=view, spacing_mm=None)
    counts = own.slices, own.scan_rows, own.scan_cols
    pitches = own.slice_spacing_mm, *own.pixel_spacing_mm
    extents = [count * pitch for count, pitch in zip(counts, pitches, strict=True)]
    slices, rows, cols = (max(1, round(mm / wanted)) for mm, wanted in zip(extents, spacing_mm, strict=True))
    spacing = extents[0] / slices, extents[1] / rows, extents[2] / cols
    planes = replace(
        own, model_rows=rows, model_cols=cols, padded_rows=rows, padded_cols=cols, spacing_mm=(spacing[1], spacing[2])
    )
    kept = max(1, round(cols * crop))
    if kept < cols:
        left = (cols - kept) // 2
        planes = planes.windowed(slice(0, rows), slice(left, left + kept))
    shape = max(slices, patch[0]), max(rows, patch[1]), max(kept, patch[2])
    return VolumePlan(planes, slices, shape, spacing)
