"""A small NIfTI-1 file, and the bytes of its header by the offsets of nifti1.h."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tests.native.conftest import EXAMPLE
from verdiff.imaging import Volume, read_volume, write_array

# datatype and bitpix; pixdim without its first; vox_offset; scl_slope and scl_inter; xyzt_units.
KIND, SPACING, OFFSET, SCALING, UNITS = 70, 80, 108, 112, 123
# qform_code and sform_code; the qform's quaternion and place; the rows of the sform. Voxels follow the header.
CODES, QUATERNION, PLACE, ROWS, HEADER = 252, 256, 268, 280, 352


def small_scan() -> bytes:
    """A NIfTI-1 file of three slices of the example in int16, uncompressed."""
    scan = read_volume(EXAMPLE)
    middle = scan.array.shape[2] // 2
    part = scan.array[:, :, middle : middle + 3].astype(np.int16)
    grid = replace(scan.geometry, size=(3, *scan.geometry.size[1:]))
    with TemporaryDirectory() as folder:
        write_array(part, Volume(part, grid), Path(folder) / "scan.nii")
        return (Path(folder) / "scan.nii").read_bytes()


def with_bytes(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]
