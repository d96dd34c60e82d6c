"""A volume in any orientation as a stack of upright slices on the model's pixels, and the way back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from verdiff.choices import VIEWS, View
from verdiff.errors import VerdiffError
from verdiff.imaging.picture import Box
from verdiff.imaging.resample import resize_planes
from verdiff.imaging.volume import IDENTITY, Array, Geometry

# LPS axis (0 = left, 1 = posterior, 2 = superior) and its sign for slices, rows and columns.
_CANONICAL: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "sagittal": ((0, 1), (2, -1), (1, 1)),
    "coronal": ((1, 1), (2, -1), (0, 1)),
    "axial": ((2, 1), (1, 1), (0, 1)),
}
_ISOTROPIC_RATIO, _NEAR_RATIO = 1.2, 2.0
PADDING = -1.0


@dataclass(frozen=True)
class SlicePlan:
    """How a scan's array becomes model input, and how maps come back.

    Args:
        view: "sagittal", "coronal", "axial" or "film".
        permutation: Axes of the scan's array [z, y, x] in the order slices, rows, columns.
        flips: Whether slices, rows, columns run against the scan's own order.
        source_shape: Shape [z, y, x] of the scan's array.
        slices: Number of slices.
        scan_rows, scan_cols: Plane of the scan's own pixels.
        model_rows, model_cols: Size of that field of view in the model's pixels, before padding.
        padded_rows, padded_cols: The network's input: multiples of its stride, never made square.
        spacing_mm: Row and column pitch of the model's pixels.
        pixel_spacing_mm: Row and column pitch of the scan's pixels.
        slice_spacing_mm: Distance of slices.
        top, left: Where the network's input begins in the model's pixels; not 0 in a plan made by :meth:`windowed`.
        picture: The box [z, y, x] of the scan's array that the slices are taken from, or None for all of it. What is
            outside comes back as zeros.
    """

    view: View
    permutation: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    source_shape: tuple[int, int, int]
    slices: int
    scan_rows: int
    scan_cols: int
    model_rows: int
    model_cols: int
    padded_rows: int
    padded_cols: int
    spacing_mm: tuple[float, float]
    pixel_spacing_mm: tuple[float, float]
    slice_spacing_mm: float
    top: int = 0
    left: int = 0
    picture: Box | None = None

    def windowed(self, rows: slice, cols: slice) -> SlicePlan:
        """The same slices with a part of each as the network's input; what lies outside comes back as zeros.

        Args:
            rows: Rows of the whole input, [0, padded_rows); its length is a multiple of what the network wants.
            cols: Columns of the whole input, [0, padded_cols); its length is such a multiple too.

        Raises:
            VerdiffError: The window is empty or reaches beyond the whole input.
        """
        fits = 0 <= rows.start < rows.stop <= self.padded_rows and 0 <= cols.start < cols.stop <= self.padded_cols
        if self.top or self.left or not fits:
            raise VerdiffError(
                f"the window {rows.start}:{rows.stop}, {cols.start}:{cols.stop}",
                f"a part of {self.padded_rows} x {self.padded_cols} model pixels of a plan without a window",
                "report this as a defect",
            )
        return replace(
            self,
            top=rows.start,
            left=cols.start,
            padded_rows=rows.stop - rows.start,
            padded_cols=cols.stop - cols.start,
        )

    def extract(self, array: Array) -> Array:
        """The scan's array [z, y, x] as a view [slices, scan_rows, scan_cols] in canonical orientation."""
        inside = array if self.picture is None else array[self.picture]
        return np.flip(inside.transpose(self.permutation), self._flipped)

    def place(self, index_zyx: Sequence[float]) -> tuple[float, float, float]:
        """Slice, row and column of a (fractional) voxel index z, y, x of the scan's array."""
        taken = [index_zyx[axis] for axis in self.permutation]
        sizes = (self.slices, self.scan_rows, self.scan_cols)
        found = [n - 1 - at if flip else at for at, n, flip in zip(taken, sizes, self.flips, strict=True)]
        return found[0], found[1], found[2]

    def insert(self, planes: Array) -> Array:
        """Planes [slices, scan_rows, scan_cols] as an array [z, y, x] in the scan's axes: extract undone exactly."""
        whole = np.zeros(self.source_shape, planes.dtype)
        self.extract(whole)[...] = planes
        return whole

    def to_model(self, planes: Array) -> NDArray[np.float32]:
        """Normalised planes [n, scan_rows, scan_cols] as network input [n, 1, padded_rows, padded_cols].

        Padding goes right and below, with the darkest value.
        """
        padded = np.full((planes.shape[0], 1, self.padded_rows, self.padded_cols), PADDING, dtype=np.float32)
        rows, cols = self._part
        part = resize_planes(planes, self.model_rows, self.model_cols, target=(rows, cols))[:, rows, cols]
        padded[:, 0, : part.shape[1], : part.shape[2]] = part
        return padded

    def from_model(self, maps: Array) -> NDArray[np.float32]:
        """Maps [n, K, padded_rows, padded_cols] of any float type as float32 [n, K, scan_rows, scan_cols].

        The result has the scan's own pixels, K of them a voxel: hand over a few slices at a time, and reduce those to
        labels before the next, or a whole CT takes gigabytes.
        """
        rows, cols = self._part
        part = maps[..., : rows.stop - rows.start, : cols.stop - cols.start]
        if part.shape[-2:] == (self.model_rows, self.model_cols):
            return resize_planes(part, self.scan_rows, self.scan_cols)
        whole = np.zeros((*maps.shape[:-2], self.model_rows, self.model_cols), dtype=np.float32)
        whole[..., rows, cols] = part
        return resize_planes(whole, self.scan_rows, self.scan_cols, source=(rows, cols))

    @property
    def _part(self) -> tuple[slice, slice]:
        """Rows and columns of the field of view, in the model's pixels, that the network's input shows."""
        bottom, right = self.top + self.padded_rows, self.left + self.padded_cols
        return slice(self.top, min(bottom, self.model_rows)), slice(self.left, min(right, self.model_cols))

    @property
    def _flipped(self) -> tuple[int, ...]:
        return tuple(axis for axis, flip in enumerate(self.flips) if flip)


