"""Which scans of a folder the gate is shown: every format that is read, no mask, one file a patient, none twice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.runtime.tiny_bundle import Maps, NumpyBackend, tiny_manifest
from verdiff.bundle import Manifest
from verdiff.errors import DataError, InputError, UnsuitableScanError
from verdiff.export.slices import SLICES_A_PATIENT, Chosen, scans_in, slices_of_scans
from verdiff.imaging import read_volume
from verdiff.runtime import Segmenter
from verdiff.runtime.host_executor import HostExecutor
from verdiff.runtime.loaded import LoadedModel

CASES = tuple(f"case{index}" for index in range(8))


def scan(seed: int) -> sitk.Image:
    """A sagittal volume of noise, as a scan has it: many values, none negative."""
    array = np.random.default_rng(seed).integers(0, 900, (5, 40, 36)).astype(np.int16)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 3.0))
    image.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
    return image


def mask() -> sitk.Image:
    image = scan(0)
    labels = sitk.GetImageFromArray((sitk.GetArrayFromImage(image) % 3).astype(np.uint8))
    labels.CopyInformation(image)
    return labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight scans as nnU-Net names them."""
    made = tmp_path / "scans"
    made.mkdir()
    for seed, name in enumerate(CASES):
        sitk.WriteImage(scan(seed), made / f"{name}_0000.nii.gz")
    return made


def model(*aside: str) -> Manifest:
    """A model whose training put these cases aside."""
    return replace(
        tiny_manifest(),
        modality="MR",
        view="sagittal",
        spacing_mm=1.0,
        multiple=4,
        training={"validation_cases": list(aside)},
    )


def choose(folder: Path, *aside: str, said: list[str] | None = None) -> Chosen:
    return slices_of_scans(folder, model(*aside), ([] if said is None else said).append)


