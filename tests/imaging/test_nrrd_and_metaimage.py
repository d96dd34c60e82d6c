"""NRRD and MetaImage: what the header states is read as ITK reads it, what it leaves open is never made up."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings

from tests.imaging.make import geometries, textured
from verdiff.errors import InputError
from verdiff.imaging import Geometry, acquisition_view, read_labels, read_volume
from verdiff.imaging.orientation import axis_code

ARRAY = textured((4, 6, 5))
PLACED = {
    "space": "left-posterior-superior",
    "space directions": "(0,0.5,0) (0,0,-0.75) (-3,0,0)",
    "space origin": "(10,-20,30)",
}


def nrrd(path: Path, data: bytes | None = None, **fields: str | None) -> Path:
    """A NRRD file of ARRAY; fields by name with _ for spaces, None leaves one out."""
    values: dict[str, str | None] = {
        "type": "short",
        "dimension": "3",
        "sizes": "5 6 4",
        "endian": "little",
        "encoding": "raw",
    }
    values |= {name.replace("_", " "): value for name, value in fields.items()}
    head = "".join(f"{name}: {value}\n" for name, value in values.items() if value is not None)
    path.write_bytes(b"NRRD0004\n# a comment\nkey:=value\n" + head.encode() + b"\n")
    with path.open("ab") as stream:
        stream.write(ARRAY.astype("<i2").tobytes() if data is None else data)
    return path


def metaimage(path: Path, data: bytes | None = None, **fields: str | None) -> Path:
    """A MetaImage of ARRAY; None leaves a field out."""
    values: dict[str, str | None] = {
        "ObjectType": "Image",
        "NDims": "3",
        "DimSize": "5 6 4",
        "ElementSpacing": "0.5 0.75 3",
        "TransformMatrix": "0 1 0 0 0 -1 -1 0 0",
        "Offset": "10 -20 30",
        "ElementType": "MET_SHORT",
    }
    values |= fields
    last = values.pop("ElementDataFile", "LOCAL")
    head = "".join(f"{name} = {value}\n" for name, value in values.items() if value is not None)
    path.write_bytes(f"{head}ElementDataFile = {last}\n".encode())
    with path.open("ab") as stream:
        stream.write(ARRAY.astype("<i2").tobytes() if data is None else data)
    return path


@settings(max_examples=40, deadline=None)
@given(geometries())
def test_what_itk_writes_is_read_at_its_place(tmp_path_factory: pytest.TempPathFactory, geometry: Geometry) -> None:
    array = textured(geometry.shape)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(geometry.direction)
    folder = tmp_path_factory.mktemp("itk")
    for name in ("a.nrrd", "b.nhdr", "a.mha", "b.mhd"):
        for pack in (False, True):
            sitk.WriteImage(image, str(folder / name), useCompression=pack)
            volume = read_volume(folder / name)
            np.testing.assert_array_equal(volume.array, array)
            np.testing.assert_allclose(volume.geometry.corners_mm(), geometry.corners_mm(), atol=1e-4)
            assert volume.notes == ()


def test_both_are_one_grid_when_they_state_one(tmp_path: Path) -> None:
    first = read_volume(nrrd(tmp_path / "a.nrrd", **PLACED))  # type: ignore[arg-type]
    second = read_volume(metaimage(tmp_path / "a.mha"))
    assert first.geometry.matches(second.geometry) and acquisition_view(first.geometry) == "sagittal"
    np.testing.assert_array_equal(first.array, second.array)


@pytest.mark.parametrize(
    ("space", "code"), [("LPS", "LPS"), ("RAS", "RAS"), ("left-anterior-superior", "LAS"), ("RAST", "RAS")]
)
def test_every_space_of_the_patient_is_read(tmp_path: Path, space: str, code: str) -> None:
    path = nrrd(tmp_path / "a.nrrd", space=space, space_directions="(1,0,0) (0,1,0) (0,0,3)")
    assert axis_code(read_volume(path).geometry.matrix) == code


@pytest.mark.parametrize("encoding", ["raw", "gzip", "gz", "bzip2"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_every_encoding_and_byte_order_is_read(tmp_path: Path, encoding: str, endian: str) -> None:
    data = ARRAY.astype("<i2" if endian == "little" else ">i2").tobytes()
    data = {"raw": bytes, "bzip2": bz2.compress}.get(encoding, gzip.compress)(data)
    path = nrrd(tmp_path / "a.nrrd", data, encoding=encoding, endian=endian, **PLACED)  # type: ignore[arg-type]
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, ARRAY)
    assert volume.array.dtype == np.int16


def test_voxels_in_a_file_of_their_own_are_found_or_named(tmp_path: Path) -> None:
    (tmp_path / "voxels.raw").write_bytes(b"12" + ARRAY.astype("<i2").tobytes())
    header = nrrd(tmp_path / "a.nhdr", b"", data_file="voxels.raw", byte_skip="2", **PLACED)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_volume(header).array, ARRAY)
    end = nrrd(tmp_path / "b.nhdr", b"", data_file="voxels.raw", byte_skip="-1", **PLACED)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_volume(end).array, ARRAY)
    twin = metaimage(tmp_path / "a.mhd", b"", ElementDataFile="voxels.raw", HeaderSize="-1")
    np.testing.assert_array_equal(read_volume(twin).array, ARRAY)
    (tmp_path / "voxels.raw").unlink()
    for path in (header, twin):
        with pytest.raises(InputError, match=r"there is no file .*voxels\.raw"):
            read_volume(path)


WORDS = " ".join(str(value) for value in ARRAY.ravel()).encode()
DIGITS = ARRAY.astype("<i2").tobytes().hex().encode()


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("text", WORDS), ("ascii", WORDS.replace(b" ", b",\n")), ("txt", b"\n" + WORDS + b"\r\n"),
        ("hex", DIGITS), ("hex", b"\n".join(DIGITS[at : at + 7] for at in range(0, len(DIGITS), 7))),
    ],
)  # fmt: skip
def test_voxels_that_are_stored_as_text_are_read(tmp_path: Path, encoding: str, data: bytes) -> None:
    path = nrrd(tmp_path / "a.nrrd", data, encoding=encoding, **PLACED)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_volume(path).array, ARRAY)
    if encoding != "hex":
        twin = metaimage(tmp_path / "a.mha", data, BinaryData="False", BinaryDataByteOrderMSB="True")
        np.testing.assert_array_equal(read_volume(twin).array, ARRAY)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (WORDS + b" 7", "more follow"), (WORDS.rsplit(b" ", 1)[0], "bytes early"), (WORDS + b"9999", "numbers of type"),
        (WORDS.replace(b" ", b" 40000 ", 1), "numbers of type"), (WORDS.replace(b" ", b" 1.5 ", 1), "numbers of type"),
        (b"7" * 100_000, "no number"), (b"", "truncated or damaged"),
    ],
)  # fmt: skip
def test_text_that_is_not_the_voxels_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_volume(nrrd(tmp_path / "a.nrrd", data, encoding="text", **PLACED))  # type: ignore[arg-type]


@pytest.mark.parametrize("pack", [None, gzip.compress])
def test_voxels_in_several_files_are_read_in_the_order_that_the_header_states(tmp_path: Path, pack: object) -> None:
    (tmp_path / "parts").mkdir()
    for number, plane in enumerate(ARRAY.astype("<i2")):
        data = plane.tobytes()
        (tmp_path / "parts" / f"s{7 - 2 * number:03d}.raw").write_bytes(pack(data) if pack else data)  # type: ignore[operator]
    named = "".join(f"parts/s{7 - 2 * number:03d}.raw\n" for number in range(4))
    encoding = {"encoding": "gzip" if pack else "raw"}
    for stated, rest in (
        ("LIST", named),
        ("LIST 2", named),
        ("LIST 2D", named),
        ("parts/s%03d.raw 7 1 -2", ""),
        ("parts/s%03d.raw 7 1 -2 2", ""),
    ):
        fields = {**PLACED, **encoding, "data_file": f"{stated}\n{rest}".rstrip("\n")}
        path = nrrd(tmp_path / "a.nhdr", b"", **fields)  # type: ignore[arg-type]
        np.testing.assert_array_equal(read_volume(path).array, ARRAY)
        twin = metaimage(
            tmp_path / "a.mhd", rest.encode(), ElementDataFile=stated, CompressedData="True" if pack else None
        )
        np.testing.assert_array_equal(read_volume(twin).array, ARRAY)
    (tmp_path / "parts" / "s003.raw").unlink()
    with pytest.raises(InputError, match=r"there is no file .*s003\.raw"):
        read_volume(twin)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("../voxels.raw", "outside its own folder"), ("/etc/passwd", "outside its own folder"),
        ("LIST\n../voxels.raw", "outside its own folder"), ("a/../../voxels.raw", "outside its own folder"),
        ("v%99d.raw 1 9 1", "there is no file"), ("v%d.raw 1 4 0", "names 0 files"), ("LIST", "names 0 files"),
        ("v%d.raw 1 999999999 1", "files of voxels"), ("v%s.raw 1 4 1", "there is no file"),
        ("LIST\nvoxels.raw\nvoxels.raw\nvoxels.raw\nvoxels.raw\nvoxels.raw\nvoxels.raw\nvoxels.raw", "remainder"),
    ],
)  # fmt: skip
def test_voxels_that_lie_elsewhere_or_nowhere_are_refused(tmp_path: Path, stated: str, message: str) -> None:
    folder = tmp_path / "scan"
    folder.mkdir()
    for where in (tmp_path, folder):
        (where / "voxels.raw").write_bytes(ARRAY.astype("<i2").tobytes())
    first, _, rest = stated.partition("\n")
    for path in (
        nrrd(folder / "a.nhdr", b"", **{**PLACED, "data_file": stated}),  # type: ignore[arg-type]
        metaimage(folder / "a.mhd", rest.encode(), ElementDataFile=first),
    ):
        with pytest.raises(InputError, match=message):
            read_volume(path)


@pytest.mark.parametrize("letters", ["RAI", "PRS", "ALI"])
def test_letters_of_a_metaimage_that_contradict_its_matrix_are_refused_unless_the_user_says_which(
    tmp_path: Path, letters: str
) -> None:
    agree = metaimage(tmp_path / "agree.mha", AnatomicalOrientation="ASL")
    assert read_volume(agree).notes == ()
    path = metaimage(tmp_path / "a.mha", AnatomicalOrientation=letters)
    with pytest.raises(InputError, match=f"two orientations .* AnatomicalOrientation {letters}") as caught:
        read_volume(path)
    opposite = letters.translate(str.maketrans("LRAPSI", "RLPAIS"))
    assert f"--orientation PIR or --orientation {opposite}" in caught.value.remedy
    for choice in ("PIR", opposite):
        volume = read_volume(path, orientation=choice)
        assert axis_code(volume.geometry.matrix) == choice
        assert volume.geometry.origin_mm == (10, -20, 30)
        assert f"{choice} is taken, as the user says" in volume.notes[0]
    with pytest.raises(InputError, match="two orientations"):
        read_volume(path, orientation="LPS" if opposite != "LPS" else "RAS")


NO_SPACE = {"space_directions": "(0,0.5,0) (0,0,-0.75) (-3,0,0)"}


@pytest.mark.parametrize(
    "fields",
    [
        {"spacings": "0.5 0.75 3"},
        NO_SPACE,
        {**NO_SPACE, "space_dimension": "3"},
        {**NO_SPACE, "space": "scanner-xyz"},
        {**NO_SPACE, "space": "3D-right-handed"},
        {"spacings": "0.5 0.75 3", "space": "left-posterior-superior"},
    ],
)
def test_an_nrrd_without_orientation_is_refused_unless_the_user_says_it(tmp_path: Path, fields: dict[str, str]) -> None:
    path = nrrd(tmp_path / "a.nrrd", **fields)
    for reader in (read_volume, read_labels):
        with pytest.raises(InputError, match="states no orientation") as caught:
            reader(path)
    assert "--orientation" in caught.value.remedy
    volume = read_volume(path, orientation="PIR")
    assert axis_code(volume.geometry.matrix) == "PIR" and volume.geometry.spacing_mm == (0.5, 0.75, 3.0)
    assert "PIR as the user says" in volume.notes[0]


def test_a_metaimage_without_orientation_is_refused_unless_the_user_says_it(tmp_path: Path) -> None:
    path = metaimage(tmp_path / "a.mha", TransformMatrix=None)
    with pytest.raises(InputError, match="states no orientation: its header has no TransformMatrix"):
        read_volume(path)
    assert axis_code(read_volume(path, orientation="PIR").geometry.matrix) == "PIR"
    # Its letters name where an axis comes from.
    letters = metaimage(tmp_path / "b.mha", TransformMatrix=None, AnatomicalOrientation="ASL")
    assert axis_code(read_volume(letters).geometry.matrix) == "PIR"


@pytest.mark.parametrize(
    "path_of", [lambda p: nrrd(p / "a.nrrd"), lambda p: metaimage(p / "a.mha", ElementSpacing=None)]
)
def test_a_spacing_that_is_not_stated_is_never_made_up(tmp_path: Path, path_of: object) -> None:
    path = path_of(tmp_path)  # type: ignore[operator]
    for orientation in (None, "RAS"):
        with pytest.raises(InputError, match="states no voxel spacing"):
            read_volume(path, orientation=orientation)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"spacings": "0.5 0.75 4"}, "two spacings"),
        ({"space_directions": "(0,0.5,0) (0,0.1,-0.75) (-3,0,0)"}, "sheared"),
        ({"space_directions": "(0,0.5,0) (0,0,0) (-3,0,0)"}, "spacing of 0.5 x 0 x 3"),
        ({"space_directions": "(0,0.5,0) (0,nan,-0.75) (-3,0,0)"}, "no numbers"),
        ({"space_directions": "(0,0.5,0) (0,0,-0.75)"}, "2 directions for 3 axes"),
        ({"space_origin": "(1,2)"}, "space origin"),
        ({"sizes": "5 6 5"}, "truncated or damaged"),
        ({"sizes": "5 6 3"}, "truncated or damaged"),
        ({"sizes": "5 6"}, "dimension 3 and the sizes 5 6"),
        ({"sizes": "5 6 -4"}, "truncated or damaged"),
        ({"sizes": None}, "does not state the dimension and the sizes"),
        ({"endian": None}, "byte order"),
        ({"encoding": "zrl"}, "stored as zrl"),
        ({"encoding": "hex"}, "hexadecimal digits"),
        ({"encoding": "text"}, "not all of it numbers of type int16"),
        ({"type": "block"}, "pixels of type block"),
        ({"encoding": "gzip"}, "compression does not check out"),
        ({"dimension": "4", "sizes": "5 6 2 2", "space_directions": None}, "4 dimensions"),
        (
            {
                "dimension": "4",
                "sizes": "3 5 2 4",
                "kinds": "RGB-color domain domain domain",
                "space_directions": "none (1,0,0) (0,1,0) (0,0,1)",
            },
            "RGB",
        ),
        (
            {
                "dimension": "4",
                "sizes": "5 6 2 2",
                "kinds": "domain domain domain list",
                "space_directions": "(1,0,0) (0,1,0) (0,0,1) none",
            },
            "4 dimensions",
        ),
    ],
)
def test_an_nrrd_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, fields: dict[str, str | None], message: str
) -> None:
    placed = {name.replace(" ", "_"): value for name, value in PLACED.items()}
    with pytest.raises(InputError, match=message) as caught:
        read_volume(nrrd(tmp_path / "a.nrrd", **{**placed, **fields}))
    assert "a.nrrd" in caught.value.found


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"TransformMatrix": "0 1 0 0 0.2 -1 -1 0 0"}, "sheared"),
        ({"TransformMatrix": "0 1 0 0 0 -1"}, "TransformMatrix"),
        ({"TransformMatrix": "0 0 0 0 0 0 0 0 0"}, "no length"),
        ({"Offset": "1 2"}, "position of 2 numbers"),
        ({"ElementSpacing": "1 1"}, "2 spacings for 3 dimensions"),
        ({"ElementSpacing": "1 1 x"}, "ElementSpacing"),
        ({"DimSize": "5 6 5"}, "truncated or damaged"),
        ({"DimSize": "5 6 3"}, "truncated or damaged"),
        ({"DimSize": "5 6"}, "NDims 3 and DimSize 5 6"),
        ({"NDims": "4", "DimSize": "5 6 2 2"}, "4 dimensions"),
        ({"ElementNumberOfChannels": "3"}, "RGB"),
        ({"ElementType": "MET_STRING"}, "pixels of type MET_STRING"),
        ({"BinaryData": "False"}, "not all of it numbers of type int16"),
        ({"BinaryData": "False", "CompressedData": "True"}, "packed text"),
        ({"CompressedData": "True"}, "compression does not check out"),
        ({"CompressedData": "yes"}, "CompressedData 'yes', which is neither True nor False"),
        ({"BinaryData": "none"}, "BinaryData 'none'"),
        ({"BinaryDataByteOrderMSB": "big"}, "BinaryDataByteOrderMSB 'big'"),
        ({"ObjectType": "Mesh"}, "object of type Mesh"),
    ],
)
def test_a_metaimage_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, fields: dict[str, str | None], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_volume(metaimage(tmp_path / "a.mha", **fields))
    assert "a.mha" in caught.value.found


@pytest.mark.parametrize("swapped", ["True", "T", "t", "1", "TRUE"])
@pytest.mark.parametrize("field", ["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])
def test_a_metaimage_s_truths_are_read_by_their_first_letter(tmp_path: Path, swapped: str, field: str) -> None:
    data, plain = ARRAY.astype(">i2").tobytes(), swapped.replace("T", "F").replace("t", "f").replace("1", "0")
    path = metaimage(tmp_path / "a.mha", data, **{field: swapped, "CompressedData": plain, "BinaryData": swapped})
    np.testing.assert_array_equal(read_volume(path).array, ARRAY)
    words = " ".join(str(value) for value in ARRAY.ravel()).encode()
    np.testing.assert_array_equal(read_volume(metaimage(path, words, BinaryData=plain)).array, ARRAY)


def test_keys_of_a_nrrd_may_hold_colons_as_its_fields_may_hold_pairs(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", **{**PLACED, "content": "a:=b"})  # type: ignore[arg-type]
    pairs = b"study:id:=1\nstudy:date:=2: 3\nspace:=x\nstudy:id:=1\n"
    path.write_bytes(path.read_bytes().replace(b"key:=value\n", pairs))
    np.testing.assert_array_equal(read_volume(path).array, ARRAY)
    path.write_bytes(path.read_bytes().replace(b"content: a:=b", b"type: a:=b"))
    with pytest.raises(InputError, match="the field 'type' twice"):
        read_volume(path)


@pytest.mark.parametrize("shear", [1e-5, 3e-4])
def test_shear_that_rounding_leaves_is_read_and_written(tmp_path: Path, shear: float) -> None:
    from verdiff.imaging import write_array

    fields = {"space": "LPS", "space_directions": f"(0.5,0,0) ({0.75 * shear},0.75,0) (0,0,3)"}
    volume = read_volume(nrrd(tmp_path / "a.nrrd", **fields))
    for name in ("mask.nii.gz", "mask.nrrd", "mask.mha"):
        write_array((ARRAY > 60).astype(np.uint8), volume, tmp_path / name)
        mask = read_labels(tmp_path / name)
        assert mask.geometry.matches(volume.geometry, tolerance_mm=1e-3)


@pytest.mark.parametrize(
    ("unit", "scale"),
    [("mm", 1.0), ("", 1.0), ("cm", 10.0), ("m", 1000.0), ("Metres", 1000.0), ("um", 1e-3), ("\u00b5m", 1e-3)],
)
def test_a_nrrd_is_read_in_the_unit_of_each_axis(tmp_path: Path, unit: str, scale: float) -> None:
    steps = f"(0,{0.5 / scale!r},0) (0,0,-0.75) ({-3 / scale!r},0,0)"
    units, origin = f'"{unit}" "{unit}" "mm"', f"({10 / scale!r},{-20 / scale!r},30)"
    read = read_volume(
        nrrd(tmp_path / "a.nrrd", **{**PLACED, "space directions": steps, "space origin": origin, "space units": units})
    )
    assert read.geometry.matches(read_volume(nrrd(tmp_path / "b.nrrd", **PLACED)).geometry)
    spacings = f"{0.5 / scale!r} 0.75 {3 / scale!r}"
    told = nrrd(tmp_path / "c.nrrd", spacings=spacings, units=f'"{unit}" "mm" "{unit}"')
    assert read_volume(told, orientation="RAS").geometry.spacing_mm == pytest.approx((0.5, 0.75, 3))


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1.0), ("?", 1.0), ("cm", 10.0), ("um", 1e-3)])
def test_a_metaimage_is_read_in_its_unit(tmp_path: Path, unit: str, scale: float) -> None:
    spacing, offset = (" ".join(repr(value / scale) for value in values) for values in ((0.5, 0.75, 3), (10, -20, 30)))
    path = metaimage(tmp_path / "a.mha", DistanceUnits=unit, ElementSpacing=spacing, Offset=offset)
    assert read_volume(path).geometry.matches(read_volume(metaimage(tmp_path / "b.mha")).geometry)


def test_intensities_of_a_metaimage_are_scaled_as_it_says(tmp_path: Path) -> None:
    scaling = {"ElementToIntensityFunctionSlope": "2", "ElementToIntensityFunctionOffset": "-1024"}
    np.testing.assert_array_equal(read_volume(metaimage(tmp_path / "a.mha", **scaling)).array, ARRAY * 2 - 1024)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"DistanceUnits": "furlong"}, "states its lengths in 'furlong'"),
        ({"HeaderSize": "nan"}, "no place in the file"),
        ({"HeaderSize": "1e30"}, "no place in the file"),
        ({"HeaderSize": "-2"}, "no place in the file"),
        ({"Position": "0 0 0"}, "states two positions"),
        ({"TransformMatrix": "0 2 0 0 0 -2 -2 0 0"}, "direction cosines of length 2, 2, 2"),
        ({"ElementToIntensityFunctionSlope": "0"}, "by the factor 0"),
        ({"ElementToIntensityFunctionOffset": "inf"}, "the summand inf"),
    ],
)
def test_fields_of_a_metaimage_that_make_no_sense_are_refused(tmp_path: Path, fields: dict[str, str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        read_volume(metaimage(tmp_path / "a.mha", **fields))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"space units": '"pixel" "pixel" "pixel"'}, "states its lengths in 'pixel'"),
        ({"byte skip": "-5"}, "skips 0 lines and -5 bytes"),
        ({"line skip": "-1"}, "skips -1 lines"),
    ],
)
def test_fields_of_a_nrrd_that_make_no_sense_are_refused(tmp_path: Path, fields: dict[str, str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        read_volume(nrrd(tmp_path / "a.nrrd", **{**PLACED, **fields}))
