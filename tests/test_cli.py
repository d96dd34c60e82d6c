"""The command line: what it writes, what it says, and its exit code for everything that can be wrong."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import Result

from tests.command_line import verdiff
from tests.imaging.make import save_dicom, textured
from tests.runtime.scans import ct_scan, mr_scan
from tests.runtime.tiny_bundle import write_tiny
from tests.train.toy import write_raw_dataset
from verdiff.bundle import DEFAULT_MODEL, open_bundle
from verdiff.errors import EMPTY_MASK, INTERRUPTED, BundleError, VerificationError
from verdiff.extras import install
from verdiff.imaging import read_labels, read_volume, write_array
from verdiff.imaging.orientation import axis_code
from verdiff.options import ExportOptions

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    *("infer", "train", "distill", "export", "calibrate", "build", "sign", "serve"),
    *("evaluate", "compare", "bench", "info", "models", "doctor"),
)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A sagittal MR stack in a folder of its own, where results are written beside it."""
    folder = tmp_path / "case"
    folder.mkdir()
    volume = mr_scan()
    write_array(volume.array, volume, folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


def infer(scan: Path, bundle: Path, *more: object) -> Result:
    return verdiff("infer", scan, "--model", bundle, "--threads", 1, *more)


def says_three_things(result: Result) -> bool:
    return re.fullmatch(r"found: .+\nexpected: .+\nto do: .+\n", result.stderr, re.DOTALL) is not None


def test_infer_writes_the_mask_and_its_report_beside_the_scan(scan: Path, bundle: Path) -> None:
    result = infer(scan, bundle)
    assert result.exit_code == 0, result.output
    assert {path.name for path in scan.parent.iterdir()} == {"scan.nii.gz", "scan_seg.nii.gz", "scan_seg.json"}
    mask, volume = read_labels(scan.with_name("scan_seg.nii.gz")), read_volume(scan)
    assert mask.array.dtype == np.uint8
    assert set(np.unique(mask.array)) == {0, 1, 2, 7}
    assert np.abs(mask.geometry.corners_mm() - volume.geometry.corners_mm()).max() < 1e-4
    report = json.loads(scan.with_name("scan_seg.json").read_text("utf-8"))
    assert report["outcome"] == "complete"
    assert report["files"] == {"mask": "scan_seg.nii.gz"}
    assert set(report["volumes_ml"]) == {"vertebra", "disc", "canal"}
    assert {"read", "load", "normalise", "prior", "loop", "fuse", "restore", "write", "total"} <= set(
        report["timings_s"]
    )
    assert report["provenance"]["scan"]["name"] == "scan.nii.gz"
    assert str(scan.parent) not in json.dumps(report)
    assert "vertebra" in result.stdout
    assert str(scan.with_name("scan_seg.nii.gz")) in result.stdout


def test_infer_takes_a_name_a_folder_and_the_uncertainty(scan: Path, bundle: Path, tmp_path: Path) -> None:
    named = tmp_path / "mine.nrrd"
    assert infer(scan, bundle, "-o", named, "--uncertainty").exit_code == 0
    assert sorted(p.name for p in tmp_path.glob("mine*")) == ["mine.json", "mine.nrrd", "mine_uncertainty.nrrd"]
    folder = tmp_path / "results"
    folder.mkdir()
    assert infer(scan, bundle, "-o", folder, "--uncertainty").exit_code == 0
    assert sorted(p.name for p in folder.iterdir()) == ["scan_seg.json", "scan_seg.nii.gz", "scan_uncertainty.nii.gz"]
    assert np.array_equal(read_labels(named).array, read_labels(folder / "scan_seg.nii.gz").array)
    assert read_labels(folder / "scan_uncertainty.nii.gz").array.max() > 0


def test_infer_writes_a_preview(scan: Path, bundle: Path) -> None:
    assert infer(scan, bundle, "--preview").exit_code == 0
    assert scan.with_name("scan_preview.png").read_bytes().startswith(b"\x89PNG")


def test_infer_passes_its_options_on(scan: Path, bundle: Path) -> None:
    options = ("--steps", 2, "--samples", 3, "--seed", 8, "--sampler", "dpmpp-2m", "--backend", "openvino")
    assert infer(scan, bundle, *options).exit_code == 0
    provenance = json.loads(scan.with_name("scan_seg.json").read_text("utf-8"))["provenance"]
    sampling = provenance["sampling"]
    assert [sampling[name] for name in ("steps", "samples", "seed", "sampler")] == [2, 3, 8, "dpmpp-2m"]
    assert provenance["backend"]["name"] == "openvino"


def banner_share(preview: Path) -> float:
    """The part of the top row of a preview that has the warnings' red."""
    from PIL import Image

    row = np.asarray(Image.open(preview).convert("RGB"))[0].astype(int)
    return float((np.abs(row - (176, 32, 32)).max(axis=1) < 8).mean())


def test_what_was_forced_stands_last_in_the_report_and_across_the_preview(scan: Path, bundle: Path) -> None:
    assert infer(scan, bundle, "--preview").exit_code == 0
    assert banner_share(scan.with_name("scan_preview.png")) == 0
    shutil.copy(scan.with_name("scan_seg.nii.gz"), scan.with_name("mask.nii.gz"))
    refused = infer(scan.with_name("mask.nii.gz"), bundle)
    assert refused.exit_code == 4 and "it looks like a mask" in refused.stderr
    forced = infer(scan.with_name("mask.nii.gz"), bundle, "--force", "--preview")
    assert forced.stdout.splitlines()[-1].startswith("forced past: it looks like a mask")
    report = json.loads(scan.with_name("mask_seg.json").read_text("utf-8"))
    assert "it looks like a mask" in report["provenance"]["forced"][0]
    assert banner_share(scan.with_name("mask_preview.png")) == 1


def without_orientation(scan: Path) -> Path:
    data = bytearray(gzip.decompress(scan.read_bytes()))
    data[252:256] = bytes(4)
    path = scan.with_name("open.nii.gz")
    path.write_bytes(gzip.compress(bytes(data)))
    return path


def test_a_refusal_names_an_option_only_to_a_command_that_has_it(scan: Path, bundle: Path, tmp_path: Path) -> None:
    path = without_orientation(scan)
    (tmp_path / "scans").mkdir()
    for number in range(6):
        shutil.copy(path, tmp_path / "scans" / f"p{number}.nii.gz")
    for command in (("info", path), ("infer", path, "--model", bundle)):
        assert "to do: say where its voxel axes run: --orientation RAS" in verdiff(*command).stderr
    for command in (
        ("bench", "volume", "--scan", path, "--model", bundle),
        ("export", bundle, "--fp16", "--scans", tmp_path / "scans", "-o", tmp_path / "out.verdiff"),
    ):
        result = verdiff(*command)
        assert result.exit_code != 0 and says_three_things(result), result.output
        assert "--orientation" not in result.stderr and "write the orientation that you know" in result.stderr


def test_the_orientation_of_a_data_set_is_said_once_for_all_of_it(tmp_path: Path) -> None:
    data = write_raw_dataset(tmp_path / "Dataset900_Toy", cases=2)
    code = axis_code(read_volume(data / "imagesTr" / "toy0_0000.nii.gz").geometry.matrix)
    prepare = ("train", "unet", "--prepare", "--data", data)
    assert verdiff(*prepare, "-o", tmp_path / "as-it-was").exit_code == 0
    for path in data.rglob("*.nii.gz"):
        without_orientation(path).replace(path)
    for command in (("data", "check", data), (*prepare, "-o", tmp_path / "cache")):
        refused = verdiff(*command)
        assert refused.exit_code == 9 and "--orientation RAS" in refused.output
        told = verdiff(*command, "--orientation", code)
        assert told.exit_code == 0, told.output
    before, after = (np.load(tmp_path / name / "toy0.npz")["images"] for name in ("as-it-was", "cache"))
    np.testing.assert_array_equal(before, after)


def test_the_orientation_that_the_user_says_is_taken_and_recorded(scan: Path, bundle: Path) -> None:
    path = without_orientation(scan)
    for command in (("info", path), ("infer", path, "--model", bundle), ("evaluate", path, path)):
        result = verdiff(*command, *(("--labels", "a=1") if command[0] == "evaluate" else ()))
        assert result.exit_code == 3 and "states no orientation" in result.stderr and says_three_things(result)
    code = axis_code(read_volume(scan).geometry.matrix)
    told = infer(path, bundle, "--orientation", code.lower(), "--preview")
    assert told.exit_code == 0 and f"{code} as the user says" in told.stdout.splitlines()[-1]
    report = json.loads(path.with_name("open_seg.json").read_text("utf-8"))
    assert f"{code} as the user says" in report["provenance"]["scan"]["notes"][0]
    assert banner_share(path.with_name("open_preview.png")) == 1
    assert infer(scan, bundle).exit_code == 0
    first, second = (read_labels(scan.with_name(f"{name}_seg.nii.gz"), orientation=code) for name in ("scan", "open"))
    np.testing.assert_array_equal(first.array, second.array)
    assert f"{code} as the user says" in verdiff("info", path, "--orientation", code).stdout
    mask = path.with_name("open_seg.nii.gz")
    scored = verdiff("evaluate", mask, mask, "--labels", "vertebra=1", "--no-distances", "--orientation", code)
    assert scored.exit_code == 0, scored.output


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_scan_in_nrrd_or_mha_gives_a_mask_in_its_own_format(scan: Path, bundle: Path, suffix: str) -> None:
    volume = read_volume(scan)
    write_array(volume.array, volume, scan.with_name(f"other{suffix}"))
    assert infer(scan, bundle).exit_code == 0
    assert infer(scan.with_name(f"other{suffix}"), bundle).exit_code == 0
    mask = read_labels(scan.with_name(f"other_seg{suffix}"))
    np.testing.assert_array_equal(mask.array, read_labels(scan.with_name("scan_seg.nii.gz")).array)
    assert mask.geometry.matches(volume.geometry)


def test_an_orientation_that_is_none_is_a_wrong_command_line(scan: Path) -> None:
    result = verdiff("info", scan, "--orientation", "up")
    assert result.exit_code == 2 and "qform" in result.stderr


def test_a_folder_named_by_dots_gives_its_files_the_folders_own_name(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(4):
        save_dicom(tmp_path / f"{index}.dcm", textured((40, 36), index), ImagePositionPatient=[3.0 * index, 0, 0])
    (tmp_path / "inner").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert infer(Path(".."), bundle, "-o", tmp_path / "out").exit_code in (0, EMPTY_MASK)
    assert (tmp_path / "out" / f"{tmp_path.name}_seg.nii.gz").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take names in UTF-8 alone")
def test_a_name_that_is_not_utf8_is_segmented_and_printed(scan: Path, bundle: Path) -> None:
    odd = scan.with_name("caf\udce9.nii.gz")
    scan.rename(odd)
    result = infer(odd, bundle, "--preview")
    assert result.exit_code == 0, result.output
    assert "caf\\udce9_seg.nii.gz" in result.stdout
    assert odd.with_name("caf\udce9_seg.nii.gz").is_file() and odd.with_name("caf\udce9_preview.png").is_file()
    assert verdiff("info", odd).exit_code == 0


def test_infer_prints_the_dice_against_a_reference(scan: Path, bundle: Path) -> None:
    assert infer(scan, bundle).exit_code == 0
    reference = scan.with_name("reference.nii.gz")
    shutil.copy(scan.with_name("scan_seg.nii.gz"), reference)
    result = infer(scan, bundle, "--reference", reference)
    assert "Dice: vertebra 1.0000, disc 1.0000, canal 1.0000" in result.stdout


def test_infer_refuses_a_reference_on_another_grid(scan: Path, bundle: Path, mr_expert: Path) -> None:
    result = infer(scan, bundle, "--reference", mr_expert)
    assert result.exit_code == 3
    assert "not on the scan's grid" in result.stderr
    assert [path.name for path in scan.parent.iterdir()] == ["scan.nii.gz"]


def test_infer_runs_the_real_sample(mr_sample: Path, bundle: Path, tmp_path: Path) -> None:
    assert infer(mr_sample, bundle, "-o", tmp_path).exit_code == 0
    assert read_labels(tmp_path / "mr_t2_sample_seg.nii.gz").geometry.matches(read_volume(mr_sample).geometry, 1e-4)


def test_infer_refuses_the_ct_sample_unless_forced(ct_sample: Path, bundle: Path, tmp_path: Path) -> None:
    result = infer(ct_sample, bundle, "-o", tmp_path)
    assert result.exit_code == 4
    assert "CT scan" in result.stderr
    assert "--force" in result.stderr
    assert list(tmp_path.iterdir()) == []
    forced = infer(ct_sample, bundle, "-o", tmp_path, "--force")
    assert forced.exit_code in (0, EMPTY_MASK)
    report = json.loads((tmp_path / "ct_sample_seg.json").read_text("utf-8"))
    assert any("CT scan" in reason for reason in report["provenance"]["forced"])
    assert "forced past: it is a CT scan" in forced.stdout


def test_an_empty_mask_is_written_and_has_its_own_exit_code(scan: Path, tmp_path: Path) -> None:
    """An image that is grey all over, between the dark and the bright that the tiny model knows."""
    path = write_tiny(tmp_path / "window.verdiff", intensity={"kind": "window", "low": 0, "high": 10_000})
    volume = read_volume(scan)
    write_array((volume.array // 100 + 3_500).astype(np.int16), volume, scan.with_name("grey.nii.gz"))
    result = infer(scan.with_name("grey.nii.gz"), path)
    assert result.exit_code == EMPTY_MASK, result.output
    assert "empty mask" in result.stdout
    assert not read_labels(scan.with_name("grey_seg.nii.gz")).array.any()
    assert json.loads(scan.with_name("grey_seg.json").read_text("utf-8"))["outcome"] == "empty mask"


def test_the_prior_alone_and_a_budget_say_so(scan: Path, bundle: Path) -> None:
    assert "prior only" in infer(scan, bundle, "--prior-only").stdout
    generous = infer(scan, bundle, "--budget-ms", 60_000)
    assert generous.exit_code == 0
    assert infer(scan, bundle, "--budget-ms", 0.001).exit_code == 8


def test_a_film_model_writes_png_masks(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "films.verdiff", modality="XR", view="film", suitability={})
    film = tmp_path / "film.png"
    sitk.WriteImage(sitk.GetImageFromArray((mr_scan(1, 60, 40).array[0] // 8).astype(np.uint8)), str(film))
    assert infer(film, path).exit_code == 0
    assert read_labels(tmp_path / "film_seg.png").array.shape == (1, 60, 40)


# Each builder makes one bad input in a folder and returns the path to give to infer.


def missing(folder: Path) -> Path:
    return folder / "nowhere.nii.gz"


def truncated(folder: Path) -> Path:
    volume = mr_scan(20, 90, 90)
    noise = np.random.default_rng(0).integers(0, 4000, volume.array.shape).astype(np.int16)
    write_array(noise, volume, folder / "scan.nii.gz")
    data = (folder / "scan.nii.gz").read_bytes()
    (folder / "scan.nii.gz").write_bytes(data[: len(data) // 2])
    return folder / "scan.nii.gz"


def not_an_image(folder: Path) -> Path:
    (folder / "scan.nii.gz").write_text("this is a letter, not a scan", "utf-8")
    return folder / "scan.nii.gz"


def empty_dicom_folder(folder: Path) -> Path:
    (folder / "series").mkdir()
    return folder / "series"


def mixed_dicom_folder(folder: Path) -> Path:
    """Two series of three slices each, as a careless export leaves them."""
    (folder / "series").mkdir()
    for series in (1, 2):
        for index in range(3):
            plane = sitk.GetImageFromArray(mr_scan(3).array[index])
            tags = {
                "0008|0060": "MR",
                "0020|000d": "1.2.826.0.1.3680043.8.498.1",
                "0020|000e": f"1.2.826.0.1.3680043.8.498.1.{series}",
                "0020|0032": f"0\\0\\{4 * index}",
                "0020|0037": "1\\0\\0\\0\\1\\0",
                "0020|0013": str(index),
            }
            for tag, value in tags.items():
                plane.SetMetaData(tag, value)
            writer = sitk.ImageFileWriter()
            writer.KeepOriginalImageUIDOn()
            writer.SetFileName(str(folder / "series" / f"{series}_{index}.dcm"))
            writer.Execute(plane)
    return folder / "series"


def image(folder: Path, array: np.ndarray, spacing: tuple[float, ...] | None = None, vector: bool = False) -> Path:
    itk = sitk.GetImageFromArray(array, isVector=vector)
    if spacing is not None:
        itk.SetSpacing(spacing)
    sitk.WriteImage(itk, str(folder / "scan.nrrd"))
    return folder / "scan.nrrd"


def four_dimensional(folder: Path) -> Path:
    return image(folder, np.random.default_rng(0).integers(0, 99, (3, 4, 16, 16)).astype(np.int16))


def rgb(folder: Path) -> Path:
    return image(folder, np.random.default_rng(0).integers(0, 99, (4, 16, 16, 3)).astype(np.uint8), vector=True)


def one_voxel(folder: Path) -> Path:
    return image(folder, np.ones((1, 1, 1), np.int16))


def with_nan(folder: Path) -> Path:
    array = mr_scan().array.astype(np.float32)
    array[1, 2, 3] = np.nan
    return image(folder, array)


def with_infinity(folder: Path) -> Path:
    array = mr_scan().array.astype(np.float32)
    array[1, 2, 3] = np.inf
    return image(folder, array)


def constant(folder: Path) -> Path:
    return image(folder, np.full((4, 16, 16), 7, np.int16))


def absurd_spacing(folder: Path) -> Path:
    return image(folder, mr_scan().array, (1.0, 1.0, 4000.0))


def nifti_header(folder: Path, offset: int, *values: float) -> Path:
    volume = mr_scan()
    write_array(volume.array, volume, folder / "scan.nii")
    data = bytearray((folder / "scan.nii").read_bytes())
    packed = np.asarray(values, "<f4").tobytes()
    data[offset : offset + len(packed)] = packed
    (folder / "scan.nii").write_bytes(bytes(data))
    return folder / "scan.nii"


def zero_spacing(folder: Path) -> Path:
    return nifti_header(folder, 76 + 4, 0.0, 0.0)


def sheared(folder: Path) -> Path:
    path = nifti_header(folder, 280, 1.0, 0.5, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 4.0, 0.0)
    data = bytearray(path.read_bytes())
    data[252:256] = np.array([0, 1], "<i2").tobytes()
    path.write_bytes(bytes(data))
    return path


BAD_SCANS: tuple[Callable[[Path], Path], ...] = (
    missing,
    truncated,
    not_an_image,
    empty_dicom_folder,
    mixed_dicom_folder,
    four_dimensional,
    rgb,
    one_voxel,
    with_nan,
    with_infinity,
    constant,
    absurd_spacing,
    zero_spacing,
    sheared,
)


@pytest.mark.parametrize("build", BAD_SCANS, ids=lambda build: build.__name__)
def test_bad_scans_are_refused_by_name(build: Callable[[Path], Path], bundle: Path, tmp_path: Path) -> None:
    scan, output = build(tmp_path), tmp_path / "out"
    output.mkdir()
    result = infer(scan, bundle, "-o", output)
    assert result.exit_code == 3, result.output
    assert says_three_things(result)
    assert list(output.iterdir()) == []


def axial_stack(folder: Path) -> Path:
    scan = ct_scan()
    write_array((scan.array + 1024).astype(np.int16), scan, folder / "axial.nii.gz")
    return folder / "axial.nii.gz"


def ct_stack(folder: Path) -> Path:
    scan = ct_scan()
    write_array(scan.array, scan, folder / "ct.nii.gz")
    return folder / "ct.nii.gz"


def film(folder: Path) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray((mr_scan(1).array[0] // 8).astype(np.uint8)), str(folder / "film.png"))
    return folder / "film.png"


@pytest.mark.parametrize("build", [axial_stack, ct_stack, film], ids=lambda build: build.__name__)
def test_unsuitable_scans_are_refused_and_can_be_forced(
    build: Callable[[Path], Path], bundle: Path, tmp_path: Path
) -> None:
    scan, output = build(tmp_path), tmp_path / "out"
    output.mkdir()
    result = infer(scan, bundle, "-o", output)
    assert result.exit_code == 4, result.output
    assert says_three_things(result)
    assert list(output.iterdir()) == []
    assert infer(scan, bundle, "-o", output, "--force").exit_code == 0
    report = json.loads(next(output.glob("*_seg.json")).read_text("utf-8"))
    assert report["provenance"]["forced"]


def rewritten(bundle: Path, path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def wrong_hash(files: dict[str, bytes]) -> None:
    files["graphs/prior.fp32.onnx"] += b"\0"


def missing_file(files: dict[str, bytes]) -> None:
    del files["graphs/denoiser.fp32.onnx"]


def newer_schema(files: dict[str, bytes]) -> None:
    manifest = json.loads(files["manifest.json"])
    manifest["schema_version"] = 99
    files["manifest.json"] = json.dumps(manifest).encode()


def escaping_path(files: dict[str, bytes]) -> None:
    files["../escaped.txt"] = b"out of the folder"


@pytest.mark.parametrize("change", [wrong_hash, missing_file, newer_schema, escaping_path], ids=lambda c: c.__name__)
def test_bad_bundles_are_refused_by_name(
    change: Callable[[dict[str, bytes]], None], bundle: Path, scan: Path, tmp_path: Path
) -> None:
    result = infer(scan, rewritten(bundle, tmp_path / "bad.verdiff", change))
    assert result.exit_code == 5, result.output
    assert says_three_things(result)
    assert [path.name for path in scan.parent.iterdir()] == ["scan.nii.gz"]
    assert not (tmp_path / "escaped.txt").exists()


def test_a_zip_that_unpacks_to_more_than_it_holds_is_refused(bundle: Path, scan: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.verdiff"
    with zipfile.ZipFile(bundle) as archive, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name) if name == "manifest.json" else bytes(1 << 20))
    result = infer(scan, bomb)
    assert result.exit_code == 5, result.output
    assert says_three_things(result)


def test_an_unknown_model_names_those_there_are(scan: Path) -> None:
    result = verdiff("infer", scan, "--model", "spine-ultrasound")
    assert result.exit_code == 5
    assert "spine-ultrasound" in result.stderr
    assert "verdiff models" in result.stderr


@pytest.mark.parametrize("output", ["nowhere/mask.nii.gz", "mask.jpeg", "mask"])
def test_outputs_that_cannot_be_written_are_found_before_the_work(
    output: str, scan: Path, bundle: Path, tmp_path: Path
) -> None:
    result = infer(scan, bundle, "-o", tmp_path / output)
    assert result.exit_code == 7
    assert says_three_things(result)


def test_the_scan_itself_is_never_overwritten(scan: Path, bundle: Path) -> None:
    before = scan.read_bytes()
    assert infer(scan, bundle, "-o", scan).exit_code == 7
    assert scan.read_bytes() == before


def test_a_folder_without_permission_is_named(scan: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission bits do not stop the superuser, so the refusal comes from the call that meets them."""
    import tempfile

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    result = infer(scan, bundle)
    assert result.exit_code == 7
    assert "Permission denied" in result.stderr


def test_no_backend_installed_names_the_extra(scan: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from verdiff.runtime import backends

    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    result = infer(scan, bundle)
    assert result.exit_code == 6
    assert install("cpu") in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--device", "cuda"),
        ("--precision", "fp16"),
        ("--backend", "openvino", "--device", "cuda:0"),
    ],
)
def test_a_device_backend_or_precision_that_is_not_there_is_an_error(
    options: tuple[str, ...], scan: Path, bundle: Path
) -> None:
    result = infer(scan, bundle, *options)
    assert result.exit_code == 6, result.output
    assert says_three_things(result)
    assert [path.name for path in scan.parent.iterdir()] == ["scan.nii.gz"]


def test_interrupted_while_writing_the_old_file_stays(
    scan: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert infer(scan, bundle, "--prior-only").exit_code == 0
    before = {path.name: path.read_bytes() for path in scan.parent.iterdir()}
    replace, calls = os.replace, 0

    def interrupted(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        replace(*arguments)

    for at in range(1, 5):
        calls = 0
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", interrupted)
            result = infer(scan, bundle, "--seed", at)
        assert result.exit_code == INTERRUPTED, (at, result.output)
        assert {path.name: path.read_bytes() for path in scan.parent.iterdir()} == before, at


@pytest.mark.parametrize(
    ("command", "extras"),
    [("train", ("train",)), ("export", ("cpu,export",)), ("build", ("tensorrt", "tensorrt-rtx"))],
)
def test_a_command_without_its_packages_names_the_extra(
    command: str, extras: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    more = ("--data", tmp_path, "-o", tmp_path / "out") if command == "train" else ()
    result = verdiff(command, "spine-mr", *more)
    assert result.exit_code == 6
    assert install(*extras) in result.stderr


def test_train_and_export_name_what_is_missing(tmp_path: Path) -> None:
    unknown = verdiff("train", "no-such-model", "--data", tmp_path, "-o", tmp_path / "run")
    assert unknown.exit_code == 2
    assert "no-such-model" in unknown.stderr
    missing = verdiff("export", tmp_path / "norun", "--fp16", "-o", tmp_path / "out.verdiff")
    assert missing.exit_code == 5 and says_three_things(missing)
    (tmp_path / "norun").mkdir()
    norun = verdiff("export", tmp_path / "norun", "-o", tmp_path / "out.verdiff")
    assert norun.exit_code == 9 and "neither a training run nor a bundle" in norun.stderr
    assert not (tmp_path / "out.verdiff").exists()


def test_evaluate_scores_masks(scan: Path, bundle: Path, tmp_path: Path) -> None:
    assert infer(scan, bundle).exit_code == 0
    mask = scan.with_name("scan_seg.nii.gz")
    result = verdiff("evaluate", mask, mask, "--labels", "vertebra=1,disc=2,canal=7", "-o", tmp_path / "scores.csv")
    assert result.exit_code == 0, result.output
    assert "vertebra" in result.stdout
    assert (tmp_path / "scores.csv").is_file()
    assert verdiff("evaluate", mask, mask, "--labels", "nonsense").exit_code == 2


def test_bench_lists_its_cases() -> None:
    result = verdiff("bench", "list")
    assert result.exit_code == 0
    assert "denoiser-step" in result.stdout
    assert verdiff("bench", "no-such-case").exit_code == 2


def test_info_describes_scans_and_bundles(scan: Path, bundle: Path, tmp_path: Path) -> None:
    facts = json.loads(verdiff("info", scan, "--json").stdout)
    assert facts["size_xyz"] == [38, 45, 5]
    assert facts["view"] == "sagittal"
    described = json.loads(verdiff("info", bundle, "--json").stdout)
    assert described["model"] == "tiny-mr 1.2.3"
    assert described["labels"] == {"vertebra": 1, "disc": 2, "canal": 7}
    assert "tiny-mr 1.2.3" in verdiff("info", bundle).stdout
    assert verdiff("info", tmp_path / "nothing").exit_code == 3


def test_models_lists_bundles_and_configurations() -> None:
    rows = json.loads(verdiff("models", "--json").stdout)
    assert {"spine-mr", "verdiff-net-paper"} <= {row["name"] for row in rows if row["kind"] == "configuration"}
    assert "verdiff-net-paper" in verdiff("models").stdout
    described = [row["what"] for row in rows if row["kind"] == "configuration"]
    assert all(described)
    assert not [what for what in described if what.count("(") != what.count(")")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_shows_an_example(command: str) -> None:
    result = verdiff(command, "--help")
    assert result.exit_code == 0
    assert f"Example: verdiff {command}" in result.stdout


def test_export_of_what_is_not_there_names_all_that_it_takes(tmp_path: Path) -> None:
    result = verdiff("export", str(tmp_path / "runs" / "typo"))
    said = " ".join(result.output.split())
    assert result.exit_code == BundleError.exit_code
    assert "no training run, model or bundle" in said and "the folder of a run, a model that ships (spine-mr)" in said


def test_help_names_values_in_one_way_and_says_what_is_taken_by_default() -> None:
    for command in COMMANDS:
        options = verdiff(command, "--help").stdout.partition("Options:")[2]
        assert re.findall(r"^ +-.*<.*>", options, re.MULTILINE) == [], command
    shown = " ".join(verdiff("infer", "--help").stdout.split())
    assert f"A shipped model's name or a bundle; by default {DEFAULT_MODEL}." in shown
    assert "--steps N Denoiser passes a sample; by default the model's." in shown and "--output PATH" in shown


def test_a_margins_report_that_is_no_json_is_a_wrong_command_line(tmp_path: Path) -> None:
    result = verdiff("calibrate", "--data", str(tmp_path), "-o", "a.verdiff", "--report", "margins.html")
    assert result.exit_code == 2 and "'margins.html' is not a name that ends in .json" in " ".join(
        result.output.split()
    )


def test_help_and_version() -> None:
    result = verdiff("--help")
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)
    assert "..." not in result.stdout.partition("Commands:")[2], "a line of the list that is cut off"
    assert re.fullmatch(r"verdiff \d+\.\d+\.\d+\S*\n", verdiff("--version").stdout)


@pytest.mark.parametrize("arguments", [("infer",), ("infer", "a", "--steps", "0"), ("segment",), ("infer", "a", "--x")])
def test_a_wrong_command_line_is_exit_code_two(arguments: tuple[str, ...]) -> None:
    assert verdiff(*arguments).exit_code == 2


def test_the_command_line_imports_what_it_needs_when_it_needs_it() -> None:
    heavy = ("torch", "onnx", "onnxruntime", "openvino", "SimpleITK", "numpy", "scipy", "rich")
    code = f"import sys, verdiff.cli; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_doctor_reports_as_text_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    from verdiff import doctor

    good = [doctor.Check("disk", doctor.GOOD, "80 GB free")]
    bad = [*good, doctor.Check("inference", doctor.BAD, "no working backend", install("cpu"))]
    monkeypatch.setattr(doctor, "examine", lambda **options: good)
    assert verdiff("doctor").exit_code == 0
    monkeypatch.setattr(doctor, "examine", lambda **options: bad)
    result = verdiff("doctor", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["healthy"] is False
    assert install("cpu") in verdiff("doctor").stdout


def test_export_fp16_with_no_other_argument_converts_the_default_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = verdiff("export", "--fp16")
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["spine-mr-fp16.verdiff"]
    bundle = open_bundle(tmp_path / "spine-mr-fp16.verdiff")
    assert all(bundle.has(role, "fp16") for role in ("prior", "denoiser", "pipeline", "pipeline-unrolled"))
    record = bundle.manifest.gates["fp16"]
    assert record["patients"] >= 6
    assert all(value >= 0.999 for value in record["mean_dice"].values())
    assert all(value >= 0.998 for value in record["worst_dice"].values())
    assert f"of {record['patients']} patients" in result.output

    sample = ROOT / "examples" / "mr_t2_sample.nii.gz"
    for precision in ("fp32", "fp16"):
        arguments = ("--model", bundle.path, "--precision", precision, "-o", tmp_path / f"{precision}.nii.gz")
        assert verdiff("infer", sample, *arguments).exit_code == 0
    masks = [read_labels(tmp_path / f"{precision}.nii.gz").array for precision in ("fp32", "fp16")]
    assert masks[0].any() and (masks[0] == masks[1]).mean() > 0.999


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        (["--int8"], ("int8",)),
        (["--int8-ov"], ("int8-ov",)),
        (["--bf16", "--int8-trt"], ("bf16", "int8-trt")),
        (["--int8-trt", "--int8"], ("int8",)),
        (["--int8-trt", "--int8-ov"], ("int8-ov", "int8-trt")),
    ],
)
def test_int8_is_asked_for_in_both_forms_or_in_one(
    flags: list[str], asked: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from verdiff.export import exporting as command

    given = []

    def run(source: str | None, options: ExportOptions, *, say: object) -> Path:
        given.append(options.precisions)
        return tmp_path

    monkeypatch.setattr(command, "run", run)
    assert verdiff("export", *flags).exit_code == 0
    assert given == [asked]


def test_export_says_what_a_bundle_lacks_and_leaves_no_file(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = verdiff("export", bundle, "--fp16")
    assert result.exit_code == VerificationError.exit_code and says_three_things(result)
    assert "--scans" in result.stderr and list(tmp_path.iterdir()) == []
