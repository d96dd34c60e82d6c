"""A mask lies where its scan lies, to the byte where the format allows it."""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.imaging.make import (
    ORIENTATIONS,
    directions,
    geometries,
    header_of,
    nifti_bytes,
    rotation,
    save_nifti,
    save_series,
    textured,
    volume,
)
from verdiff.errors import OutputError
from verdiff.imaging import Geometry, Volume, nifti, read_labels, read_volume, write_array

# xyzt_units; pixdim[0..3]; qform and sform with their codes: all that says where the voxels lie.
PLACE = (slice(123, 124), slice(76, 92), slice(252, 328))
VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha")


def write_and_read(source: Volume, suffix: str) -> tuple[Volume, np.ndarray]:
    mask = (np.asarray(source.array) > np.median(source.array)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        write_array(mask, source, Path(folder) / f"mask{suffix}")
        return read_labels(Path(folder) / f"mask{suffix}"), mask


def assert_same_place(source: Geometry, written: Geometry) -> None:
    assert written.size == source.size
    np.testing.assert_allclose(written.spacing_mm, source.spacing_mm, rtol=1e-7)
    np.testing.assert_allclose(written.origin_mm, source.origin_mm, rtol=1e-7, atol=1e-7)
    assert np.abs(written.corners_mm() - source.corners_mm()).max() < 1e-4


@settings(deadline=None, max_examples=60)
@given(geometries(), st.sampled_from(VOLUMES))
def test_corners_stay_within_a_ten_thousandth_of_a_millimetre(geometry: Geometry, suffix: str) -> None:
    source = Volume(textured(geometry.shape), geometry)
    written, mask = write_and_read(source, suffix)
    np.testing.assert_array_equal(written.array, mask)
    assert_same_place(geometry, written.geometry)


@pytest.mark.parametrize("direction", ORIENTATIONS)
def test_a_large_scan_in_each_of_the_48_orientations_stays_in_place(direction: tuple[float, ...]) -> None:
    geometry = Geometry((3, 512, 2), (0.47, 0.47, 0.9), (-249.51, 437.5, -766.5), direction)
    written, _ = write_and_read(Volume(textured(geometry.shape), geometry), ".nii")
    assert_same_place(geometry, written.geometry)


@settings(deadline=None, max_examples=100)
@given(
    directions(),
    st.tuples(*[st.floats(-0.57, 0.57)] * 3),
    st.tuples(*[st.floats(-300, 300, width=32)] * 6),
    st.tuples(st.integers(1, 4), st.just(0)) | st.tuples(st.just(0), st.integers(1, 4)),
    st.sampled_from("<>"),
    st.sampled_from([".nii", ".nii.gz"]),
    st.sampled_from([1.0, -1.0]),
)
def test_from_nifti_to_nifti_the_place_is_carried_byte_for_byte(
    direction: tuple[float, ...],
    quaternion: tuple[float, ...],
    offsets: tuple[float, ...],
    codes: tuple[int, int],
    order: str,
    suffix: str,
    handedness: float,
) -> None:
    spacing = (0.47, 0.9, 3.3)
    rows = np.column_stack([np.reshape(direction, (3, 3)) * spacing, offsets[3:]])
    place: dict[str, Any] = {
        "pixdim": (handedness, *spacing, 0, 0, 0, 0),
        "quaternion": quaternion,
        "qoffset": offsets[:3],
        "srow": tuple(rows.ravel()),
        "codes": codes,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = save_nifti(folder / f"scan{suffix}", textured((4, 6, 5)), order, slope=2.0, intercept=-5.0, **place)
        scan = read_volume(source)
        write_array((scan.array > 100).astype(np.uint8), scan, folder / "mask.nii.gz")
        for part in PLACE:
            assert header_of(folder / "mask.nii.gz")[part] == header_of(source)[part]
        mask = read_labels(folder / "mask.nii.gz")
        assert mask.geometry == scan.geometry
        np.testing.assert_array_equal(mask.array, scan.array > 100)
        image, again = sitk.ReadImage(str(source)), sitk.ReadImage(str(folder / "mask.nii.gz"))
        assert (again.GetSize(), again.GetSpacing(), again.GetOrigin(), again.GetDirection()) == (
            image.GetSize(),
            image.GetSpacing(),
            image.GetOrigin(),
            image.GetDirection(),
        )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "bool", "float64", "float16"])
