"""What a header claims is compared with what there is: no wrong voxel, and no memory for what is not there."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from tests.imaging.make import nifti_bytes, save_nifti, textured
from verdiff.errors import InputError
from verdiff.imaging import read_volume

ARRAY = textured((8, 30, 20))
WHOLE = nifti_bytes(ARRAY)


def patched(offset: int, layout: str, *values: float) -> bytes:
    data = bytearray(WHOLE)
    struct.pack_into("<" + layout, data, offset, *values)
    return bytes(data)


CLAIMS = {
    "a large scan": patched(40, "8h", 3, 4000, 4000, 700, 1, 1, 1, 1),
    "the largest scan": patched(40, "8h", 3, 32767, 32767, 32767, 1, 1, 1, 1),
    "a row more": patched(40, "8h", 3, 20, 31, 8, 1, 1, 1, 1),
    "a row fewer": patched(40, "8h", 3, 20, 29, 8, 1, 1, 1, 1),
    "one volume of several": patched(40, "8h", 3, 20, 30, 4, 1, 1, 1, 1),
    "other bits than its type": patched(72, "h", 8),
    "an offset of no number": patched(108, "f", float("nan")),
    "an infinite offset": patched(108, "f", float("inf")),
    "an offset beyond the end": patched(108, "f", 1e9),
    "an offset beyond every end": patched(108, "f", 1e30),
    "an offset before the start": patched(108, "f", -1.0),
    "an offset within the header": patched(108, "f", 100.0),
    "half an offset": patched(108, "f", 352.5),
}


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_that_claims_what_is_not_there_is_refused(tmp_path: Path, claim: str, name: str) -> None:
    data = CLAIMS[claim]
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(InputError, match="truncated or damaged") as caught:
        read_volume(tmp_path / name)
    assert name in caught.value.found


CHILD = """
import resource, sys
limit = 3 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from verdiff.errors import InputError
from verdiff.imaging import read_volume
for name in sys.argv[1:]:
    try:
        read_volume(name)
    except InputError:
        print("refused")
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space and counts kilobytes as Linux does")
def test_memory_is_not_taken_for_what_a_header_claims(tmp_path: Path) -> None:
    big = patched(40, "8h", 3, 4000, 4000, 700, 1, 1, 1, 1)
    (tmp_path / "a.nii").write_bytes(big)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(big))
    (tmp_path / "b.nii").write_bytes(patched(108, "f", 1e9))
    head = "dimension: 3\nsizes: 4000 4000 700\nspace: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nendian: little\n"
    (tmp_path / "a.nrrd").write_bytes(f"NRRD0004\ntype: short\n{head}encoding: raw\n\n".encode() + bytes(9000))
    packed = gzip.compress(bytes(9000))
    (tmp_path / "b.nrrd").write_bytes(f"NRRD0004\ntype: short\n{head}encoding: gzip\n\n".encode() + packed)
    mha = "NDims = 3\nDimSize = 4000 4000 700\nElementSpacing = 1 1 1\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
    for name, rest in (("a.mha", ""), ("b.mha", "CompressedData = True\n")):
        text = f"{mha}{rest}ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        (tmp_path / name).write_bytes(text.encode() + zlib.compress(bytes(9000)))
    png = bytearray((b"\x89PNG\r\n\x1a\n") + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 60000, 60000, 8, 0, 0, 0, 0))
    png += struct.pack(">I", zlib.crc32(png[12:]))
    (tmp_path / "a.png").write_bytes(bytes(png) + bytes(200))
    names = sorted(path.name for path in tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *names], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    lines = done.stdout.split()
    assert lines[:-1] == ["refused"] * len(names), done.stderr[-500:]
    assert int(lines[-1]) < 250_000


def test_zeros_that_fill_up_a_block_may_follow_and_nothing_else(tmp_path: Path) -> None:
    for name, more in (("a.nii", bytes(512)), ("b.nii.gz", bytes(512))):
        data = WHOLE + more
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, ARRAY)
    for more in (b"\1", bytes(9000), bytes(10) + b"\1"):
        (tmp_path / "c.nii").write_bytes(WHOLE + more)
        with pytest.raises(InputError, match="more follow them"):
            read_volume(tmp_path / "c.nii")


