"""`verdiff infer` of a DICOM series: identifiers in the report where they were asked for, and nowhere else."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest
import SimpleITK as sitk

from tests.command_line import infer_forced
from tests.interop.dicom.series import FRAME, PATIENT, SERIES, STUDY, save_oriented
from tests.runtime.scans import mr_scan
from verdiff.errors import InputError
from verdiff.imaging import read_volume
from verdiff.runtime import Segmenter


def test_a_result_knows_whose_spine_it_is(series: Path, bundle: Path) -> None:
    volume = read_volume(series)
    result = Segmenter.load(bundle, threads=1).segment(volume, force=True)
    assert result.identity is volume.identity
    assert result.identity is not None and result.identity.study == STUDY


def test_a_report_holds_no_identifier_unless_it_is_asked_for(series: Path, bundle: Path, tmp_path: Path) -> None:
    done = infer_forced(series, bundle, "--output", f"{tmp_path}/plain/")
    assert done.exit_code in (0, 14), done.output
    text = (tmp_path / "plain" / "series_seg.json").read_text("utf-8")
    for secret in (STUDY, FRAME, PATIENT["PatientName"], PATIENT["PatientID"], "19700101", "1.2.840.10008"):
        assert secret not in text
    assert json.loads(text)["provenance"]["scan"]["dicom"] == {"modality": "MR", "patient_position": "HFS"}


def test_a_report_that_was_asked_for_them_holds_every_uid_and_no_name(
    series: Path, bundle: Path, tmp_path: Path
) -> None:
    assert infer_forced(series, bundle, "--output", f"{tmp_path}/out/", "--identifiers").exit_code in (0, 14)
    text = (tmp_path / "out" / "series_seg.json").read_text("utf-8")
    found = json.loads(text)["dicom"]
    assert (found["study_instance_uid"], found["series_instance_uid"]) == (STUDY, SERIES)
    assert found["frame_of_reference_uid"] == FRAME
    assert len(found["instances"]) == len(list(series.iterdir()))
    assert "Phantom" not in text and "P-4711" not in text


def test_a_reference_in_another_frame_of_reference_is_refused(series: Path, bundle: Path, tmp_path: Path) -> None:
    scan = mr_scan()
    other = save_oriented(tmp_path / "other", scan.array % 3, scan.geometry, FrameOfReferenceUID=FRAME + ".1")
    done = infer_forced(series, bundle, "--reference", other)
    assert done.exit_code == InputError.exit_code
    assert "different frames of reference" in done.output and not list(tmp_path.glob("*_seg*"))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha"])
def test_masks_and_meshes_carry_the_uids_where_they_were_asked_for(
    series: Path, bundle: Path, tmp_path: Path, suffix: str
) -> None:
    pytest.importorskip("skimage")
    uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, "FrameOfReferenceUID": FRAME}
    for more in (("--identifiers",), ()):
        out = tmp_path / f"out{len(more)}"
        out.mkdir()
        mask = out / f"mask{suffix}"
        words = ("--output", mask, "--uncertainty", "--mesh", "--instances", *more)
        assert infer_forced(series, bundle, *words).exit_code in (0, 14)
        images = [path for path in out.iterdir() if path.name.endswith((".nii.gz", ".nii", ".nrrd", ".mha"))]
        assert len(images) == 3
        for path in images:
            assert told_by(path).items() >= (uids if more else {}).items(), path
            assert more or not uids.keys() & told_by(path).keys()
            # What follows them is still the image.
            assert read_volume(path).array.any() or "instances" not in path.name
        (mesh,) = out.glob("*.vtp")
        assert [uid in mesh_fields(mesh).values() for uid in uids.values()] == [bool(more)] * 3
        assert mesh_fields(mesh)["SPACE"] == "LPS"


def told_by(path: Path) -> dict[str, str]:
    """The texts of an image's header: of NIfTI its comments (nifti1.h), else as ITK has them."""
    if path.name.endswith((".nii", ".nii.gz")):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        at, end, text = 352, int(struct.unpack_from("<f", data, 108)[0]), ""
        while data[348] and at < end:
            size, code = struct.unpack_from("<2i", data, at)
            assert size % 16 == 0 and at + size <= end
            text, at = text + (data[at + 8 : at + size].decode() if code == 6 else ""), at + size
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def mesh_fields(path: Path) -> dict[str, str]:
    """The field data of a VTP file."""
    fields = ElementTree.parse(path).getroot().iterfind(".//FieldData/Array")
    return {each.attrib["Name"]: bytes(map(int, (each.text or "").split())).decode().rstrip("\0") for each in fields}
