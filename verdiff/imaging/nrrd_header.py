"""What a NRRD header states: its fields, its axes, and their steps and lengths in millimetres."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging import checks
from verdiff.imaging.detached import is_list
from verdiff.imaging.foreign import other_than
from verdiff.imaging.volume import Array
from verdiff.imaging.voxels import damaged

_MOST_HEADER = 1 << 20
DATA_FILE = ("data file", "datafile")
# Not a name that a header can have.
LISTED = "listed files:"
_UNITS_MM = {
    **dict.fromkeys(("", "mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micron", "microns"), 1e-3),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micrometres"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometers"), 1e-6),
    **dict.fromkeys(("in", "inch", "inches"), 25.4),
}
_SPACING_TOLERANCE = 1e-3


def read_fields(stream: BufferedReader, path: Path) -> dict[str, str]:
    """The header's fields by name in lower case; the stream is left behind the empty line that ends it.

    Raises:
        InputError: If it does not begin or end as a NRRD header does, or has a field twice.
    """
    start = stream.peek(256)[:256]
    if not stream.readline(16).startswith(b"NRRD00"):
        raise InputError(
            f"{path} {other_than('a NRRD file', start)}", "a file that begins with NRRD000", "pass the right file"
        )
    fields: dict[str, str] = {}
    while True:
        line = stream.readline(_MOST_HEADER)
        if not line.endswith(b"\n") or stream.tell() > _MOST_HEADER:
            # A header of its own may end with the file.
            if not line and any(field in fields for field in DATA_FILE):
                return fields
            raise damaged(path, "its header does not end")
        text = os.fsdecode(line.rstrip(b"\r\n"))
        if not text.strip():
            return fields
        # A pair of key and value; either may hold a colon. A field's name ends with a colon and a blank.
        pair = ":=" in text.partition(": ")[0]
        if text.startswith("#") or pair:
            continue
        name, colon, value = text.partition(":")
        if not colon:
            raise damaged(path, f"its header has the line {text[:60]!r}")
        if name.strip().lower() in fields:
            raise damaged(path, f"its header has the field {name.strip()!r} twice")
        fields[name.strip().lower()] = value.strip()
        if name.strip().lower() in DATA_FILE and is_list(value.strip()):
            # The list is the rest of a header of its own.
            fields[LISTED] = os.fsdecode(stream.read(_MOST_HEADER))
            return fields


def sizes_of(fields: dict[str, str], path: Path) -> tuple[list[int], list[int]]:
    """The length of every axis, and the numbers of those that are the patient's: two or three.

    Raises:
        InputError: If lengths and axes do not fit each other, or there is colour or more than one volume.
    """
    try:
        sizes = [int(part) for part in fields["sizes"].split()]
        stated = int(fields["dimension"])
    except (KeyError, ValueError) as error:
        raise damaged(path, "its header does not state the dimension and the sizes") from error
    if stated != len(sizes) or not 1 <= stated <= 16 or min(sizes) < 1:
        raise damaged(path, f"its header states the dimension {stated} and the sizes {fields['sizes']}")
    kinds = [kind.lower() for kind in fields.get("kinds", "").split()] or ["???"] * stated
    vectors = _split_vectors(fields.get("space directions", "")) or ["?"] * stated
    if len(kinds) != stated or len(vectors) != stated:
        raise damaged(path, f"its header has {len(kinds)} kinds and {len(vectors)} directions for {stated} axes")
    kept = []
    for axis in range(stated):
        samples = kinds[axis] not in ("domain", "space", "time", "???", "none", "list") or (
            vectors[axis] == "none" and axis < stated - 3
        )
        if samples:
            checks.check_scalar(sizes[axis], str(path))
        elif vectors[axis] != "none":
            kept.append(axis)
        elif sizes[axis] > 1:
            kept.append(axis)
            checks.check_dimensions((*sizes[:3], sizes[axis]), str(path))
    checks.check_dimensions(tuple(sizes[axis] for axis in kept), str(path))
    kept = kept[:3]
    if len(kept) < 2:
        raise damaged(path, f"its header states the sizes {fields['sizes']}, which are no plane")
    return sizes, kept


def vectors_of(fields: dict[str, str], kept: list[int], path: Path) -> Array | None:
    """The step along each kept axis in mm, one a column [2 or 3, n], in the header's space; None where it has none.

    Raises:
        InputError: If they are no numbers, or in a unit that is no length.
    """
    texts = _split_vectors(fields.get("space directions", ""))
    if not texts or all(text == "none" for text in texts):
        return None
    found = [_numbers(texts[axis], path, "space directions") for axis in kept]
    length = min(3, max(len(vector) for vector in found))
    if any(len(vector) < length for vector in found) or any(any(vector[3:]) for vector in found):
        raise damaged(path, f"its header has the space directions {fields['space directions']}")
    vectors = np.array([vector[:length] for vector in found]).T * _units_mm(fields, "space units", path)[:length, None]
    if not np.isfinite(vectors).all():
        raise damaged(path, "its header has space directions that are no numbers")
    return vectors


def spacings_of(fields: dict[str, str], kept: list[int], vectors: Array | None, path: Path) -> list[float]:
    """The distance of voxels along each kept axis in mm.

    Raises:
        InputError: If the header states none, or two that differ.
    """
    lengths = None if vectors is None else np.linalg.norm(vectors, axis=0)
    stated = None
    if "spacings" in fields:
        values = _numbers(fields["spacings"], path, "spacings")
        units = _units_mm(fields, "units", path, kept)
        stated = [
            abs(values[axis]) * float(unit) if axis < len(values) else math.nan
            for axis, unit in zip(kept, units, strict=True)
        ]
        stated = None if any(math.isnan(value) for value in stated) else stated
    if lengths is None and stated is None:
        raise InputError(
            f"{path} states no voxel spacing: neither space directions nor spacings",
            "a header with the spacing and the orientation",
            "convert the scan again from its DICOM files, or write the true space and space directions into the header",
        )
    if lengths is None:
        return list(stated or ())
    if stated is not None and np.abs(np.asarray(stated) - lengths).max() > _SPACING_TOLERANCE * lengths.max():
        raise InputError(
            f"{path} states two spacings: spacings {stated} and space directions {lengths.round(4).tolist()}",
            "one spacing in the whole header",
            "find out which is true and save the scan with it",
        )
    if lengths.min() == 0:
        raise InputError(
            f"{path} states a voxel spacing of {' x '.join(f'{value:g}' for value in lengths)} mm",
            f"spacings between {checks.MIN_SPACING_MM:g} and {checks.MAX_SPACING_MM:g} mm on every axis",
            "write the true spacing into the header",
        )
    return [float(value) for value in lengths]


def origin_of(fields: dict[str, str], path: Path) -> Array:
    """The first voxel's centre in mm, in the header's space; zeros where it states none.

    Raises:
        InputError: If it is no position.
    """
    if "space origin" not in fields:
        return np.zeros(3)
    values = _numbers(fields["space origin"], path, "space origin")
    if len(values) < 3:
        raise damaged(path, f"its header has the space origin {fields['space origin']}")
    return np.array(values[:3]) * _units_mm(fields, "space units", path)


def _units_mm(fields: dict[str, str], field: str, path: Path, axes: Sequence[int] = (0, 1, 2)) -> Array:
    """Millimetres of the unit that a field states for each of some axes; of an axis without one, 1."""
    stated = [unit.strip().lower() for unit in re.findall(r'"([^"]*)"', fields.get(field, ""))]
    known = [stated[axis] if axis < len(stated) else "" for axis in axes]
    if strange := [unit for unit in known if unit not in _UNITS_MM]:
        raise InputError(
            f"{path} states its lengths in {strange[0]!r} ({field})",
            "millimetres, or another unit of length",
            "write the lengths in mm into the header",
        )
    return np.array([_UNITS_MM[unit] for unit in known])


def _split_vectors(text: str) -> list[str]:
    return [part.replace(" ", "") for part in re.findall(r"none|\([^)]*\)", text)]


def _numbers(text: str, path: Path, field: str) -> list[float]:
    try:
        return [float(part) for part in re.split(r"[,\s]+", text.strip("() ")) if part]
    except ValueError as error:
        raise damaged(path, f"its header has the {field} {text[:60]}") from error
