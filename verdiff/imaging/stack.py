"""One check for whatever states the position of its slices: do they form a volume, and which?

Files of a folder, frames of an enhanced file and frames of several files are all :class:`Plane` here. Every stated
position is compared with the one that the volume's grid gives it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging import checks
from verdiff.imaging.volume import Array, Geometry

# A stated position may lie this far from the computed one, along each voxel axis: the larger of the two.
PLACE_TOLERANCE_MM = 0.01
PLACE_TOLERANCE_VOXELS = 0.01
# Half of the last decimal of a position that is stated to a tenth of a millimetre; coarser ones say too little.
MOST_ROUNDING_MM = 0.05
_MOST_ROUNDED = 4096
# Beyond this two cosines of one orientation are no rounding of a right angle and of length one.
_COSINE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Plane:
    """Where one slice lies by its own words.

    Attributes:
        name: The file or frame, for messages.
        size: Columns and rows.
        pixel_spacing: Millimetres from row to row and from column to column.
        position: Centre of the first pixel, LPS mm; empty where nothing is stated.
        orientation: Cosines along a row and along a column, six; empty where nothing is stated.
        thickness: Thickness of the slice, mm; 0 where nothing is stated.
        decimals: Decimals of the position's most exact string; None where it is not known.
    """

    name: str
    size: tuple[int, int]
    pixel_spacing: tuple[float, ...]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    thickness: float = 0.0
    decimals: int | None = None

    @property
    def placed(self) -> bool:
        """Whether the slice says where it lies at all."""
        return bool(self.position or self.orientation)


def check_plane(plane: Plane, name: str = "") -> None:
    """Refuse a slice whose position, orientation or spacing is missing or makes no sense.

    Args:
        plane: The slice.
        name: The file or folder it is of, where its own name does not say.

    Raises:
        InputError: Which names the slice.
    """
    called = f"{plane.name} of {name}" if name else plane.name
    stated = len(plane.position), len(plane.orientation), len(plane.pixel_spacing)
    if stated != (3, 6, 2):
        lacking = [
            name
            for name, have, want in zip(
                ("Image Position (Patient)", "Image Orientation (Patient)", "Pixel Spacing"),
                stated,
                (3, 6, 2),
                strict=True,
            )
            if have != want
        ]
        raise InputError(
            f"{called} does not say where its pixels lie: it lacks {' and '.join(lacking)}",
            "Image Position, Image Orientation (Patient) and Pixel Spacing of every slice",
            "pass single films one by one; export a volume's slices with their positions",
        )
    check_spacing(plane, called)
    values = np.array([*plane.position, *plane.orientation])
    row, column = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    cosines = abs(float(row @ row) - 1), abs(float(column @ column) - 1), abs(float(row @ column))
    if not np.isfinite(values).all() or not max(cosines) <= _COSINE_TOLERANCE:
        raise InputError(
            f"{called} has the position {_listed(plane.position)} and the orientation {_listed(plane.orientation)}",
            "a position in millimetres, and two directions at right angles, each of length one",
            "export the image again",
        )


def check_spacing(plane: Plane, name: str) -> None:
    """Refuse a pixel spacing that no scanner has.

    Args:
        plane: The slice.
        name: How to call it.

    Raises:
        InputError: Which names the slice.
    """
    if any(not checks.MIN_SPACING_MM <= value <= checks.MAX_SPACING_MM for value in plane.pixel_spacing):
        raise InputError(
            f"{name} states a pixel spacing of {' x '.join(f'{v:g}' for v in plane.pixel_spacing)} mm",
            f"spacings between {checks.MIN_SPACING_MM:g} and {checks.MAX_SPACING_MM:g} mm",
            "export the image with its true Pixel Spacing",
        )


def stack(planes: Sequence[Plane], name: str) -> tuple[list[int], Geometry, tuple[str, ...]]:
    """The order of the slices along their normal, the grid they form, and what has to be said of it.

    Args:
        planes: Two or more, in any order.
        name: The file or folder, for messages.

    Raises:
        InputError: If a slice does not say where it lies; if slices differ in size, spacing or orientation, share a
            position, leave a gap, are spaced unevenly or are shifted against each other; or if the gantry was tilted.
    """
    for plane in planes:
        check_plane(plane, name)
    first = planes[0]
    for plane in planes[1:]:
        _refuse_other_plane(first, plane, name)
    turn = _turn(first)
    # Along the rows, along the columns, along the normal.
    places = np.array([plane.position for plane in planes]) @ turn
    order = sorted(range(len(planes)), key=lambda index: (float(places[index, 2]), planes[index].name))
    places = places[order]
    names = [planes[index].name for index in order]
    step = float(places[-1, 2] - places[0, 2]) / (len(planes) - 1)
    _refuse_shared(places[:, 2], names, name)
    pitches = np.array([first.pixel_spacing[1], first.pixel_spacing[0], abs(step)])
    allowed = np.maximum(PLACE_TOLERANCE_MM, PLACE_TOLERANCE_VOXELS * pitches)
    computed = places[0] + np.arange(len(planes))[:, None] / (len(planes) - 1) * (places[-1] - places[0])
    origin, notes = np.array(planes[order[0]].position), tuple[str, ...]()
    travel = places[-1] - places[0]
    uneven = bool(np.any(np.abs(places - computed) > allowed))
    # Few slices whose positions are rounded may lean as those of a tilted gantry do.
    leaning = bool(np.any(np.abs(travel[:2]) > np.maximum(allowed[:2], checks.MAX_SHEAR * abs(travel[2]))))
    line = _even_line([planes[index] for index in order], turn[:, 2]) if uneven or leaning else None
    if line is not None:
        origin, places = line[0], line @ turn
        travel = places[-1] - places[0]
        step = float(travel[2]) / (len(planes) - 1)
        notes = (
            f"its slices state positions that are rounded ({_decimals(planes)} decimals) and are taken as evenly "
            f"spaced, {step:.4g} mm apart",
        )
    elif uneven:
        raise _uneven(places, names, name, allowed)
    # Rounding is not made an orientation; what moves the last slice further is kept, as stated.
    across = turn[:, 2]
    if np.any(np.abs(travel[:2]) > allowed[:2]):
        checks.check_not_sheared(np.column_stack([np.eye(3)[:, :2], travel]), f"{name} (a tilted gantry)")
        across = turn @ (travel / np.linalg.norm(travel))
    geometry = Geometry(
        size=(first.size[0], first.size[1], len(planes)),
        spacing_mm=(first.pixel_spacing[1], first.pixel_spacing[0], step),
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(np.column_stack([turn[:, :2], across]).ravel().tolist()),
    )
    return order, geometry, notes


def _even_line(planes: Sequence[Plane], normal: Array) -> Array | None:
    """Evenly spaced positions [slices, 3] of which the stated ones are the rounding, or None where there are none.

    A writer that rounds to 0.1 mm moves each coordinate by 0.05 mm at most. Along each axis there is an even spacing
    for it exactly if one step fits every pair of slices, whatever the two were rounded by. Of the steps that fit, one
    along the normal is taken if there is any: rounding is no tilt.
    """
    decimals = _decimals(planes)
    if decimals is None or len(planes) > _MOST_ROUNDED:
        return None
    positions = np.array([plane.position for plane in planes])
    off = min(0.5 * 10.0**-decimals, MOST_ROUNDING_MM) + 1e-9
    numbers = np.arange(len(planes))[:, None]
    least, most = np.full(3, -math.inf), np.full(3, math.inf)
    for apart in range(1, len(planes)):
        moves = positions[apart:] - positions[:-apart]
        least = np.maximum(least, (moves - 2 * off).max(axis=0) / apart)
        most = np.minimum(most, (moves + 2 * off).min(axis=0) / apart)
    if np.any(least > most):
        return None
    step = (least + most) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.sort(np.stack([least, most]) / normal, axis=0)
    along = np.abs(normal) > _COSINE_TOLERANCE
    least_along, most_along = ends[0, along].max(), ends[1, along].min()
    if least_along <= most_along and np.all((least <= 0) & (most >= 0) | along):
        step = (least_along + most_along) / 2 * normal
    rest = positions - numbers * step
    return np.asarray((rest.max(axis=0) + rest.min(axis=0)) / 2 + numbers * step)


def _decimals(planes: Sequence[Plane]) -> int | None:
    """The decimals of the finest position: what the writer rounded all of them to; None where one does not say."""
    stated = [plane.decimals for plane in planes]
    return None if None in stated else max((each for each in stated if each is not None), default=None)


def single(plane: Plane) -> Geometry:
    """The grid of one slice; without a stated thickness its voxel is kept near a cube.

    Raises:
        InputError: If it does not say where it lies.
    """
    check_plane(plane)
    rows, columns = plane.pixel_spacing
    thickness = plane.thickness if plane.thickness > 0 else math.sqrt(rows * columns)
    place = plane.position
    return Geometry(
        (*plane.size, 1),
        (columns, rows, thickness),
        (place[0], place[1], place[2]),
        tuple(_turn(plane).ravel().tolist()),
    )


def _turn(plane: Plane) -> Array:
    """Cosines of rows, columns and normal, one a column [3, 3]."""
    row, column = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    return np.column_stack([row, column, np.cross(row, column)])


def _refuse_other_plane(first: Plane, other: Plane, name: str) -> None:
    """Compare where two slices place their corners, each relative to its own first pixel."""
    turned = _extent(first, first.orientation) - _extent(first, other.orientation)
    allowed = max(PLACE_TOLERANCE_MM, PLACE_TOLERANCE_VOXELS * min(first.pixel_spacing))
    spaced = np.subtract(first.pixel_spacing, other.pixel_spacing) * first.size[::-1]
    what = None
    if other.size != first.size:
        what = f"size ({_by(first.size)} and {_by(other.size)} pixels)"
    elif np.linalg.norm(turned, axis=0).max() > allowed:
        degrees = math.degrees(math.acos(min(1.0, abs(float(_turn(first)[:, 2] @ _turn(other)[:, 2])))))
        what = f"orientation ({degrees:.2f} degrees between their normals)"
    elif np.abs(spaced).max() > allowed:
        what = f"pixel spacing ({_by(first.pixel_spacing)} and {_by(other.pixel_spacing)} mm)"
    if what is not None:
        raise InputError(
            f"the slices {first.name} and {other.name} of {name} differ in {what}",
            "one stack of parallel slices of one size",
            "move scouts and localisers out of the folder, or export each stack on its own",
        )


def _extent(plane: Plane, orientation: Sequence[float]) -> Array:
    """Vectors from the first pixel to the ends of the first row and the first column, one a column [3, 2]."""
    lengths = np.array([plane.pixel_spacing[1] * plane.size[0], plane.pixel_spacing[0] * plane.size[1]])
    return np.asarray(np.reshape(orientation, (2, 3)).T * lengths)


def _refuse_shared(along: Array, names: Sequence[str], name: str) -> None:
    steps = np.diff(along)
    median = float(np.median(steps))
    same = np.flatnonzero(steps <= max(PLACE_TOLERANCE_MM, PLACE_TOLERANCE_VOXELS * median))
    if same.size:
        index = int(same[0])
        raise InputError(
            f"the slices {names[index]} and {names[index + 1]} of {name} share a position"
            + (f", as {same.size - 1} more do" if same.size > 1 else ""),
            "one slice at each position",
            "split time points, echoes or repetitions into folders (or files) of their own",
        )


def _uneven(places: Array, names: Sequence[str], name: str, allowed: Array) -> InputError:
    """Why slices do not form a grid: a slice beside the others, a gap, or steps that grow."""
    moves = np.diff(places, axis=0)
    usual = np.median(moves, axis=0)
    numbers = np.arange(len(places))[:, None]
    rest = places - numbers * usual
    off = rest - np.median(rest, axis=0)
    worst = int(np.argmax(np.abs(off[:, :2]).max(axis=1)))
    # A tilt moves every slice by as much; a slice on its own is moved against the usual step.
    if np.abs(off[worst, :2]).max() > allowed[:2].min():
        return InputError(
            f"the slice {names[worst]} of {name} is shifted by {np.linalg.norm(off[worst, :2]):.2f} mm in its plane "
            "against the others",
            "slices that lie in one box, each above the other",
            "leave that slice out or export the series again; a stack that was moved during the scan is no volume",
        )
    steps = moves[:, 2]
    uneven = int(np.argmax(np.abs(steps - usual[2])))
    count = steps[uneven] / usual[2]
    missing = round(count) - 1 if count > 1.5 and abs(count - round(count)) < 0.05 else 0
    remedy = f"copy the missing slices ({missing} at this place)" if missing else "copy the missing slices"
    digits = 2 if abs(steps[uneven] - usual[2]) > 0.02 else 4
    return InputError(
        f"the slices {names[uneven]} and {names[uneven + 1]} of {name} are {steps[uneven]:.{digits}f} mm apart where "
        f"the others are {usual[2]:.{digits}f} mm apart",
        "evenly spaced slices",
        f"{remedy}, or resample the series to even spacing",
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.8g}" for value in values)