def test_values_survive_under_a_header_of_another_type(tmp_path: Path, order: str, dtype: str) -> None:
    scan = read_volume(save_nifti(tmp_path / "a.nii.gz", textured((4, 6, 5)), order, slope=3.0))
    values = (textured((4, 6, 5), 1) % 2).astype(dtype)
    write_array(values, scan, tmp_path / "b.nii")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b.nii"))), values)
    assert struct.unpack(f"{order}f", header_of(tmp_path / "b.nii")[112:116]) == (1.0,)


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    scan = read_volume(save_nifti(tmp_path / "a.nii", textured((4, 6, 5))))
    for name in ("b.nii.gz", "c.nii.gz"):
        write_array(np.ones((4, 6, 5), np.uint8), scan, tmp_path / name)
    assert (tmp_path / "b.nii.gz").read_bytes() == (tmp_path / "c.nii.gz").read_bytes()


@pytest.mark.parametrize("dim", [(2, 5, 6, 1, 1, 1, 1, 1), (4, 5, 6, 1, 1, 1, 1, 1)])
def test_a_flat_or_four_dimensional_scan_gives_a_mask_of_its_dimensions(tmp_path: Path, dim: tuple[int, ...]) -> None:
    source = save_nifti(tmp_path / "a.nii", textured((1, 6, 5)), dim=dim)
    write_array(np.ones((1, 6, 5), np.uint8), read_volume(source), tmp_path / "b.nii")
    assert header_of(tmp_path / "b.nii")[40:56] == header_of(source)[40:56]
    assert read_labels(tmp_path / "b.nii").geometry == read_volume(source).geometry


@pytest.mark.parametrize("suffix", VOLUMES)
def test_a_dicom_series_gives_a_mask_in_its_place(tmp_path: Path, suffix: str) -> None:
    save_series(tmp_path / "series", [0.0, 3.3, 6.6, 9.9])
    scan = read_volume(tmp_path / "series")
    written, _ = write_and_read(scan, suffix)
    assert_same_place(scan.geometry, written.geometry)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("handed", [1.0, -1.0])
def test_slightly_skewed_axes_are_written_as_they_are_read(tmp_path: Path, suffix: str, handed: float) -> None:
    axes = rotation((0.3, -0.2, 0.1)) @ np.array([[1, 2.9e-4, 0], [0, 1, 0], [0, 0, handed]])
    direction = tuple((axes / np.linalg.norm(axes, axis=0)).ravel().tolist())
    scan = volume((30, 200, 300), spacing_mm=(1.0, 1.0, 3.0), origin_mm=(-150.0, 20.0, 700.0), direction=direction)
    write_array(np.ones(scan.array.shape, np.uint8), scan, tmp_path / f"mask{suffix}", mark=True)
    mask = read_labels(tmp_path / f"mask{suffix}")
    assert np.abs(mask.geometry.corners_mm() - scan.geometry.corners_mm()).max() < 2e-4
    # Readers that know right angles alone find it near.
    turned = read_labels(tmp_path / f"mask{suffix}", orientation="qform").geometry
    assert np.abs(turned.corners_mm() - scan.geometry.corners_mm()).max() < 0.1
    image = sitk.ReadImage(str(tmp_path / f"mask{suffix}"))
    far = np.array(image.TransformIndexToPhysicalPoint((299, 199, 29)))
    assert np.abs(far - scan.geometry.corners_mm()[-1]).max() < 0.1


