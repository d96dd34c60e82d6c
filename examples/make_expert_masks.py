"""Make the sample scans and their expert masks from the published TPTBox 1.1.0 package.

The scans are copied byte for byte. The masks are the package's sub-region label maps with the labels exchanged for
verdiff's (1 vertebra, 2 disc, 3 canal); their NIfTI headers are carried over byte for byte, so each mask lies exactly
where its scan lies.

    pip download --no-deps tptbox==1.1.0 -d tptbox
    python examples/make_expert_masks.py tptbox/tptbox-1.1.0-py3-none-any.whl
"""

from __future__ import annotations

import argparse
import gzip
import struct
import zipfile
from pathlib import Path

import numpy as np

# TPTBox's sub-region labels: 41-50 parts of a vertebra (arch, processes, body and its border), 60 cord, 61 canal,
# 62 end plate, 100 disc.
VERDIFF_LABEL = {**dict.fromkeys([*range(41, 51), 62], 1), 100: 2, 60: 3, 61: 3}
SCANS = {
    "mr_t2_sample": ("sample_mri/sub-mri_label-6_T2w.nii.gz", "sample_mri/sub-mri_seg-subreg_label-6_msk.nii.gz"),
    "ct_sample": ("sample_ct/sub-ct_label-22_ct.nii.gz", "sample_ct/sub-ct_seg-subreg_label-22_msk.nii.gz"),
}
UINT8 = 2


def to_verdiff_labels(nifti: bytes) -> bytes:
    """Exchange the labels of an uncompressed uint8 NIfTI-1 file, header untouched.

    Raises:
        ValueError: The file is not a plain little-endian uint8 NIfTI-1, or holds a label without a counterpart.
    """
    (header_size,), (datatype,), (offset,) = (
        struct.unpack_from(code, nifti, at) for code, at in (("<i", 0), ("<h", 70), ("<f", 108))
    )
    if header_size != 348 or datatype != UINT8:
        raise ValueError(f"header of {header_size} bytes, datatype {datatype}: wanted 348 bytes and {UINT8} (uint8)")
    voxels = np.frombuffer(nifti, np.uint8, offset=int(offset))
    unknown = set(np.unique(voxels).tolist()) - {0, *VERDIFF_LABEL}
    if unknown:
        raise ValueError(f"labels {sorted(unknown)} have no counterpart in verdiff")
    table = np.zeros(256, np.uint8)
    table[list(VERDIFF_LABEL)] = list(VERDIFF_LABEL.values())
    return nifti[: int(offset)] + table[voxels].tobytes()


def main() -> None:
    """Read the wheel named on the command line and write the four files beside this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="tptbox-1.1.0-py3-none-any.whl")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent, help="folder to write to")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel:
        for name, (scan, labels) in SCANS.items():
            (arguments.output / f"{name}.nii.gz").write_bytes(wheel.read(f"TPTBox/tests/{scan}"))
            mask = to_verdiff_labels(gzip.decompress(wheel.read(f"TPTBox/tests/{labels}")))
            (arguments.output / f"{name}_expert.nii.gz").write_bytes(gzip.compress(mask, mtime=0))


if __name__ == "__main__":
    main()
