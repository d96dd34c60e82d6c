"""Masks that say what their numbers mean, to Slicer and in NIfTI files, and still lie and read as any other."""

from __future__ import annotations

import gzip
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.imaging.make import ORIENTATIONS, rotation, save_nifti, textured
from verdiff.bundle import Label
from verdiff.files import made_by_verdiff
from verdiff.imaging import Geometry, Volume, read_labels, read_volume, write_array
from verdiff.imaging.terms import structures

STRUCTURES = structures((Label(1, "vertebra"), Label(2, "disc & co"), Label(7, "canal", "61853006")))
LABELS = np.zeros((6, 9, 11), np.uint8)
LABELS[1:3, 2:5, 3:9] = 1
LABELS[2:6, 6:9, 1:4] = 7


def grid(index: int) -> Geometry:
    direction = rotation((0.2, -0.3, 0.4)) @ np.reshape(ORIENTATIONS[index], (3, 3))
    return Geometry((11, 9, 6), (0.5, 0.75, 3.0), (12.5, -30.25, 71.0), tuple(direction.ravel().tolist()))


def fields(path: Path) -> dict[str, str]:
    """The key/value pairs of an NRRD header, by hand."""
    header = path.read_bytes().partition(b"\n\n")[0].decode()
    return dict(line.split(":=", 1) for line in header.splitlines() if ":=" in line)


def test_slicer_finds_names_colours_terms_and_extents(tmp_path: Path) -> None:
    like = Volume(LABELS, grid(5))
    write_array(LABELS, like, tmp_path / "a.seg.nrrd", structures=STRUCTURES, mark=True)
    found = fields(tmp_path / "a.seg.nrrd")
    assert [found[f"Segment{index}_Name"] for index in range(3)] == ["vertebra", "disc & co", "canal"]
    assert [found[f"Segment{index}_LabelValue"] for index in range(3)] == ["1", "2", "7"]
    assert "~SCT^51282000^Vertebra~" in found["Segment0_Tags"]
    assert [float(v) * 255 for v in found["Segment0_Color"].split()] == pytest.approx([241, 214, 145], abs=1e-3)
    assert found["Segment0_Extent"] == "3 8 2 4 1 2"
    assert found["Segment1_Extent"] == "0 -1 0 -1 0 -1"
    assert found["Segment2_Extent"] == "1 3 6 8 2 5"
    assert found["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
    assert made_by_verdiff(tmp_path / "a.seg.nrrd")


@pytest.mark.parametrize("name", ["a.seg.nrrd", "a.nii.gz", "a.nii"])
@pytest.mark.parametrize("index", range(0, 48, 5))
def test_the_voxels_and_their_places_are_those_of_the_mask(tmp_path: Path, name: str, index: int) -> None:
    like = Volume(LABELS, grid(index))
    write_array(LABELS, like, tmp_path / name, structures=STRUCTURES, mark=True)
    ours, theirs = read_labels(tmp_path / name), sitk.ReadImage(str(tmp_path / name))
    assert np.array_equal(ours.array, LABELS) and ours.geometry.matches(like.geometry)
    assert np.array_equal(sitk.GetArrayFromImage(theirs), LABELS)
    corner = theirs.TransformContinuousIndexToPhysicalPoint((10.0, 8.0, 5.0))
    assert corner == pytest.approx(tuple(like.geometry.index_to_mm([10, 8, 5])), abs=1e-3)
    assert made_by_verdiff(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("carried", [False, True])
def test_a_nifti_extension_holds_the_label_table(tmp_path: Path, order: str, carried: bool) -> None:
    like = Volume(LABELS, grid(0))
    if carried:
        like = read_volume(save_nifti(tmp_path / "scan.nii", textured(LABELS.shape), order))
    elif order == ">":
        pytest.skip("ITK writes little-endian files")
    write_array(LABELS, like, tmp_path / "a.nii.gz", structures=STRUCTURES, mark=True)
    data = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    (offset,) = struct.unpack_from(f"{order}f", data, 108)
    size, code = struct.unpack_from(f"{order}2i", data, 352)
    assert data[348:352] == b"\1\0\0\0" and code == 30 and size % 16 == 0 and offset == 352 + size
    tree = ElementTree.fromstring(data[360 : 352 + size])
    found = {int(each.attrib["Key"]): each.text for each in tree.iter("Label")}
    assert found == {1: "vertebra", 2: "disc & co", 7: "canal"}
    assert len(data) == offset + LABELS.size


def test_an_array_without_structures_has_no_extension(tmp_path: Path) -> None:
    write_array(LABELS, Volume(LABELS, grid(0)), tmp_path / "a.nii", mark=True)
    assert (tmp_path / "a.nii").read_bytes()[348:352] == bytes(4)
