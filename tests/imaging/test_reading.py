"""Every format that is read, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from tests.imaging.make import nifti_bytes, save_nifti, textured
from verdiff.errors import InputError
from verdiff.imaging import read_labels, read_volume

SHEARED = (0.5, 0.05, 0, 7, 0, 0.75, 0, -8, 0, 0, 3.0, 9)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_volumes_are_read_as_itk_reads_them(tmp_path: Path, suffix: str, dtype: str) -> None:
    image = sitk.GetImageFromArray(textured((4, 6, 5), dtype=dtype))
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetOrigin((10.0, -20.0, 30.0))
    image.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
    sitk.WriteImage(image, str(tmp_path / f"scan{suffix}"))
    volume, again = read_volume(tmp_path / f"scan{suffix}"), sitk.ReadImage(str(tmp_path / f"scan{suffix}"))
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(again))
    assert volume.array.dtype == np.dtype(dtype)
    assert volume.geometry.spacing_mm == again.GetSpacing()
    assert volume.geometry.origin_mm == again.GetOrigin()
    assert volume.geometry.direction == again.GetDirection()
    assert volume.modality is None and volume.source == tmp_path / f"scan{suffix}"


@pytest.mark.parametrize("order", ["<", ">"])
def test_slope_and_byte_order_are_applied(tmp_path: Path, order: str) -> None:
    array = textured((4, 6, 5))
    path = save_nifti(tmp_path / "a.nii", array, order, slope=2.0, intercept=-1000.0)
    volume = read_volume(path)
    np.testing.assert_allclose(volume.array, array * 2.0 - 1000.0)
    assert volume.array.dtype == np.float32 and volume.array.flags.writeable
    np.testing.assert_array_equal(read_volume(save_nifti(tmp_path / "b.nii.gz", array, order)).array, array)


def test_metres_and_micrometres_become_millimetres(tmp_path: Path) -> None:
    pixdim, srow = (1, 5e-4, 5e-4, 3e-3, 0, 0, 0, 0), (5e-4, 0, 0, 0, 0, 5e-4, 0, 0, 0, 0, 3e-3, 0)
    path = save_nifti(
        tmp_path / "metres.nii", textured((4, 6, 5)), pixdim=pixdim, srow=srow, units=1, qoffset=(0, 0, 0)
    )
    assert read_volume(path).geometry.spacing_mm == pytest.approx((0.5, 0.5, 3.0))


def test_a_fourth_dimension_of_one_and_two_dimensions_are_no_obstacle(tmp_path: Path) -> None:
    four = save_nifti(tmp_path / "four.nii", textured((4, 6, 5)), dim=(4, 5, 6, 4, 1, 1, 1, 1))
    assert read_volume(four).array.shape == (4, 6, 5)
    two = save_nifti(tmp_path / "two.nii", textured((6, 5)), dim=(2, 5, 6, 1, 1, 1, 1, 1))
    assert read_volume(two).geometry.size == (5, 6, 1)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg"])
def test_films_are_one_plane_of_xr_at_a_nominal_scale(tmp_path: Path, suffix: str) -> None:
    image = sitk.GetImageFromArray(textured((30, 20), dtype="uint8"))
    image.SetSpacing((0.2, 0.2))
    sitk.WriteImage(image, str(tmp_path / f"film{suffix}"))
    film = read_volume(tmp_path / f"film{suffix}")
    assert film.array.shape == (1, 30, 20) and film.modality == "XR"
    assert film.geometry.spacing_mm == (1.0, 1.0, 1.0)


def test_the_modality_can_be_told(tmp_path: Path) -> None:
    assert read_volume(save_nifti(tmp_path / "a.nii", textured((4, 6, 5))), modality="MR").modality == "MR"


def test_masks_may_be_empty_and_are_whole_numbers(tmp_path: Path) -> None:
    empty = np.zeros((4, 6, 5), np.float32)
    assert read_labels(save_nifti(tmp_path / "a.nii", empty)).array.dtype == np.int32
    assert read_labels(save_nifti(tmp_path / "b.nii", empty.astype(np.uint8))).array.dtype == np.uint8
    with pytest.raises(InputError, match="whole numbers"):
        read_labels(save_nifti(tmp_path / "c.nii", empty + 0.5))
    with pytest.raises(InputError, match="labels from -1"):
        read_labels(save_nifti(tmp_path / "d.nii", empty - 1))


def test_labels_that_are_almost_whole_are_those_labels(tmp_path: Path) -> None:
    labels = np.arange(4 * 6 * 5).reshape(4, 6, 5) % 4
    off = labels * 0.9997
    np.testing.assert_array_equal(read_labels(save_nifti(tmp_path / "a.nii", off.astype(np.float32))).array, labels)
    stored = np.rint(labels / (3 / 32767)).astype(np.int16)
    scaled = read_labels(save_nifti(tmp_path / "b.nii", stored, slope=3 / 32767, intercept=0.0))
    np.testing.assert_array_equal(scaled.array, labels)
    with pytest.raises(InputError, match=r"not whole numbers, 1\.002 among them"):
        read_labels(save_nifti(tmp_path / "c.nii", (labels * 1.002).astype(np.float32)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".jpg"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.97])
def test_a_truncated_file_is_never_read(tmp_path: Path, suffix: str, kept: float) -> None:
    film = suffix in (".png", ".jpg")
    array = textured((60, 50) if film else (8, 30, 20), dtype="uint8")
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    read_volume(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert str(path) in caught.value.found


@pytest.mark.parametrize("where", [0.3, 0.6, 0.9, 1.0])
def test_a_damaged_gzip_is_never_read(tmp_path: Path, where: float) -> None:
    data = bytearray(gzip.compress(nifti_bytes(textured((90, 100, 100))), 0))
    # At 1.0 it is the checksum itself. Large enough that the damage lies beyond what is read for the header.
    data[int((len(data) - 8) * where)] ^= 0xFF
    (tmp_path / "a.nii.gz").write_bytes(data)
    with pytest.raises(InputError, match="compression does not check out"):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.png", "a.jpg", "a.dcm", "a.txt", "a"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"these are words, and no picture. " * 40)
    with pytest.raises(InputError, match=f"{name} "):
        read_volume(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file or folder .*scan\.nii"):
        read_volume(tmp_path / "scan.nii")


def test_a_file_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_nifti(tmp_path / "a.nii", textured((4, 6, 5)))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match="cannot be opened: Permission denied"):
        read_volume(path)


def with_value(value: float) -> np.ndarray:
    array = textured((4, 6, 5), dtype="float32")
    array[1, 2, 3] = value
    return array


@pytest.mark.parametrize(
    ("array", "fields", "message"),
    [
        (textured((3, 4, 6, 5)), {"dim": (4, 5, 6, 4, 3, 1, 1, 1)}, "4 dimensions of sizes 5 x 6 x 4 x 3"),
        (textured((4, 6, 15), dtype="uint8"), {"dim": (3, 5, 6, 4, 1, 1, 1, 1), "datatype": (128, 24)}, "RGB"),
        (textured((3, 4, 6, 5)), {"dim": (5, 5, 6, 4, 1, 3, 1, 1)}, "3 values a pixel"),
        (textured((4, 6, 5), dtype="float64"), {"datatype": (32, 64)}, "complex"),
        (textured((4, 6, 5)), {"datatype": (1, 1)}, "NIfTI type 1"),
        (textured((1, 1, 1)), {}, "1 voxel "),
        (textured((4, 1, 1)), {}, "4 voxels"),
        (textured((4, 6, 5)), {"dim": (3, 5, 0, 4, 1, 1, 1, 1)}, "size of"),
        (textured((4, 6, 5)), {"dim": (0, 5, 6, 4, 1, 1, 1, 1)}, "size of"),
        (with_value(np.nan), {}, "1 voxels that are NaN or infinite"),
        (with_value(np.inf), {}, "NaN or infinite"),
        (with_value(-np.inf), {}, "NaN or infinite"),
        (np.full((4, 6, 5), 17, np.int16), {}, "constant: every voxel is 17"),
        (textured((4, 6, 5)), {"pixdim": (1, 0, 0.75, 3, 0, 0, 0, 0)}, "spacing of 0 x 0.75 x 3"),
        (textured((4, 6, 5)), {"pixdim": (1, -0.5, 0.75, 3, 0, 0, 0, 0)}, "spacing of -0.5"),
        (textured((4, 6, 5)), {"pixdim": (1, np.nan, 0.75, 3, 0, 0, 0, 0)}, "spacing of nan"),
        (textured((4, 6, 5)), {"pixdim": (1, 0.5, 0.75, 300, 0, 0, 0, 0)}, "spacing of 0.5 x 0.75 x 300"),
        (textured((4, 6, 5)), {"pixdim": (1, 0.5, 0.001, 3, 0, 0, 0, 0)}, "spacing of 0.5 x 0.001 x 3"),
        (textured((4, 6, 5)), {"srow": (1, 0, 0, 0, 0, 0.75, 0, 0, 0, 0, 3, 0)}, "two spacings"),
        (textured((4, 6, 5)), {"srow": SHEARED}, "sheared"),
        (textured((4, 6, 5)), {"srow": SHEARED, "codes": (0, 1)}, "sheared"),
        (textured((4, 6, 5)), {"srow": (0,) * 12}, "no length"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_nifti_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, array: np.ndarray, fields: dict[str, Any], message: str, order: str
) -> None:
    path = save_nifti(tmp_path / "bad.nii.gz", array, order, **fields)
    with pytest.raises(InputError, match=message) as caught:
        read_volume(path)
    assert "bad.nii.gz" in caught.value.found and caught.value.expected and caught.value.remedy


def test_nifti_two_and_header_pairs_are_named(tmp_path: Path) -> None:
    data = bytearray(nifti_bytes(textured((4, 6, 5))))
    data[0:4] = (540).to_bytes(4, "little")
    (tmp_path / "two.nii").write_bytes(data)
    with pytest.raises(InputError, match="NIfTI-2"):
        read_volume(tmp_path / "two.nii")
    data[0:4], data[344:348] = (348).to_bytes(4, "little"), b"ni1\0"
    (tmp_path / "pair.nii").write_bytes(data)
    with pytest.raises(InputError, match="no image behind its header"):
        read_volume(tmp_path / "pair.nii")


def sheared(path: Path) -> None:
    image = sitk.GetImageFromArray(textured((4, 6, 5)))
    image.SetDirection((1, 0.2, 0, 0, 1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path))


def coloured(path: Path) -> None:
    shape = (6, 5, 3) if path.suffix in (".png", ".jpg") else (4, 6, 5, 3)
    sitk.WriteImage(sitk.GetImageFromArray(textured(shape, dtype="uint8"), isVector=True), str(path))


def several(path: Path) -> None:
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(textured((4, 6, 5)))] * 2), str(path))


def flat(path: Path) -> None:
    shape = (6, 5) if path.suffix in (".png", ".jpg") else (4, 6, 5)
    sitk.WriteImage(sitk.GetImageFromArray(np.full(shape, 9, np.uint8)), str(path))


def spaced(*spacing: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        image = sitk.GetImageFromArray(textured((4, 6, 5)))
        image.SetSpacing((0.5, 0.25, 3.0))
        sitk.WriteImage(image, str(path), useCompression=False)
        data = path.read_bytes()
        for before, after in ((b"0.25", f"{spacing[0]:g}".encode()),):
            data = data.replace(before, after)
        path.write_bytes(data)

    return write


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.nrrd", sheared, "sheared"),
        ("a.mha", sheared, "sheared"),
        ("a.nrrd", coloured, "RGB"),
        ("a.mha", coloured, "RGB"),
        ("a.png", coloured, "RGB"),
        ("a.jpg", coloured, "RGB"),
        ("a.mha", several, "4 dimensions"),
        ("a.nrrd", several, "4 dimensions"),
        ("a.nrrd", flat, "constant"),
        ("a.png", flat, "constant"),
        ("a.mha", spaced(0.0), "spacing"),
        ("a.nrrd", spaced(0.0), "spacing"),
        ("a.mha", spaced(777.0), "spacing of 0.5 x 777 x 3"),
        ("a.nrrd", spaced(777.0), "spacing of 0.5 x 777 x 3"),
    ],
)
def test_other_formats_are_held_to_the_same_rules(
    tmp_path: Path, name: str, write: Callable[[Path], None], message: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(InputError, match=message) as caught:
        read_volume(tmp_path / name)
    assert name in caught.value.found
