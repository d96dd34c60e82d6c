"""MetaImage, read with what its header says and nothing made up: https://itk.org/Wiki/MetaIO/Documentation."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging import checks
from verdiff.imaging.detached import data_files, is_list, joined
from verdiff.imaging.encodings import TEXT, decoded, most_bytes
from verdiff.imaging.foreign import kind_of
from verdiff.imaging.orientation import (
    FORMS,
    axis_code,
    code_matrix,
    geometry_by_code,
    mean_pitch,
    nothing_stated,
    parse_orientation,
    refuse_other_code,
    said_by_option,
)
from verdiff.imaging.volume import Array, Geometry, Volume
from verdiff.imaging.voxels import damaged, read_voxels, scaled

_MOST_HEADER = 1 << 20
_KINDS = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
# Writers differ in the letter of an oblique axis: it may be one that the axis runs to half as much as to its nearest.
_OBLIQUE = 0.5
_UNITS_MM = {"?": 1.0, "mm": 1.0, "cm": 10.0, "um": 1e-3, "m": 1000.0}
_TRUTHS = {**dict.fromkeys("tT1", True), **dict.fromkeys("fF0", False), "": False}
_OPPOSITE = str.maketrans("LRAPSI", "RLPAIS")


def read(path: Path, choice: str | None) -> Volume:
    """A scan or mask in one `.mha`, or in a `.mhd` and the files of voxels that it names.

    Args:
        path: `.mha` or `.mhd`.
        choice: Where the voxel axes run, as three letters, for a header that does not say.

    Raises:
        InputError: If the header is damaged, claims what is not there, holds several volumes or colour, or does not
            say the spacing; or the orientation, and the user neither.
    """
    with path.open("rb") as stream:
        fields = _fields(stream, path)
        size = _size(fields, path)
        geometry, notes = _geometry(fields, size, path, choice)
        if (files := _data_files(fields, stream, path)) is None:
            array = _array(fields, stream, geometry.shape, path)

    def part(file: Path, some: Sequence[int]) -> Array:
        with file.open("rb") as voxels:
            return _array(fields, voxels, some, file)

    if files is not None:
        array = joined(files, geometry.shape, part)
    return Volume(scaled(array, *_scaling(fields, path), str(path)), geometry, None, path, notes=notes)


def voxel_files(path: Path) -> list[Path]:
    """The files of voxels that a header names; none where its own file has them.

    Raises:
        InputError: The header is damaged, or one of them is missing.
    """
    with path.open("rb") as stream:
        return _data_files(_fields(stream, path), stream, path) or []


def _data_files(fields: dict[str, str], stream: BufferedReader, path: Path) -> list[Path] | None:
    """The files of voxels, where they are not the header's own; the stream is behind ElementDataFile."""
    stated = fields["ElementDataFile"]
    if stated.upper() == "LOCAL":
        return None
    names = os.fsdecode(stream.read(_MOST_HEADER)).splitlines() if is_list(stated) else []
    return data_files(path, stated, [name.strip() for name in names])


def _fields(stream: BufferedReader, path: Path) -> dict[str, str]:
    """The header's fields; the stream is left behind ElementDataFile, its last line."""
    fields: dict[str, str] = {}
    start = stream.peek(256)[:256]
    if (kind := kind_of(start)) not in (None, "a MetaImage"):
        raise InputError(f"{path} holds {kind}, not a MetaImage", "a MetaImage", "pass the right file")
    while "ElementDataFile" not in fields:
        line = stream.readline(_MOST_HEADER)
        name, equals, value = os.fsdecode(line).partition("=")
        if not line or stream.tell() > _MOST_HEADER or (not equals and name.strip()):
            raise damaged(path, "its header does not end with ElementDataFile, as a MetaImage's does")
        if name.strip() in fields:
            raise damaged(path, f"its header has the field {name.strip()} twice")
        if equals:
            fields[name.strip()] = value.strip()
    return fields


