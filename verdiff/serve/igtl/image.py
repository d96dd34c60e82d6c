"""IMAGE: a scan with its pose, and a mask in the same pose.

The three vectors are those along which i, j and k run, as long as a voxel; the position is the centre of the volume,
half way between its first and its last voxel. Both are in RAS or LPS millimetres, as a byte says.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verdiff.imaging import Geometry, Volume
from verdiff.serve.igtl.codes import Code, Refused
from verdiff.serve.igtl.frames import Piece

# Version, components, type, byte order, coordinates; size; vectors and position; offset and size of a sub-volume.
_HEAD = struct.Struct("!HBBBB3H12f3H3H")
_TYPES = {2: "i1", 3: "u1", 4: "i2", 5: "u2", 6: "i4", 7: "u4", 10: "f4", 11: "f8"}
_UINT8, _LITTLE = 3, 2
_ORDERS = {1: ">", 2: "<"}
# What turns a position of the message into LPS.
_TO_LPS = {1: np.array([-1.0, -1.0, 1.0]), 2: np.array([1.0, 1.0, 1.0])}
_VERSIONS = (1, 2)


@dataclass(frozen=True)
class Pose:
    """Where an image said it lies, kept as it came, so that a mask says the same to the last bit."""

    coordinates: int
    size: tuple[int, int, int]
    matrix: tuple[float, ...]


def read_image(content: memoryview) -> tuple[Volume, Pose]:
    """The scan in an IMAGE message; its voxels are not copied.

    Raises:
        Refused: It is cut short, a sub-volume, in colour, or of an unknown type, order or coordinate system, or has
            vectors that are none.
    """
    if len(content) < _HEAD.size:
        raise _refused(f"an image of {len(content)} bytes", f"a head of {_HEAD.size} bytes and voxels")
    version, components, kind, order, coordinates, *numbers = _HEAD.unpack_from(content)
    size, matrix, offset, part = tuple(numbers[:3]), tuple(numbers[3:15]), tuple(numbers[15:18]), tuple(numbers[18:])
    if version not in _VERSIONS:
        raise _refused(f"an image head of version {version}", "version 1 or 2")
    if components != 1:
        raise _refused(f"an image of {components} components a voxel", "grey values, one a voxel")
    if kind not in _TYPES or order not in _ORDERS or coordinates not in _TO_LPS:
        raise _refused(
            f"an image of scalar type {kind}, byte order {order} and coordinate system {coordinates}",
            f"a type of {', '.join(map(str, _TYPES))}; order 1 or 2; coordinates 1 (RAS) or 2 (LPS)",
        )
    if offset != (0, 0, 0) or part != size:
        raise _refused(
            f"a sub-volume of {part} voxels from {offset} in an image of {size}",
            "a whole image",
            "send whole volumes; sub-volumes are not put together here",
        )
    dtype = np.dtype(_ORDERS[order] + _TYPES[kind])
    wanted = math.prod(size) * dtype.itemsize
    if not wanted or wanted != len(content) - _HEAD.size:
        raise _refused(
            f"{len(content) - _HEAD.size} bytes of voxels in an image of {' x '.join(map(str, size))} {dtype.name}",
            f"{wanted} bytes" if wanted else "at least one voxel",
        )
    pose = Pose(coordinates, size, matrix)
    array = np.frombuffer(content, dtype, offset=_HEAD.size).reshape(size[::-1])
    return Volume(array, geometry_of(pose)), pose


def geometry_of(pose: Pose) -> Geometry:
    """The grid of an image as ITK has it: the first voxel's centre, in LPS.

    Raises:
        Refused: A vector has no length, or is no number.
    """
    numbers = np.array(pose.matrix, np.float64).reshape(4, 3)
    if not np.isfinite(numbers).all():
        raise _refused("a pose that is not finite", "three vectors and a position in millimetres")
    columns = (numbers[:3] * _TO_LPS[pose.coordinates]).T
    centre = numbers[3] * _TO_LPS[pose.coordinates]
    spacing = np.linalg.norm(columns, axis=0)
    if not spacing.all():
        raise _refused("a vector of no length", "three vectors, each as long as a voxel in millimetres")
    origin = centre - columns @ ((np.array(pose.size) - 1) / 2)
    x, y, z = (float(value) for value in spacing)
    return Geometry(pose.size, (x, y, z), tuple(origin.tolist()), tuple((columns / spacing).ravel().tolist()))


def image_content(labels: NDArray[np.uint8], pose: Pose) -> list[Piece]:
    """The content of an IMAGE with a mask, uint8 [z, y, x], in the pose of its scan."""
    head = _HEAD.pack(1, 1, _UINT8, _LITTLE, pose.coordinates, *pose.size, *pose.matrix, 0, 0, 0, *pose.size)
    return [head, np.ascontiguousarray(labels).reshape(-1).data]


def _refused(found: str, expected: str, remedy: str = "pack the image by the specification") -> Refused:
    return Refused(Code.CONFIG_ERROR, found, expected, remedy)
