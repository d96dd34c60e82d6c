"""MetaImage, read with what its header says and nothing made up: https://itk.org/Wiki/MetaIO/Documentation."""

from __future__ import annotations

import math
import os
from io import BufferedReader
from pathlib import Path

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging import checks
from verdiff.imaging.orientation import (
    FORMS,
    axis_code,
    geometry_by_code,
    mean_pitch,
    nothing_stated,
    parse_orientation,
    refuse_other_code,
)
from verdiff.imaging.volume import Array, Geometry, Volume
from verdiff.imaging.voxels import damaged, most_bytes, read_voxels, single, unpacked

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
_OPPOSITE = str.maketrans("LRAPSI", "RLPAIS")


def read(path: Path, choice: str | None) -> Volume:
    """A scan or mask in one `.mha`, or in a `.mhd` and the one file of voxels it names.

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
        source = _data_file(fields, path)
        if source is None:
            array = _array(fields, stream, geometry.shape, path)
        else:
            with source.open("rb") as voxels:
                array = _array(fields, voxels, geometry.shape, source)
    return Volume(single(array, str(path)), geometry, None, path, notes=notes)


def _fields(stream: BufferedReader, path: Path) -> dict[str, str]:
    """The header's fields; the stream is left behind ElementDataFile, its last line."""
    fields: dict[str, str] = {}
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
    spacing = (*pitches[:3], mean_pitch(*np.abs(pitches))) if flat else tuple(pitches[:3])
    grid = size[0], size[1], 1 if flat else size[2]
    matrix = _matrix(fields, n, path)
    if matrix is not None:
        refuse_other_code(str(path), choice, axis_code(matrix))
        origin = next(
            (values for key in ("Offset", "Position", "Origin") if (values := _numbers(fields, path, key))), [0.0] * n
        )
        if len(origin) != n:
            raise damaged(path, f"its header states a position of {len(origin)} numbers for {n} dimensions")
        x, y, z = [*origin[:3], 0.0][:3]
        # Two dimensions of their own say nothing of the patient's three.
        return Geometry(
            grid, (spacing[0], spacing[1], spacing[2]), (x, y, z), tuple(matrix.ravel().tolist()), oriented=not flat
        ), ()
    # MetaImage's letters name where an axis comes from.
    stated = fields.get("AnatomicalOrientation", "???").upper().translate(_OPPOSITE)
    if set(stated) <= set("LRAPSI") and len(stated) == 3:
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


def _numbers(fields: dict[str, str], path: Path, field: str) -> list[float]:
    try:
        return [float(part) for part in fields.get(field, "").split()]
    except ValueError as error:
        raise damaged(path, f"its header has the {field} {fields[field][:60]}") from error


def _data_file(fields: dict[str, str], path: Path) -> Path | None:
    named = fields["ElementDataFile"]
    if named.upper() == "LOCAL":
        return None
    if named.upper().startswith("LIST") or "%" in named:
        raise InputError(
            f"{path} spreads its voxels over several files ({named})", "one file of voxels", "save it as one .mha file"
        )
    source = path.parent / named
    if not named or not source.is_file():
        raise InputError(
            f"the voxels of {path} are missing: there is no file {source}",
            "the file that its header names",
            "copy it beside the header, or save the scan as one .mha file",
        )
    return source


def _array(fields: dict[str, str], stream: BufferedReader, shape: tuple[int, int, int], path: Path) -> Array:
    def states(*names: str) -> bool:
        return any(fields.get(name, "").lower() in ("true", "1") for name in names)

    name = fields.get("ElementType", "")
    if name not in _KINDS:
        raise InputError(f"{path} has pixels of type {name}", "integers or floats", "save it as MET_SHORT or MET_FLOAT")
    if fields.get("BinaryData", "True").lower() == "false":
        raise InputError(f"{path} holds its voxels as text", "binary voxels", "save it with BinaryData = True")
    kind = np.dtype(_KINDS[name]).newbyteorder(">" if states("BinaryDataByteOrderMSB", "ElementByteOrderMSB") else "<")
    encoding = "zlib" if states("CompressedData") else "raw"
    held = most_bytes(path, encoding)
    skipped = _numbers(fields, path, "HeaderSize") or [0.0]
    if encoding == "raw" and skipped[0] == -1:
        stream.seek(max(0, path.stat().st_size - math.prod(shape) * kind.itemsize))
    elif skipped[0] > 0 and skipped[0] <= held:
        stream.seek(int(skipped[0]), os.SEEK_CUR)
    return read_voxels(unpacked(stream, encoding), shape, kind, held, path)