def _size(fields: dict[str, str], path: Path) -> tuple[int, ...]:
    if fields.get("ObjectType", "Image") != "Image":
        raise damaged(path, f"it holds an object of type {fields['ObjectType']}, no image")
    sizes = _numbers(fields, path, "DimSize")
    stated = _numbers(fields, path, "NDims")
    if len(stated) != 1 or stated[0] != len(sizes) or any(not n.is_integer() or n < 1 for n in sizes):
        raise damaged(path, f"its header states NDims {fields.get('NDims')} and DimSize {fields.get('DimSize')}")
    channels = _numbers(fields, path, "ElementNumberOfChannels") or [1.0]
    checks.check_scalar(int(channels[0]), str(path))
    size = tuple(int(n) for n in sizes)
    checks.check_dimensions(size, str(path))
    if len(size) < 2:
        raise damaged(path, f"its header states DimSize {fields['DimSize']}, which is no plane")
    return size


def _geometry(
    fields: dict[str, str], size: tuple[int, ...], path: Path, choice: str | None
) -> tuple[Geometry, tuple[str, ...]]:
    n, flat = len(size), len(size) == 2
    pitches = _numbers(fields, path, "ElementSpacing") or _numbers(fields, path, "ElementSize")
    if len(pitches) != n:
        raise InputError(
            f"{path} states no voxel spacing"
            if not pitches
            else f"{path} states {len(pitches)} spacings for {n} dimensions",
            "ElementSpacing with a number of millimetres for every dimension",
            "write the true spacing into the header, or convert the scan again from its DICOM files",
        )
    unit = _unit_mm(fields, path)
    pitches = [pitch * unit for pitch in pitches]
    spacing = (*pitches[:3], mean_pitch(*np.abs(pitches))) if flat else tuple(pitches[:3])
    grid = size[0], size[1], 1 if flat else size[2]
    matrix = _matrix(fields, n, path)
    # MetaImage's letters name where an axis comes from.
    letters = fields.get("AnatomicalOrientation", "???").upper().translate(_OPPOSITE)
    stated = letters if set(letters) <= set("LRAPSI") and len(letters) == 3 else None
    if matrix is not None:
        notes: tuple[str, ...] = ()
        if stated is not None and not flat and _contradicts(matrix, stated):
            matrix, notes = _chosen(matrix, stated, path, choice)
        else:
            refuse_other_code(str(path), choice, axis_code(matrix))
        x, y, z = [*(value * unit for value in _origin(fields, n, path)[:3]), 0.0][:3]
        # Two dimensions of their own say nothing of the patient's three.
        return Geometry(
            grid, (spacing[0], spacing[1], spacing[2]), (x, y, z), tuple(matrix.ravel().tolist()), oriented=not flat
        ), notes
    if stated is not None:
        code = parse_orientation(stated) or ""
        refuse_other_code(str(path), choice, code)
        return geometry_by_code(grid, spacing, code), ("its header has no TransformMatrix, only AnatomicalOrientation",)
    why = "its header has no TransformMatrix"
    if choice is not None and choice not in FORMS:
        return geometry_by_code(grid, spacing, choice), (
            f"it states no orientation ({why}); {choice} as the user says",
        )
    if grid[2] > 1:
        raise nothing_stated(str(path), why)
    note = f"it states no orientation ({why}) and is taken as a film; --orientation says where its axes run"
    return Geometry(grid, (spacing[0], spacing[1], mean_pitch(*np.abs(spacing[:2]))), oriented=False), (note,)


def _contradicts(matrix: Array, code: str) -> bool:
    """Whether an axis of the matrix runs elsewhere than its letter says; of oblique axes near enough will do."""
    along = np.sum(matrix * code_matrix(parse_orientation(code) or ""), axis=0)
    return bool(np.any(along < _OBLIQUE * np.abs(matrix).max(axis=0)))


def _chosen(matrix: Array, stated: str, path: Path, choice: str | None) -> tuple[Array, tuple[str, ...]]:
    """Which of two orientations that contradict each other, as the user says, and the note of it."""
    of_matrix = axis_code(matrix)
    both = (
        f"its TransformMatrix, whose axes run to {of_matrix}, and its AnatomicalOrientation "
        f"{stated.translate(_OPPOSITE)}, which is to {stated}"
    )
    if choice not in (of_matrix, stated):
        raise InputError(
            f"{path} states two orientations that contradict each other: {both}",
            "one orientation in the whole header",
            said_by_option(
                f"find out which is right and say so: --orientation {of_matrix} or --orientation {stated} "
                f"(orientation='{of_matrix}')",
                "write the one that is right into both fields of the header",
            ),
        )
    taken = matrix if choice == of_matrix else code_matrix(stated)
    return taken, (f"it states two orientations, {both}; {choice} is taken, as the user says",)