def plan_slices(
    geometry: Geometry, *, view: View, spacing_mm: float | None, multiple: int = 1, picture: Box | None = None
) -> SlicePlan:
    """How to slice this grid for a model.

    The voxel axes nearest to the patient's are permuted and flipped, never resampled: exact for the 48 axis
    orientations, and an oblique scan is sliced along its own axes. Sagittal slices run from right to left, coronal
    from anterior to posterior, axial from inferior to superior; rows start superior (axial: anterior), columns
    anterior (coronal, axial: right). A film is taken as it is.

    Args:
        geometry: The scan's grid.
        view: The model's view.
        spacing_mm: The model's pixel, or None for the scan's own.
        multiple: What the network's input must be a multiple of.
        picture: Box of the scan's array to take the slices from (:func:`verdiff.imaging.picture.picture_of`), or None
            for all of it.

    Raises:
        VerdiffError: For an unknown view, a spacing that is not positive, or a multiple below 1.
    """
    if view not in VIEWS or multiple < 1 or (spacing_mm is not None and not 0 < spacing_mm < math.inf):
        raise VerdiffError(
            f"view {view!r}, spacing {spacing_mm!r} mm, multiple {multiple!r}",
            f"a view of {', '.join(VIEWS)}, a positive spacing and a multiple of at least 1",
            "correct the model's manifest or the training configuration",
        )
    permutation, flips = ((0, 1, 2), (False, False, False)) if view == "film" else _nearest_axes(geometry, view)
    shape, spacing = geometry.shape, geometry.spacing_mm[::-1]
    lengths = shape if picture is None else [part.stop - part.start for part in picture]
    slices, rows, cols = (lengths[axis] for axis in permutation)
    slice_pitch, row_pitch, col_pitch = (float(spacing[axis]) for axis in permutation)
    model_rows = rows if spacing_mm is None else max(1, round(rows * row_pitch / spacing_mm))
    model_cols = cols if spacing_mm is None else max(1, round(cols * col_pitch / spacing_mm))
    return SlicePlan(
        view=view,
        permutation=permutation,
        flips=flips,
        source_shape=shape,
        slices=slices,
        scan_rows=rows,
        scan_cols=cols,
        model_rows=model_rows,
        model_cols=model_cols,
        padded_rows=-(-model_rows // multiple) * multiple,
        padded_cols=-(-model_cols // multiple) * multiple,
        spacing_mm=(rows * row_pitch / model_rows, cols * col_pitch / model_cols),
        pixel_spacing_mm=(row_pitch, col_pitch),
        slice_spacing_mm=slice_pitch,
        picture=picture,
    )


def canonical_direction(view: Literal["sagittal", "coronal", "axial"]) -> tuple[float, ...]:
    """Direction cosines, row major, of an array whose slices, rows and columns are a view's own, in its own order."""
    matrix = np.zeros((3, 3))
    # Array axes are slices, rows, columns; voxel axes x, y, z are columns, rows, slices.
    for voxel, (world, sign) in zip((2, 1, 0), _CANONICAL[view], strict=True):
        matrix[world, voxel] = sign
    return tuple(float(cosine) for cosine in matrix.ravel())


def acquisition_view(geometry: Geometry) -> Literal["sagittal", "coronal", "axial", "film", "isotropic"]:
    """How the scan was acquired.

    One slice lies across its own axis. It is a "film" only where the grid says nothing of the patient: it is not
    ``oriented``, or it lies at the origin along the identity without a thickness of its own. A stack lies across the
    axis of the largest spacing, where that is clearly the largest. Else it is "isotropic": where the largest is within
    20 % of the second, as in slices thinner than their pixels, and where all spacings lie within a factor of two and
    the coarsest axis has not the fewest voxels, so that pixels are merely not square.
    """
    size, spacing = geometry.size, geometry.spacing_mm
    axes, _ = _assignment(geometry)
    views: tuple[Literal["sagittal", "coronal", "axial"], ...] = ("sagittal", "coronal", "axial")
    if 1 in size:
        bare = geometry.direction == IDENTITY and not any(geometry.origin_mm) and _no_thickness(spacing)
        if size[2] == 1 and (bare or not geometry.oriented):
            return "film"
        return views[axes.index(size.index(1))]
    fine, middle, coarse = sorted(spacing)
    thick = spacing.index(coarse)
    if coarse <= _ISOTROPIC_RATIO * middle or (coarse <= _NEAR_RATIO * fine and size[thick] > min(size)):
        return "isotropic"
    return views[axes.index(thick)]


def _no_thickness(spacing: tuple[float, ...]) -> bool:
    """Whether a plane's thickness is made of its pixels, as a film's is."""
    x, y, z = spacing
    return max(spacing) <= _ISOTROPIC_RATIO * min(spacing) or math.isclose(z, math.sqrt(x * y), rel_tol=1e-6)


def _assignment(geometry: Geometry) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each patient axis L, P, S the voxel axis nearest to it, and the sign with which it runs."""
    cosines = geometry.matrix

    def fit(axes: tuple[int, ...]) -> float:
        # Rounded, so that a tie at 45 degrees is decided the same way on every machine.
        return round(sum(abs(float(cosines[world, voxel])) for world, voxel in enumerate(axes)), 6)

    axes = max(itertools.permutations(range(3)), key=fit)
    return axes, tuple(1 if cosines[world, voxel] >= 0 else -1 for world, voxel in enumerate(axes))


def _nearest_axes(geometry: Geometry, view: View) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    axes, signs = _assignment(geometry)
    first, second, third = _CANONICAL[view]
    # Voxel axis x, y, z is array axis 2, 1, 0.
    permutation = (2 - axes[first[0]], 2 - axes[second[0]], 2 - axes[third[0]])
    flips = (signs[first[0]] != first[1], signs[second[0]] != second[1], signs[third[0]] != third[1])
    return permutation, flips
