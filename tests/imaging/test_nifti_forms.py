"""Two forms of a NIfTI orientation: taken where they agree, named where they contradict, never chosen in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.imaging.make import directions, rotation, save_dicom, save_nifti, textured
from verdiff.errors import InputError
from verdiff.imaging import acquisition_view, read_labels, read_volume
from verdiff.imaging.orientation import axis_code, code_matrix, parse_orientation

ARRAY = textured((4, 6, 5))
SPACING = (0.5, 0.75, 3.0)
QFORM = {"quaternion": (0.0, 0.0, 0.0), "qoffset": (7.0, -8.0, 9.0)}
RAS = (0.5, 0, 0, 7, 0, 0.75, 0, -8, 0, 0, 3.0, 9)
TURNED = (0.5, 0, 0, 7, 0, -0.75, 0, -8, 0, 0, -3.0, 9)
MIRRORED = (-0.5, 0, 0, 7, 0, 0.75, 0, -8, 0, 0, 3.0, 9)
SHIFTED = (0.5, 0, 0, 7, 0, 0.75, 0, -8, 0, 0, 3.0, 14)
TURN = rotation((0.04, 0.0, 0.0)) * (0.5, 0.75, 3.0)
TILTED = tuple(np.column_stack([TURN, (7, -8, 9)]).ravel())


@settings(max_examples=40, deadline=None)
@given(directions(), st.tuples(*[st.floats(-300, 300)] * 3))
def test_forms_that_agree_are_read_as_itk_reads_them(
    tmp_path_factory: pytest.TempPathFactory, direction: tuple[float, ...], origin: tuple[float, float, float]
) -> None:
    image = sitk.GetImageFromArray(ARRAY)
    image.SetSpacing(SPACING)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    path = tmp_path_factory.mktemp("forms") / "a.nii"
    sitk.WriteImage(image, str(path))
    volume, again = read_volume(path), sitk.ReadImage(str(path))
    assert volume.notes == ()
    np.testing.assert_allclose(volume.geometry.direction, again.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(volume.geometry.origin_mm, again.GetOrigin(), atol=1e-6)
    assert volume.geometry.spacing_mm == again.GetSpacing()


@pytest.mark.parametrize("srow", [TURNED, MIRRORED, SHIFTED, TILTED])
@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1), (1, 4)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_forms_that_contradict_each_other_are_both_named_and_the_user_chooses(
    tmp_path: Path, srow: tuple[float, ...], codes: tuple[int, int], order: str
) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", ARRAY, order, srow=srow, codes=codes, **QFORM)
    with pytest.raises(InputError, match="two orientations that contradict") as caught:
        read_volume(path)
    assert f"qform (code {codes[0]})" in caught.value.found and f"sform (code {codes[1]})" in caught.value.found
    assert "--orientation qform or --orientation sform" in caught.value.remedy
    by_qform, by_sform = (read_volume(path, orientation=form) for form in ("qform", "sform"))
    only_q = read_volume(save_nifti(tmp_path / "q.nii", ARRAY, order, codes=(1, 0), **QFORM))
    only_s = read_volume(save_nifti(tmp_path / "s.nii", ARRAY, order, codes=(0, 1), srow=srow))
    assert by_qform.geometry == only_q.geometry and by_sform.geometry == only_s.geometry
    for volume, form in ((by_qform, "qform"), (by_sform, "sform")):
        assert f"the {form} is taken, as the user says" in volume.notes[0]
    assert read_labels(path, orientation="sform").geometry == by_sform.geometry


def test_letters_choose_the_form_that_runs_so_and_never_overrule(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", ARRAY, srow=TURNED, **QFORM)
    assert axis_code(read_volume(path, orientation="RPI").geometry.matrix) == "RPI"
    assert axis_code(read_volume(path, orientation="ras").geometry.matrix) == "RAS"
    with pytest.raises(InputError, match="contradict each other"):
        read_volume(path, orientation="LAS")
    sound = save_nifti(tmp_path / "b.nii", ARRAY, srow=RAS, **QFORM)
    assert read_volume(sound, orientation="RAS").notes == ()
    with pytest.raises(InputError, match=r"orientation LPS for .* which states RAS"):
        read_volume(sound, orientation="LPS")


def test_a_header_that_states_no_orientation_is_refused_unless_the_user_says_it(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", ARRAY, codes=(0, 0))
    for reader in (read_volume, read_labels):
        with pytest.raises(InputError, match="states no orientation: qform_code and sform_code are 0") as caught:
            reader(path)
    assert "--orientation" in caught.value.remedy
    for form in ("qform", "sform"):
        with pytest.raises(InputError, match="states no orientation"):
            read_volume(path, orientation=form)
    volume = read_volume(path, orientation="PIR")
    assert axis_code(volume.geometry.matrix) == "PIR" and volume.geometry.spacing_mm == SPACING
    assert "PIR as the user says" in volume.notes[0]
    assert acquisition_view(volume.geometry) == "sagittal"


@pytest.mark.parametrize("pixdim", [(0.8, 0.8, 0.8), (0.5, 0.75, 3.0)])
def test_one_plane_that_states_no_orientation_is_a_film_and_says_so(
    tmp_path: Path, pixdim: tuple[float, float, float]
) -> None:
    path = save_nifti(tmp_path / "a.nii", textured((1, 6, 5)), codes=(0, 0), pixdim=(1, *pixdim, 0, 0, 0, 0))
    plane = read_volume(path)
    assert acquisition_view(plane.geometry) == "film" and "taken as a film" in plane.notes[0]
    assert acquisition_view(read_volume(path, orientation="PIR").geometry) == "sagittal"


@pytest.mark.parametrize("text", ["qform", "SFORM", "ras", "PIR", None])
def test_a_choice_is_read_in_any_case(text: str | None) -> None:
    assert parse_orientation(text) in ("qform", "sform", "RAS", "PIR", None)


@pytest.mark.parametrize("text", ["", "R", "RA", "RAX", "RLS", "RASP", "form", "RRR"])
def test_a_choice_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="the orientation"):
        read_volume(save_nifti(tmp_path / "a.nii", ARRAY), orientation=text)


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR", "SAL", "IRA"])
def test_a_code_is_that_of_the_axes_it_makes(code: str) -> None:
    assert axis_code(code_matrix(code)) == code


@pytest.mark.parametrize("shear", [1e-5, 1e-4, 3e-4])
@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2), (2, 0)])
@pytest.mark.parametrize("codes", [(0, 1), (1, 1), (2, 1), (1, 4)])
def test_shear_that_rounding_leaves_is_read_whatever_the_codes(
    tmp_path: Path, shear: float, axes: tuple[int, int], codes: tuple[int, int]
) -> None:
    rows = np.array(RAS, dtype=float).reshape(3, 4)
    rows[axes[0], axes[1]] += shear * SPACING[axes[1]]
    volume = read_volume(save_nifti(tmp_path / "a.nii", ARRAY, srow=tuple(rows.ravel()), codes=codes, **QFORM))
    stated = rows[:, :3] @ [4, 5, 3] + rows[:, 3]
    np.testing.assert_allclose(volume.geometry.index_to_mm([4, 5, 3]), stated * [-1, -1, 1], atol=1e-4)


@pytest.mark.parametrize("shear", [0.002, 0.05, 0.5])
@pytest.mark.parametrize("codes", [(0, 1), (1, 1)])
def test_shear_that_moves_structures_is_refused_with_its_angle(
    tmp_path: Path, shear: float, codes: tuple[int, int]
) -> None:
    rows = np.array(RAS, dtype=float).reshape(3, 4)
    rows[0, 1] += shear * SPACING[1]
    path = save_nifti(tmp_path / "a.nii", ARRAY, srow=tuple(rows.ravel()), codes=codes, **QFORM)
    with pytest.raises(InputError, match=rf"sheared.*{np.degrees(np.arctan(shear)):.2f} degrees"):
        read_volume(path)
    if codes[0]:
        assert axis_code(read_volume(path, orientation="qform").geometry.matrix) == "RAS"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quaternion": (0.9, 0.9, 0.0), "codes": (1, 0)}, "qform with values that are no numbers"),
        ({"quaternion": (np.nan, 0, 0), "codes": (1, 0)}, "qform with values that are no numbers"),
        ({"qoffset": (np.inf, 0, 0), "codes": (1, 0)}, "qform with values that are no numbers"),
        ({"srow": (np.nan,) * 12, "codes": (0, 1)}, "sform with values that are no numbers"),
        ({"srow": (*RAS[:3], np.inf, *RAS[4:]), "codes": (0, 1)}, "sform with values that are no numbers"),
        ({"srow": tuple(2 * v for v in RAS), "codes": (0, 1)}, "two spacings"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_volume(save_nifti(tmp_path / "a.nii", ARRAY, **fields))


def test_the_spacing_of_the_sform_is_taken_if_the_user_says_so(tmp_path: Path) -> None:
    doubled = tuple(2 * v for v in RAS)
    path = save_nifti(tmp_path / "a.nii", ARRAY, srow=doubled, codes=(0, 1))
    volume = read_volume(path, orientation="sform")
    assert volume.geometry.spacing_mm == (1.0, 1.5, 6.0) and "pixdim says otherwise" in volume.notes[-1]


def test_a_plane_of_a_patient_without_a_thickness_says_what_is_taken(tmp_path: Path) -> None:
    plane = save_nifti(tmp_path / "a.nii", textured((1, 6, 5)), dim=(2, 5, 6, 1, 1, 1, 1, 1), codes=(0, 1))
    slice_ = save_dicom(tmp_path / "a.dcm", textured((6, 5)), SliceThickness=None)
    for volume in (read_volume(plane), read_volume(slice_)):
        assert volume.geometry.spacing_mm[2] == pytest.approx(0.6124, abs=1e-4)
        assert volume.notes == ("it states no slice thickness: 0.6124 mm is taken, which keeps its voxels near a cube",)
    assert read_volume(save_dicom(tmp_path / "b.dcm", textured((6, 5)))).notes == ()