@pytest.mark.parametrize("start", [348, 352])
def test_an_offset_of_zero_is_the_first_byte_there_can_be(tmp_path: Path, start: int) -> None:
    data = patched(108, "f", 0.0)
    (tmp_path / "a.nii").write_bytes(data[:348] + bytes(start - 348) + data[352:])
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").array, ARRAY)


@pytest.mark.parametrize(
    "name", ["SCAN.NII.GZ", "Scan.Nii.Gz", "scan.nii.GZ", "scan.NII", "gzip under.nii", "plain under.nii.gz"]
)
def test_gzip_is_told_by_content_and_suffixes_in_any_case(tmp_path: Path, name: str) -> None:
    packed = name.lower().endswith(".gz") != ("under" in name)
    (tmp_path / name).write_bytes(gzip.compress(WHOLE) if packed else WHOLE)
    np.testing.assert_array_equal(read_volume(tmp_path / name).array, ARRAY)


@pytest.mark.parametrize("name", ["A.NRRD", "A.Mha", "A.PNG", "A.Jpg"])
def test_other_suffixes_are_read_in_any_case(tmp_path: Path, name: str) -> None:
    plain = tmp_path / name.lower()
    flat = name.lower().endswith(("png", "jpg"))
    sitk.WriteImage(sitk.GetImageFromArray(textured((30, 20) if flat else (4, 6, 5), dtype="uint8")), str(plain))
    whole = read_volume(plain)
    plain.rename(tmp_path / "other")
    (tmp_path / "other").rename(tmp_path / name)
    np.testing.assert_array_equal(read_volume(tmp_path / name).array, whole.array)


def test_members_of_gzip_one_after_the_other_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(WHOLE[:3000]) + gzip.compress(WHOLE[3000:]))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, ARRAY)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(WHOLE) + gzip.compress(WHOLE))
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(WHOLE) + b"and a few words")
    for name in ("b.nii.gz", "c.nii.gz"):
        with pytest.raises(InputError, match="truncated or damaged"):
            read_volume(tmp_path / name)


def test_every_flipped_bit_of_a_packed_scan_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    image = sitk.GetImageFromArray(ARRAY)
    formats = {"a.nii.gz": gzip.compress(WHOLE)}
    for name in ("a.nrrd", "a.mha"):
        sitk.WriteImage(image, str(tmp_path / name), useCompression=True)
        formats[name] = (tmp_path / name).read_bytes()
    chosen = np.random.default_rng(5)
    for name, sound in formats.items():
        path = tmp_path / name
        start = 0 if name.endswith("gz") else len(sound) * 2 // 3
        refused = 0
        for place in chosen.integers(start, len(sound), 150):
            data = bytearray(sound)
            data[place] ^= 1 << int(chosen.integers(8))
            path.write_bytes(data)
            try:
                np.testing.assert_array_equal(read_volume(path).array, ARRAY)
            except InputError:
                refused += 1
        assert refused > 120


def test_the_intensities_scaling_that_is_no_number_is_left_out_and_said(tmp_path: Path) -> None:
    for slope, intercept, times, said in (
        (1.0, np.nan, 1, "scl_inter"),
        (2.0, np.inf, 2, "scl_inter"),
        (np.inf, 0.0, 1, "scl_slope"),
        (np.nan, np.nan, 1, ""),
        (0.0, 7.0, 1, ""),
    ):
        volume = read_volume(save_nifti(tmp_path / "a.nii", ARRAY, slope=slope, intercept=intercept))
        np.testing.assert_array_equal(volume.array, ARRAY * times)
        assert said in "".join(volume.notes) and bool(volume.notes) == bool(said)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("array", "fields", "message"),
    [
        (np.where(ARRAY == 3, 1e300, ARRAY), {}, r"a value of 1e\+300, beyond the range of 32-bit floats"),
        (np.where(ARRAY == 3, -4e38, ARRAY), {}, "beyond the range of 32-bit floats"),
        (ARRAY, {"slope": 3e38}, "beyond the range of 32-bit floats once scaled"),
    ],
)
def test_values_beyond_32_bit_floats_are_refused_without_a_warning(
    tmp_path: Path, array: np.ndarray, fields: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_volume(save_nifti(tmp_path / "a.nii", array, **fields))


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take names in UTF-8 alone")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_names_that_are_not_utf8_are_read_and_written(tmp_path: Path, suffix: str) -> None:
    from verdiff.imaging import write_array

    image = sitk.GetImageFromArray(ARRAY)
    sitk.WriteImage(image, str(tmp_path / f"plain{suffix}"))
    odd = tmp_path / ("caf\udce9" + suffix)
    (tmp_path / f"plain{suffix}").rename(odd)
    volume = read_volume(odd)
    np.testing.assert_array_equal(volume.array, ARRAY)
    for end in (".nii.gz", ".nrrd", ".mha"):
        target = tmp_path / ("mask\udce9" + end)
        write_array((ARRAY > 60).astype(np.uint8), volume, target)
        np.testing.assert_array_equal(read_volume(target).array, ARRAY > 60)


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take names in UTF-8 alone")
def test_a_film_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(textured((30, 20), dtype="uint8")), str(tmp_path / "a.png"))
    odd = tmp_path / "caf\udce9.png"
    (tmp_path / "a.png").rename(odd)
    with pytest.raises(InputError, match="not UTF-8"):
        read_volume(odd)


