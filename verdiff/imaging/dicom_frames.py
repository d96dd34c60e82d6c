"""What each frame of a DICOM file states: its place, and the line from stored numbers to intensities.

An enhanced file states them frame by frame in its functional groups (DICOM PS3.3, C.7.6.16), any other file once.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from verdiff.errors import InputError
from verdiff.imaging.dicom_elements import Elements, Items, decimals_of, items_of, numbers_of, text_of
from verdiff.imaging.dicom_header import DicomFile
from verdiff.imaging.stack import Plane
from verdiff.imaging.volume import FILM, FILM_MODALITIES

_ROWS, _COLUMNS, _FRAMES = 0x00280010, 0x00280011, 0x00280008
_POSITION, _ORIENTATION, _SPACING, _THICKNESS = 0x00200032, 0x00200037, 0x00280030, 0x00180050
_IMAGER_SPACING, _NOMINAL_SPACING, _BETWEEN = 0x00181164, 0x00182010, 0x00180088
_INTERCEPT, _SLOPE, _RESCALE_TYPE = 0x00281052, 0x00281053, 0x00281054
_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_PLANE_POSITION, _PLANE_ORIENTATION, _MEASURES, _VALUES = 0x00209113, 0x00209116, 0x00289110, 0x00289145
_REAL_WORLD, _REAL_INTERCEPT, _REAL_SLOPE = 0x00409096, 0x00409224, 0x00409225
_MOST_FRAMES = 1 << 16


@dataclass(frozen=True)
class DicomFrame:
    """One slice of one file.

    Attributes:
        file: Whose it is.
        index: Its number in the file, from 0.
        plane: Where it lies.
        slope, intercept: Factor and summand that make intensities of stored numbers.
    """

    file: DicomFile
    index: int
    plane: Plane
    slope: float
    intercept: float


def modality_of(file: DicomFile) -> str | None:
    """The modality that a file states, "XR" for films of every kind."""
    stated = file.text(0x00080060).upper()
    return FILM if stated in FILM_MODALITIES else stated or None


def check_grey(file: DicomFile, name: str) -> None:
    """Refuse what is no image, or is one in colour.

    Raises:
        InputError: Which names the file.
    """
    if file.pixels is None or not file.whole(_ROWS) or not file.whole(_COLUMNS):
        lacks = "holds no pixels" if file.pixels is None else "does not state its rows and columns"
        raise InputError(
            f"{name} cannot be read as an image: it {lacks} (modality {file.text(0x00080060) or 'not stated'})",
            "a DICOM image",
            "pass the images; move reports and other objects out of the folder",
        )
    samples, kind = file.whole(0x00280002, 1), file.text(0x00280004).upper()
    if samples != 1 or kind not in ("MONOCHROME1", "MONOCHROME2", ""):
        colour = {3: "RGB", 4: "RGBA"}.get(samples, kind or "no grey values")
        raise InputError(
            f"{name} has {samples} value{'s' if samples != 1 else ''} a pixel ({colour}, {kind})",
            "one grey value a pixel",
            "export it as a greyscale image",
        )


def frames_of(file: DicomFile, name: str, *, alone: bool = False) -> list[DicomFrame]:
    """The frames of a file in the order in which they are stored.

    Args:
        file: An image.
        name: How to call it in messages.
        alone: Whether messages about its frames need not name it.

    Raises:
        InputError: If it states another number of frames than it describes, or a scaling that is no number.
        Damaged: If a number of it is none.
    """
    count = _frame_count(file, name)
    shared = (items_of(file.elements, _SHARED) or [{}])[0]
    groups = items_of(file.elements, _PER_FRAME)
    if groups and len(groups) != count:
        raise InputError(
            f"{name} states {count} frames and describes {len(groups)}",
            "as many frames as are described",
            "copy or export the file again",
        )
    frames = []
    for index in range(count):
        own: Elements = groups[index] if groups else {}
        where = name if count == 1 else f"frame {index + 1}" + ("" if alone else f" of {name}")
        slope, intercept = _scaling(file, own, shared)
        called = f"{where} of {name}" if alone and count > 1 else where
        if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
            raise InputError(
                f"{called} states a rescale slope of {slope:g} and an intercept of {intercept:g}",
                "a slope that is not 0 and an intercept, both finite",
                "export the image again",
            )
        several = count > 1 and not groups
        frames.append(DicomFrame(file, index, _plane(file, own, shared, where, several=several), slope, intercept))
    return frames


def rescale_type(frame: DicomFrame) -> str:
    """What a frame says that its intensities are, such as "HU"; empty where it does not say."""
    for elements in (_group_of(frame, _VALUES), frame.file.elements):
        if said := text_of(elements, _RESCALE_TYPE):
            return said
    return ""


def spacing_between(frame: DicomFrame) -> float:
    """The distance of slices in mm that a frame states; 0 where it states none."""
    stated = numbers_of(_group_of(frame, _MEASURES), _BETWEEN) or frame.file.numbers(_BETWEEN)
    return abs(stated[0]) if stated and math.isfinite(stated[0]) else 0.0


def _group_of(frame: DicomFrame, tag: int) -> Elements:
    groups = items_of(frame.file.elements, _PER_FRAME)
    shared = (items_of(frame.file.elements, _SHARED) or [{}])[0]
    return _group(groups[frame.index] if groups else {}, shared, tag)


def _frame_count(file: DicomFile, name: str) -> int:
    count = (numbers_of(file.elements, _FRAMES) or (1.0,))[0]
    if not count.is_integer() or not 1 <= count <= _MOST_FRAMES:
        raise InputError(
            f"{name} states {count:g} frames", f"a number from 1 to {_MOST_FRAMES}", "copy or export the file again"
        )
    return int(count)


def _plane(file: DicomFile, own: Elements, shared: Elements, where: str, *, several: bool) -> Plane:
    measures = _group(own, shared, _MEASURES)
    spacing = numbers_of(measures, _SPACING) or file.numbers(_SPACING)
    if not spacing and modality_of(file) == "XR":
        spacing = file.numbers(_IMAGER_SPACING) or file.numbers(_NOMINAL_SPACING)
    placed = _group(own, shared, _PLANE_POSITION)
    position = numbers_of(placed, _POSITION)
    if not position and not several:
        placed, position = file.elements, file.numbers(_POSITION)
    orientation = numbers_of(_group(own, shared, _PLANE_ORIENTATION), _ORIENTATION)
    # One position for several frames says nothing of where each of them lies.
    if not several:
        orientation = orientation or file.numbers(_ORIENTATION)
    thickness = numbers_of(measures, _THICKNESS) or file.numbers(_THICKNESS) or (0.0,)
    return Plane(
        where,
        (file.whole(_COLUMNS), file.whole(_ROWS)),
        spacing,
        position,
        orientation,
        max(0.0, thickness[0]),
        decimals_of(placed, _POSITION) if position else None,
    )


def _group(own: Elements, shared: Elements, tag: int) -> Elements:
    """The functional group of a frame: its own, else the one of all frames."""
    items: Items = items_of(own, tag) or items_of(shared, tag)
    return items[0] if items else {}


def _scaling(file: DicomFile, own: Elements, shared: Elements) -> tuple[float, float]:
    """Slope and intercept: of the frame's group, else of the file, else of its one mapping to real-world values."""
    for elements in (_group(own, shared, _VALUES), file.elements):
        slope, intercept = numbers_of(elements, _SLOPE), numbers_of(elements, _INTERCEPT)
        if slope or intercept:
            return (slope or (1.0,))[0], (intercept or (0.0,))[0]
    mappings = items_of(own, _REAL_WORLD) or items_of(shared, _REAL_WORLD) or items_of(file.elements, _REAL_WORLD)
    if len(mappings) == 1:
        return _double(file, mappings[0], _REAL_SLOPE, 1.0), _double(file, mappings[0], _REAL_INTERCEPT, 0.0)
    return 1.0, 0.0


def _double(file: DicomFile, elements: Elements, tag: int, default: float) -> float:
    value = elements.get(tag)
    if not isinstance(value, bytes) or len(value) != 8:
        return default
    return float(struct.unpack(file.order + "d", value)[0])
