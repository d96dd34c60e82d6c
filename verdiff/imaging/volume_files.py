"""Write an array into the grid of the scan it was made from."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from verdiff.errors import OutputError
from verdiff.files import atomic_path, full_suffix, mark_file
from verdiff.imaging import nifti
from verdiff.imaging.itk import is_utf8, reason, simpleitk
from verdiff.imaging.named_masks import SEGMENTS_SUFFIX, label_table, segment_fields
from verdiff.imaging.reading import NIFTI_SUFFIXES
from verdiff.imaging.terms import Structure
from verdiff.imaging.volume import Array, Volume

VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".mha")
FILM_SUFFIX = ".png"
# What a stream holds back until a file is closed, or more.
_BLOCK = 1 << 14


def write_array(
    array: Array,
    like: Volume,
    path: str | Path,
    *,
    mark: bool = False,
    structures: Sequence[Structure] = (),
    about: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write [z, y, x] under the geometry of `like`, whole or not at all.

    From NIfTI to NIfTI the header's qform, sform, their codes, the pixel dimensions and the byte order are carried on
    byte for byte. Other scans' NIfTI files have the grid's axes as they are; every other format goes through ITK.

    Args:
        array: Values in the grid of `like`; bool is written as uint8, float16 and float64 as float32.
        like: The scan; its shape must be the array's.
        path: `.nii`, `.nii.gz`, `.nrrd`, `.mha`, or `.png` for a single plane of 8 or 16 bits. Whatever is there is
            replaced.
        mark: Whether the file says that verdiff made it, so that a later call may replace it
            (:mod:`verdiff.files.marks`).
        structures: What the labels of a mask mean: `.seg.nrrd` and NIfTI files say so
            (:mod:`verdiff.imaging.named_masks`).
        about: Texts by keyword that go with the array: a comment in a NIfTI header's extension, a line for each, and
            fields of an NRRD or MetaImage header. A PNG has none.

    Raises:
        OutputError: If the suffix is unknown, the array does not fit, or the file cannot be written.
    """
    path, suffix = Path(path), full_suffix(Path(path))
    array = _writable(np.asarray(array))
    if array.shape != like.array.shape:
        raise OutputError(
            f"an array of shape {array.shape}",
            f"the scan's shape {like.array.shape}",
            "write results in the scan's grid",
        )
    if suffix == FILM_SUFFIX and (array.shape[0] != 1 or array.dtype not in (np.uint8, np.uint16)):
        raise OutputError(
            f"{path} for an array of shape {array.shape} and type {array.dtype}",
            "a single plane of 8 or 16 bits in a PNG",
            f"write volumes to {', '.join(VOLUME_SUFFIXES)}",
        )
    if suffix not in (*VOLUME_SUFFIXES, FILM_SUFFIX):
        raise OutputError(
            f"an output named {path.name}",
            f"a name that ends in {', '.join((*VOLUME_SUFFIXES, FILM_SUFFIX))}",
            "choose one of these formats",
        )
    table = label_table(structures) if structures and suffix in NIFTI_SUFFIXES else b""
    fields = segment_fields(array, structures) if path.name.lower().endswith(SEGMENTS_SUFFIX) else {}
    note = "".join(f"{keyword}={text}\n" for keyword, text in about.items()).encode()
    with atomic_path(path) as temporary:
        if suffix in NIFTI_SUFFIXES:
            header = like.nifti_header if like.nifti_header is not None else nifti.header_at(like.geometry)
            packed = suffix == ".nii.gz"
            nifti.write_with_header(temporary, array, header, compress=packed, mark=mark, table=table, note=note)
        else:
            _write_itk(array, like, temporary, path, {**fields, **about})
            if mark:
                mark_file(temporary)


def _writable(array: Array) -> Array:
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    return array.astype(np.float32) if array.dtype in (np.float16, np.float64) else array


def _write_itk(
    array: Array, like: Volume, temporary: Path, path: Path, fields: Mapping[str, str] = MappingProxyType({})
) -> None:
    sitk = simpleitk()

    if full_suffix(path) == FILM_SUFFIX:
        image = sitk.GetImageFromArray(array[0])
    else:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(like.geometry.spacing_mm)
        image.SetOrigin(like.geometry.origin_mm)
        image.SetDirection(like.geometry.direction)
    for key, value in fields.items():
        image.SetMetaData(key, value)
    try:
        if is_utf8(temporary):
            sitk.WriteImage(image, str(temporary), useCompression=True)
            _require_room(temporary)
            return
        with tempfile.TemporaryDirectory() as folder:
            # ITK takes names in UTF-8 alone.
            made = Path(folder) / f"made{full_suffix(path)}"
            sitk.WriteImage(image, str(made), useCompression=True)
            _require_room(made)
            shutil.copyfile(made, temporary)
    except RuntimeError as error:
        raise OutputError(
            f"{path} cannot be written ({reason(error)})",
            "a folder with room on its disk",
            "free some space, or choose another output folder",
        ) from error


def _require_room(path: Path) -> None:
    """Have a disk that is full say so: ITK does not ask whether the last of a file could be written.

    Raises:
        OSError: It is full.
    """
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.write(bytes(_BLOCK))
        file.truncate(end)