class SeeingBackend(NumpyBackend):
    """Keeps what the prior is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Maps] = []

    def prior(self, image: Maps) -> tuple[Maps, tuple[Maps, ...]]:
        self.seen.append(image.copy())
        return super().prior(image)


def names(patients: list) -> list[str]:
    return [patient.name for patient in patients]


def test_masks_beside_their_scans_are_no_scans(folder: Path) -> None:
    for name in CASES:
        for ending in ("_seg.nii.gz", "_SEG.nrrd", "_seg-vert_msk.nii.gz", "_uncertainty.nii.gz", "_instances.nii.gz"):
            sitk.WriteImage(mask(), folder / f"{name}{ending}")
        (folder / f"{name}_preview.png").write_bytes(b"")
        (folder / f"{name}_seg.json").write_text("{}")
    assert {case: path.name for case, path in scans_in(folder).items()} == {c: f"{c}_0000.nii.gz" for c in CASES}


def test_two_files_of_one_case_are_refused(folder: Path) -> None:
    sitk.WriteImage(scan(90), folder / "case3.nrrd")
    with pytest.raises(DataError, match=r"case3\.nrrd and case3_0000\.nii\.gz in .* two files of one case|"
                       r"case3_0000\.nii\.gz and case3\.nrrd in .* two files of one case"):  # fmt: skip
        scans_in(folder)


def test_a_second_channel_is_a_second_file_of_its_case(folder: Path) -> None:
    sitk.WriteImage(scan(90), folder / "case3_0001.nii.gz")
    with pytest.raises(DataError, match=r"case3_0000\.nii\.gz and case3_0001\.nii\.gz"):
        scans_in(folder)


def test_scans_that_are_numbered_from_0000_on_are_as_many_cases(tmp_path: Path) -> None:
    for seed in range(3):
        sitk.WriteImage(scan(seed), tmp_path / f"scan_{seed:04d}.nii.gz")
    assert len(scans_in(tmp_path)) == 3


def test_a_folder_of_masks_is_not_judged_on(folder: Path) -> None:
    for name in CASES:
        sitk.WriteImage(mask(), folder / f"{name}_0000.nii.gz")
    with pytest.raises(InputError, match="3 different values in 3 slices, as a mask has"):
        choose(folder)


def test_a_folder_without_scans_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no scans in"):
        scans_in(tmp_path)
    sitk.WriteImage(mask(), tmp_path / "a_seg.nii.gz")
    with pytest.raises(DataError, match=r"no scans in .* a_seg\.nii\.gz, which is called as a mask is"):
        scans_in(tmp_path)


def test_one_scan_under_several_names_is_one_patient(folder: Path) -> None:
    for name in CASES[1:]:
        shutil.copy(folder / "case0_0000.nii.gz", folder / f"{name}_0000.nii.gz")
    with pytest.raises(DataError, match=r"case0_0000\.nii\.gz and case1_0000\.nii\.gz in .* have the same pixels"):
        choose(folder)


def test_a_copy_in_another_format_is_a_copy(folder: Path) -> None:
    (folder / "case1_0000.nii.gz").unlink()
    sitk.WriteImage(sitk.Cast(scan(0), sitk.sitkFloat32), folder / "case1.nrrd")
    with pytest.raises(DataError, match="have the same pixels"):
        choose(folder)


def test_films_are_not_shown_to_a_model_of_mr(tmp_path: Path) -> None:
    for seed in range(6):
        array = np.random.default_rng(seed).integers(0, 256, (40, 36)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(array), tmp_path / f"film{seed}.png")
    with pytest.raises(UnsuitableScanError, match=r"film0\.png does not look like .* film \(X-ray\)"):
        choose(tmp_path)


def test_what_infer_reads_the_gate_reads(folder: Path) -> None:
    names_of = {"a.nii": scan(20), "b.nhdr": scan(21), "c.mhd": scan(22), "d.mha": scan(23)}
    for name, image in names_of.items():
        sitk.WriteImage(image, folder / name)
    series = folder / "patient e"
    series.mkdir()
    write_series(series, scan(24))
    (folder / "notes").mkdir()
    assert set(scans_in(folder)) == {*CASES, "a", "b", "c", "d", "patient e"}
    chosen = choose(folder, "b", "patient e")
    assert names(chosen.judged)[:2] == ["b", "patient e"]
    assert chosen.judged[1].image.shape == (SLICES_A_PATIENT, 1, 40, 36)


def write_series(folder: Path, volume: sitk.Image) -> None:
    array = sitk.GetArrayFromImage(volume)
    for index, plane in enumerate(array):
        image = sitk.GetImageFromArray(plane[None])
        image.SetSpacing(volume.GetSpacing())
        position = volume.TransformIndexToPhysicalPoint((0, 0, index))
        direction = np.array(volume.GetDirection()).reshape(3, 3)
        tags = {
            "0008|0060": "MR",
            "0020|000d": "1.2.4",
            "0020|000e": "1.2.3",
            "0020|0052": "1.2.5",
            "0020|0032": "\\".join(map(str, position)),
            "0020|0037": "\\".join(map(str, (*direction[:, 0], *direction[:, 1]))),
            "0018|0050": "3",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{index}.dcm"))
        writer.Execute(image)


def test_validation_cases_are_judged_and_topped_up_to_six_with_others_by_name(folder: Path) -> None:
    said: list[str] = []
    chosen = choose(folder, "case4", "case1", "elsewhere", said=said)
    assert names(chosen.judged) == ["case4", "case1", "case0", "case2", "case3", "case5"]
    assert names(chosen.calibration) == ["case6", "case7"]
    assert chosen.seen == 4 and said[1].endswith("case0, case2, case3, case5: not among the cases it put aside")
    assert any("may have been trained on case0, case2, case3, case5" in line for line in said)
    assert chosen.judged[0].image.shape == (SLICES_A_PATIENT, 1, 40, 36)
    assert chosen.judged[0].image.dtype == np.float32


def test_enough_validation_cases_are_judged_alone(folder: Path) -> None:
    said: list[str] = []
    chosen = choose(folder, *CASES[1:8], said=said)
    assert names(chosen.judged) == list(CASES[1:8]) and names(chosen.calibration) == ["case0"]
    assert chosen.seen == 0 and len(said) == 1


def test_the_gate_is_shown_what_the_runtime_shows_the_networks_of_a_scan_with_dark_margins(folder: Path) -> None:
    plain = choose(folder, "case0").judged[0].image
    narrow = sitk.GetArrayFromImage(scan(0))
    wide = sitk.GetImageFromArray(np.pad(narrow, [(2, 4), (10, 7), (9, 6)]))
    wide.SetSpacing(scan(0).GetSpacing())
    wide.SetDirection(scan(0).GetDirection())
    sitk.WriteImage(wide, folder / "case0_0000.nii.gz")
    shown = choose(folder, "case0").judged[0].image
    np.testing.assert_array_equal(shown, plain)
    backend = SeeingBackend()
    executor = HostExecutor(backend)
    segmenter = Segmenter(LoadedModel(model(), executor, True, {"id": "tiny", "version": "1"}))
    segmenter.segment(read_volume(folder / "case0_0000.nii.gz"), force=True, prior_only=True)
    seen = np.concatenate(backend.seen)
    assert all(any(np.array_equal(plane, each) for each in seen) for plane in shown)