def test_what_macos_keeps_beside_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "._scan.nii.gz").write_bytes(b"\0\x05\x16\x07" + bytes(200))
    with pytest.raises(InputError, match=r"what macOS keeps beside a file") as caught:
        read_volume(tmp_path / "._scan.nii.gz")
    assert "scan.nii.gz" in caught.value.remedy


OFFSETS = np.arange(120).reshape(4, 6, 5)


@pytest.mark.parametrize(
    "array",
    [
        (OFFSETS + (1 << 62)).astype("int64"),
        OFFSETS.astype("uint64") * np.uint64(1 << 40) + np.uint64(1 << 63),
        (OFFSETS + (1 << 28)).astype("int32"),
        OFFSETS + 1e12,
        OFFSETS * 1e-60,
    ],
    ids=["int64", "uint64", "int32", "far", "small"],
)
def test_intensities_that_32_bit_floats_hardly_tell_apart_are_refused(tmp_path: Path, array: Any) -> None:
    kinds = {"int32": (8, 32), "int64": (1024, 64), "uint64": (1280, 64), "float64": (64, 64)}
    path = save_nifti(tmp_path / "a.nii", array, datatype=kinds[array.dtype.name])
    with pytest.raises(InputError, match="which 32-bit floats tell apart in"):
        read_volume(path)


@pytest.mark.parametrize(
    ("array", "scaling"),
    [
        ((OFFSETS + (1 << 20)).astype("int32"), {}),
        (OFFSETS.astype("int64"), {}),
        (OFFSETS + 1e6, {}),
        ((OFFSETS % 3).astype("int16"), {"slope": 0.25, "intercept": 1e3}),
    ],
)
def test_intensities_that_32_bit_floats_keep_are_read(tmp_path: Path, array: Any, scaling: dict[str, float]) -> None:
    kinds = {"int16": (4, 16), "int32": (8, 32), "int64": (1024, 64), "float64": (64, 64)}
    path = save_nifti(tmp_path / "a.nii", array, datatype=kinds[array.dtype.name], **scaling)
    expected = array * scaling.get("slope", 1) + scaling.get("intercept", 0)
    np.testing.assert_array_equal(read_volume(path).array, expected)


def test_a_scaling_that_leaves_no_contrast_is_named_as_that(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tell apart in 0 steps"):
        read_volume(save_nifti(tmp_path / "a.nii", OFFSETS.astype("int16"), slope=1.0, intercept=1e30))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (gzip.compress(gzip.compress(b"x" * 900)), "gzip data"),
        (b"BZh91AY" + bytes(400), "bzip2 data"),
        (b"PK\x03\x04" + bytes(20), "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"\xef\xbb\xbf <!DOCTYPE html>" + b" " * 500, "a web page"),
        (bytes(128) + b"DICM" + bytes(400), "a DICOM file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(400), "a PNG picture"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha"])
def test_a_file_of_another_kind_is_called_by_its_kind(tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(data)
    packed = kind == "gzip data" and name in ("a.nrrd", "a.mha")
    with pytest.raises(InputError, match=f"holds {kind}") as caught:
        read_volume(tmp_path / name)
    assert packed or "truncated" not in caught.value.found
