"""The samples are what their page says, and the example programs run."""

from __future__ import annotations

import importlib.util
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """examples/make_expert_masks.py as a module."""
    spec = importlib.util.spec_from_file_location("make_expert_masks", EXAMPLES / "make_expert_masks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_nifti(labels: list[int], datatype: int = 2) -> bytes:
    """A NIfTI-1 file of one row of voxels; every other header byte is 7, to see that it is kept."""
    header = bytearray([7] * 352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<h", header, 70, datatype)
    struct.pack_into("<f", header, 108, 352.0)
    return bytes(header) + bytes(labels)


@pytest.mark.parametrize(
    ("name", "size", "voxels"),
    [
        ("mr_t2_sample", (68, 52, 67), {1: 34537, 2: 8597, 3: 4482}),
        ("ct_sample", (73, 47, 73), {1: 36348}),
    ],
)
def test_each_mask_lies_on_its_scan(name: str, size: tuple[int, ...], voxels: dict[int, int]) -> None:
    scan, mask = (sitk.ReadImage(str(EXAMPLES / f"{name}{end}.nii.gz")) for end in ("", "_expert"))
    assert scan.GetSize() == mask.GetSize() == size
    assert scan.GetSpacing() == mask.GetSpacing() == (1.5, 1.5, 1.5)
    assert scan.GetOrigin() == mask.GetOrigin()
    assert scan.GetDirection() == mask.GetDirection()
    counts = np.bincount(sitk.GetArrayFromImage(mask).ravel())
    assert {label: int(counts[label]) for label in np.flatnonzero(counts) if label} == voxels


def test_labels_are_exchanged_and_the_header_is_kept(maker: ModuleType) -> None:
    before = plain_nifti([0, 41, 50, 62, 100, 60, 61, 0])
    after = maker.to_verdiff_labels(before)
    assert list(after[352:]) == [0, 1, 1, 1, 2, 3, 3, 0]
    assert after[:352] == before[:352]


def test_a_label_without_a_counterpart_is_refused(maker: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"\[40, 63\]"):
        maker.to_verdiff_labels(plain_nifti([0, 40, 63]))


def test_labels_that_are_not_uint8_are_refused(maker: ModuleType) -> None:
    with pytest.raises(ValueError, match="datatype 4"):
        maker.to_verdiff_labels(plain_nifti([0, 0], datatype=4))


def test_the_python_host_writes_a_mask_on_the_scan_s_grid(tmp_path: Path, mr_sample: Path) -> None:
    mask = tmp_path / "mask.nii.gz"
    command = [sys.executable, str(EXAMPLES / "python/embed.py"), str(mr_sample), "--output", str(mask)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # this tree, installed or not
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "prior after" in done.stdout and f"wrote {mask}" in done.stdout
    written, scan = sitk.ReadImage(str(mask)), sitk.ReadImage(str(mr_sample))
    assert written.GetSize() == scan.GetSize()
    assert np.any(sitk.GetArrayFromImage(written))
