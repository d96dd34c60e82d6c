"""NRRD, read with what its header says and nothing made up: https://teem.sourceforge.net/nrrd/format.html."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging import checks
from verdiff.imaging.detached import data_files, joined
from verdiff.imaging.encodings import HEX, TEXT, decoded, most_bytes
from verdiff.imaging.nrrd_header import DATA_FILE, LISTED, origin_of, read_fields, sizes_of, spacings_of, vectors_of
from verdiff.imaging.orientation import (
    FORMS,
    axis_code,
    flat_direction,
    geometry_by_code,
    mean_pitch,
    no_thickness,
    nothing_stated,
    refuse_other_code,
)
from verdiff.imaging.volume import Array, Geometry, Volume
from verdiff.imaging.voxels import damaged, read_voxels, single

_MOST_HEADER = 1 << 20
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_KINDS = {name: kind for kind, names in _TYPES.items() for name in names}
_ENCODINGS = {"raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2"}
_ENCODINGS |= {"txt": TEXT, "text": TEXT, "ascii": TEXT, "hex": HEX}
# To LPS, of the spaces that are the patient's.
_SPACES = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}


def read(path: Path, choice: str | None) -> Volume:
    """A scan or mask in one NRRD file, or in a header and the files of voxels that it names.

    Args:
        path: `.nrrd` or `.nhdr`.
        choice: Where the voxel axes run, as three letters, for a header that does not say.

    Raises:
        InputError: If the header is damaged, claims what is not there, holds several volumes or colour, or does not
            say the spacing; or the orientation, and the user neither.
    """
    with path.open("rb") as stream:
        fields = read_fields(stream, path)
        sizes, kept = sizes_of(fields, path)
        shape = [sizes[axis] for axis in kept]
        geometry, notes = _geometry(fields, sizes, kept, path, choice)
        encoding, files = _encoding(fields, path), _data_files(fields, path)
        if not files:
            array = _array(fields, stream, shape[::-1], encoding, path)

    def part(file: Path, some: Sequence[int]) -> Array:
        with file.open("rb") as voxels:
            return _array(fields, voxels, some, encoding, file)

    if files:
        array = joined(files, shape[::-1], part)
    array = array.reshape(geometry.shape)
    return Volume(single(array, str(path)), geometry, None, path, notes=notes)


def voxel_files(path: Path) -> list[Path]:
    """The files of voxels that a header names; none where its own file has them.

    Raises:
        InputError: The header is damaged, or one of them is missing.
    """
    with path.open("rb") as stream:
        return _data_files(read_fields(stream, path), path)


def _geometry(
    fields: dict[str, str], sizes: list[int], kept: list[int], path: Path, choice: str | None
) -> tuple[Geometry, tuple[str, ...]]:
    flat = len(kept) == 2
    size = sizes[kept[0]], sizes[kept[1]], 1 if flat else sizes[kept[2]]
    vectors = vectors_of(fields, kept, path)
    stated = fields.get("space dimension", "3")
    if "space" in fields and stated not in ("3", "4"):
        raise damaged(path, f"its header states the space {fields['space']!r} and the space dimension {stated}")
    pitches = spacings_of(fields, kept, vectors, path)
    if flat:
        pitches = [*pitches, mean_pitch(*pitches)]
    space = fields.get("space", "").lower().removesuffix("-time").removesuffix("t")
    if vectors is not None and space in _SPACES and vectors.shape[0] == 3:
        signs = np.array(_SPACES[space], dtype=np.float64)
        axes = signs[:, None] * vectors
        checks.check_not_sheared(_whole(axes), str(path))
        matrix = np.reshape(flat_direction(axes), (3, 3)) if flat else axes / np.linalg.norm(axes, axis=0)
        refuse_other_code(str(path), choice, axis_code(matrix))
        origin = signs * origin_of(fields, path)
        x, y, z = (float(value) for value in pitches)
        place = (float(origin[0]), float(origin[1]), float(origin[2]))
        return Geometry(size, (x, y, z), place, tuple(matrix.ravel().tolist())), (no_thickness(z),) * flat
    why = f"the space is {fields['space']!r}" if "space" in fields else "no space is named"
    why += "" if vectors is not None else ", and no space directions"
    if choice is not None and choice not in FORMS:
        return geometry_by_code(size, pitches, choice), (
            f"it states no orientation ({why}); {choice} as the user says",
        )
    if not flat and size[2] > 1:
        raise nothing_stated(str(path), why)
    note = f"it states no orientation ({why}) and is taken as a film; --orientation says where its axes run"
    return Geometry(size, (pitches[0], pitches[1], mean_pitch(pitches[0], pitches[1])), oriented=False), (note,)


def _whole(axes: Array) -> Array:
    """Three axes, of a plane too, whose third lies across it."""
    if axes.shape[1] == 3 or np.linalg.norm(axes, axis=0).min() == 0:
        return axes
    return np.column_stack([axes, np.reshape(flat_direction(axes), (3, 3))[:, 2]])


def _encoding(fields: dict[str, str], path: Path) -> str:
    stated = fields.get("encoding", "")
    if stated.lower() not in _ENCODINGS:
        raise InputError(
            f"{path} is stored as {stated or 'nothing its header names'}",
            f"one of the encodings {', '.join(_ENCODINGS)}",
            "save it with raw or gzip encoding",
        )
    return _ENCODINGS[stated.lower()]


def _data_files(fields: dict[str, str], path: Path) -> list[Path]:
    """The files of voxels, where they are not the header's own."""
    stated = next((fields[field] for field in DATA_FILE if field in fields), None)
    names = [name.strip() for name in fields.get(LISTED, "").splitlines()]
    return [] if stated is None else data_files(path, stated, names)


def _array(fields: dict[str, str], stream: BufferedReader, shape: Sequence[int], encoding: str, path: Path) -> Array:
    name = fields.get("type", "").lower()
    if name not in _KINDS:
        raise InputError(
            f"{path} has pixels of type {name or 'that its header does not name'}",
            "integers or floats",
            "save it as int16 or float",
        )
    kind = np.dtype(_KINDS[name])
    endian = {"little": "<", "big": ">"}.get(fields.get("endian", "").lower())
    if kind.itemsize > 1 and endian is None and encoding != TEXT:
        raise damaged(path, "its header does not say the byte order (endian)")
    kind = kind.newbyteorder("=" if endian is None or encoding == TEXT else endian)  # type: ignore[arg-type]
    try:
        lines, skipped = int(fields.get("line skip", 0)), int(fields.get("byte skip", 0))
    except ValueError as error:
        raise damaged(path, "its header skips no whole number of lines or bytes") from error
    if lines < 0 or skipped < -1:
        raise damaged(path, f"its header skips {lines} lines and {skipped} bytes")
    count, held = math.prod(shape) * kind.itemsize, most_bytes(path, encoding)
    for _ in range(min(lines, 1 << 16)):
        stream.readline(_MOST_HEADER)
    if skipped == -1 and encoding == "raw":
        stream.seek(max(0, path.stat().st_size - count) if count <= held else 0)
    elif skipped > 0 and encoding in ("raw", TEXT, HEX):
        stream.seek(skipped, os.SEEK_CUR)
    voxels = decoded(stream, encoding, kind, path)
    if skipped > 0 and encoding not in ("raw", TEXT, HEX):
        left = skipped
        while left > 0 and (got := voxels.readinto(memoryview(bytearray(min(left, 1 << 16))))):
            left -= got
    return read_voxels(voxels, shape, kind, held, path)
