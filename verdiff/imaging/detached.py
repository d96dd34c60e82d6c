"""The files of voxels that a NRRD or MetaImage header names: one, a list of them, or a numbered row of them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging.volume import Array
from verdiff.imaging.voxels import damaged

_MOST_FILES = 1 << 16
_ROW = re.compile(r"(.*%0?\d{0,2}d.*?)\s+(-?\d{1,9})\s+(-?\d{1,9})\s+(-?\d{1,9})(?:\s+\d+)?")
_NUMBER = re.compile(r"%(0?)(\d{0,2})d")


def is_list(stated: str) -> bool:
    """Whether the names follow in the header's next lines, one a line; the dimensions of each file may be stated."""
    return re.fullmatch(r"LIST(\s+\d+D?)?", stated, re.IGNORECASE) is not None


def data_files(path: Path, stated: str, names: Sequence[str] = ()) -> list[Path]:
    """The files of voxels in their order, all of them in the header's own folder or below it.

    Args:
        path: The header.
        stated: What it says: a name; ``LIST``; or a name with a number in it, such as ``%03d``, and from where to
            where it runs in which steps.
        names: Names in a list.

    Raises:
        InputError: One is missing, or elsewhere; or the header names none.
    """
    if is_list(stated):
        found = [name for name in names if name]
    elif (row := _ROW.fullmatch(stated)) is not None:
        found = _row(row[1], *(int(number) for number in row.group(2, 3, 4)))
    else:
        found = [stated]
    if not 0 < len(found) <= _MOST_FILES or not all(found):
        raise damaged(path, f"its header names {len(found)} files of voxels ({stated[:80] or 'nothing'})")
    return [_beside(path, name) for name in found]


def joined(files: Sequence[Path], shape: Sequence[int], read: Callable[[Path, Sequence[int]], Array]) -> Array:
    """The array of all files, each of which holds as much of it, one after the other along its slowest axis.

    Args:
        files: Files, in their order.
        shape: Shape of the whole, the slowest axis first.
        read: One file's part of a shape.

    Raises:
        InputError: The files cannot hold equal parts, or one cannot be read.
    """
    if len(files) == 1:
        return read(files[0], shape)
    count = math.prod(shape)
    if count % len(files):
        raise damaged(files[0], f"it is one of {len(files)} files that share {count} voxels, which leaves a remainder")
    return np.concatenate([read(file, (count // len(files),)) for file in files]).reshape(tuple(shape))


def _row(name: str, first: int, last: int, step: int) -> list[str]:
    numbers = range(first, last + (1 if step > 0 else -1), step) if step else range(0)

    def written(number: int) -> str:
        return _NUMBER.sub(lambda at: f"{number:{at[1]}{at[2]}d}", name, count=1)

    return [written(number) for number in numbers[: _MOST_FILES + 1]]


def _beside(path: Path, name: str) -> Path:
    within = os.path.relpath(os.path.join(os.path.abspath(path.parent), name), os.path.abspath(path.parent))
    if within == os.pardir or within.startswith(os.pardir + os.sep):
        raise InputError(
            f"{path} names voxels outside its own folder: {name}",
            "the file of voxels beside its header",
            "copy it there and name it in the header, or save the scan as one file",
        )
    source = path.parent / within
    if not source.is_file():
        raise InputError(
            f"the voxels of {path} are missing: there is no file {source}",
            "the file that its header names",
            f"copy it beside the header, or save the scan as one {'.nrrd' if path.suffix == '.nhdr' else '.mha'} file",
        )
    return source