def _matrix(fields: dict[str, str], n: int, path: Path) -> Array | None:
    """The direction cosines [3, 3], one axis a column, or None where the header has none."""
    key = next((key for key in ("TransformMatrix", "Rotation", "Orientation") if key in fields), None)
    if key is None:
        return None
    values = _numbers(fields, path, key)
    if len(values) != n * n or not np.isfinite(values).all():
        raise damaged(path, f"its header has the {key} {fields[key][:80]}")
    matrix = np.eye(3)
    kept = min(3, n)
    # The file has one axis a row.
    matrix[:kept, :kept] = np.reshape(values, (n, n)).T[:kept, :kept]
    checks.check_not_sheared(matrix, str(path))
    return matrix


def _origin(fields: dict[str, str], n: int, path: Path) -> list[float]:
    """The first voxel's centre, in the file's unit."""
    stated = [values for key in ("Offset", "Position", "Origin") if (values := _numbers(fields, path, key))]
    if any(len(values) != n for values in stated):
        raise damaged(path, f"its header states a position of {len(stated[0])} numbers for {n} dimensions")
    if any(values != stated[0] for values in stated):
        raise damaged(path, f"its header states two positions, {stated[0]} and {stated[1]} (Offset, Position, Origin)")
    return stated[0] if stated else [0.0] * n


def _unit_mm(fields: dict[str, str], path: Path) -> float:
    stated = fields.get("DistanceUnits", "?") or "?"
    if stated.lower() not in _UNITS_MM:
        raise InputError(
            f"{path} states its lengths in {stated!r} (DistanceUnits)",
            "mm, cm, um or m",
            "write the lengths in mm into the header",
        )
    return _UNITS_MM[stated.lower()]


def _scaling(fields: dict[str, str], path: Path) -> tuple[float, float]:
    """Factor and summand that make intensities of stored numbers."""
    slope = (_numbers(fields, path, "ElementToIntensityFunctionSlope") or [1.0])[0]
    intercept = (_numbers(fields, path, "ElementToIntensityFunctionOffset") or [0.0])[0]
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise damaged(path, f"its header makes intensities by the factor {slope:g} and the summand {intercept:g}")
    return slope, intercept


def _numbers(fields: dict[str, str], path: Path, field: str) -> list[float]:
    try:
        return [float(part) for part in fields.get(field, "").split()]
    except ValueError as error:
        raise damaged(path, f"its header has the {field} {fields[field][:60]}") from error


def _array(fields: dict[str, str], stream: BufferedReader, shape: Sequence[int], path: Path) -> Array:
    def states(name: str, otherwise: bool = False) -> bool:
        # As ITK's own reader, by the first letter: writers have True, T and 1.
        stated = fields.get(name, "")
        if stated[:1] not in _TRUTHS:
            raise damaged(path, f"its header has the {name} {stated[:60]!r}, which is neither True nor False")
        return _TRUTHS[stated[:1]] if stated else otherwise

    name = fields.get("ElementType", "")
    if name not in _KINDS:
        raise InputError(f"{path} has pixels of type {name}", "integers or floats", "save it as MET_SHORT or MET_FLOAT")
    swapped = states("BinaryDataByteOrderMSB") or states("ElementByteOrderMSB")
    kind = np.dtype(_KINDS[name]).newbyteorder(">" if swapped else "<")
    encoding = "zlib" if states("CompressedData") else "raw"
    if not states("BinaryData", True):
        if encoding != "raw":
            raise InputError(
                f"{path} holds its voxels as packed text", "voxels as numbers", "save it with BinaryData = True"
            )
        encoding = TEXT
    if encoding == TEXT:
        kind = kind.newbyteorder("=")
    held = most_bytes(path, encoding)
    skipped = _numbers(fields, path, "HeaderSize") or [0.0]
    if encoding == "raw" and skipped[0] == -1:
        stream.seek(max(0, path.stat().st_size - math.prod(shape) * kind.itemsize))
    elif not (skipped[0].is_integer() and 0 <= skipped[0] <= path.stat().st_size):
        raise damaged(path, f"its header has the HeaderSize {fields['HeaderSize']}, which is no place in the file")
    elif skipped[0] > 0:
        stream.seek(int(skipped[0]), os.SEEK_CUR)
    return read_voxels(decoded(stream, encoding, kind, path), shape, kind, held, path)