@pytest.mark.parametrize("direction", ORIENTATIONS)
def test_a_header_of_our_own_says_what_that_of_itk_says(tmp_path: Path, direction: tuple[float, ...]) -> None:
    scan = volume(origin_mm=(-7.5, 8.25, 9.0), direction=direction)
    write_array(scan.array, scan, tmp_path / "ours.nii")
    image = sitk.GetImageFromArray(scan.array)
    image.SetSpacing(scan.geometry.spacing_mm)
    image.SetOrigin(scan.geometry.origin_mm)
    image.SetDirection(direction)
    sitk.WriteImage(image, str(tmp_path / "itk.nii"))
    ours, theirs = header_of(tmp_path / "ours.nii"), header_of(tmp_path / "itk.nii")
    place = [
        list(struct.unpack_from("<8f", each, 76) + struct.unpack_from("<18f", each, 256)) for each in (ours, theirs)
    ]
    np.testing.assert_allclose(*place, atol=1e-6)
    # All else but the text in descrip, and what the type of the voxels says.
    for part in (slice(76), slice(108, 148), slice(228, 256), slice(328, 348)):
        assert ours[part] == theirs[part]


@pytest.mark.skipif(os.name != "posix", reason="limits of a process")
@pytest.mark.parametrize("mark", [False, True])
@pytest.mark.parametrize("suffix", [*VOLUMES, ".png"])
@pytest.mark.parametrize(("shape", "room"), [((20, 60, 50), 20_000), ((1, 60, 50), 300)])
def test_a_full_disk_is_an_error_and_the_old_mask_stays(
    tmp_path: Path, suffix: str, mark: bool, shape: tuple[int, int, int], room: int
) -> None:
    import resource
    import signal

    scan = volume(shape if suffix != ".png" else (1, 60, 20 * shape[0]))
    noise = np.random.default_rng(0).integers(0, 255, scan.array.shape).astype(np.uint8)
    target = tmp_path / f"mask{suffix}"
    target.write_bytes(b"old")
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    # As a full disk does, it takes the beginning of the file.
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            write_array(noise, scan, target, mark=mark)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_an_axis_longer_than_nifti_can_say_is_refused(tmp_path: Path) -> None:
    long = volume((1, 2, 40_000))
    with pytest.raises(OutputError, match="40000 x 2 x 1"):
        write_array(long.array, long, tmp_path / "a.nii.gz")
    assert not list(tmp_path.iterdir())


def test_a_films_mask_is_a_png(tmp_path: Path) -> None:
    film = Volume(textured((1, 30, 20)), Geometry((20, 30, 1), (1.0, 1.0, 1.0)), "XR")
    mask = (textured((1, 30, 20)) > 60).astype(np.uint8)
    write_array(mask, film, tmp_path / "mask.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.png").array, mask)
    with pytest.raises(OutputError, match="single plane"):
        write_array(mask.astype(np.float32), film, tmp_path / "map.png")
    with pytest.raises(OutputError, match="single plane"):
        write_array(np.zeros((4, 6, 5), np.uint8), volume(), tmp_path / "volume.png")


def test_what_cannot_be_written_is_refused_before_a_file_appears(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="shape"):
        write_array(np.zeros((1, 2, 3), np.uint8), volume(), tmp_path / "a.nii.gz")
    with pytest.raises(OutputError, match=r"named a\.dcm"):
        write_array(np.zeros((4, 6, 5), np.uint8), volume(), tmp_path / "a.dcm")
    with pytest.raises(OutputError, match="no folder"):
        write_array(np.zeros((4, 6, 5), np.uint8), volume(), tmp_path / "missing" / "a.nii.gz")
    scan = Volume(textured((4, 6, 5)), volume().geometry, nifti_header=nifti_bytes(textured((4, 6, 5)))[:348])
    with pytest.raises(OutputError, match="complex64"):
        write_array(np.zeros((4, 6, 5), np.complex64), scan, tmp_path / "a.nii.gz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_the_old_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    scan = read_volume(save_nifti(tmp_path / "scan.nii", textured((4, 6, 5))))
    target = tmp_path / "mask.nii"
    write_array(np.zeros((4, 6, 5), np.uint8), scan, target)
    before = target.read_bytes()

    def half(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(before[:300])
        raise stop(28, "No space left on device")

    monkeypatch.setattr(nifti, "write_with_header", half)
    with pytest.raises(OutputError if stop is OSError else KeyboardInterrupt):
        write_array(np.ones((4, 6, 5), np.uint8), scan, target)
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.nii", "scan.nii"]
