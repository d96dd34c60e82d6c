"""``verdiff infer`` with --instances, --stats, --mesh and --lowest: what its function writes, says and refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from tests.anatomy.phantom import write_scan
from tests.runtime.tiny_bundle import LABELS, write_tiny
from verdiff.anatomy import find_vertebrae
from verdiff.batch import AnatomyOptions, Asked
from verdiff.bundle import Label
from verdiff.commands.infer import run
from verdiff.errors import SUCCESS, InputError
from verdiff.imaging import read_labels, read_volume
from verdiff.options import InferOptions
from verdiff.runtime import Segmenter

EVERYTHING = AnatomyOptions(instances=True, stats=True, mesh=True, lowest="L5")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    window = {"kind": "window", "low": 0, "high": 1000}
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.verdiff", intensity=window)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "scan.nii.gz")


def infer(scan: Path, bundle: Path, anatomy: AnatomyOptions, *, dry_run: bool = False) -> tuple[int, list[str]]:
    said: list[str] = []
    options = InferOptions(model=str(bundle), threads=1, prior_only=True, force=True)
    code = run(scan, None, Asked(options, anatomy=anatomy), say=said.append, dry_run=dry_run)
    return code, said


def ids(array: NDArray[np.integer]) -> set[int]:
    return set(np.unique(array).tolist()) - {0}


def test_vertebrae_are_written_beside_the_mask_and_named(scan: Path, bundle: Path) -> None:
    code, said = infer(scan, bundle, EVERYTHING)
    assert code == SUCCESS
    report = json.loads(scan.with_name("scan_vertebrae.json").read_text("utf-8"))
    assert [row["level"] for row in report["vertebrae"]] == ["L5", "L4", "L3", "L2"]
    assert all(0 <= row["confidence"] <= 1 for row in report["vertebrae"])
    instances, mask = (
        read_labels(scan.with_name("scan_instances.nii.gz")),
        read_labels(scan.with_name("scan_seg.nii.gz")),
    )
    assert instances.geometry.matches(mask.geometry)
    assert ids(instances.array) == set(report["structures"].values())
    assert set(mask.array[np.isin(instances.array, [row["id"] for row in report["vertebrae"]])]) == {LABELS[0].id}
    assert {path.stem for path in scan.with_name("scan_meshes").glob("*.stl")} == set(report["structures"])
    assert scan.with_name("scan_mesh.vtp").exists()
    text = "\n".join(said)
    assert "4 vertebrae from the lowest up, levels as told" in text
    assert f"wrote {scan.with_name('scan_vertebrae.csv')}" in text
    run_report = json.loads(scan.with_name("scan_seg.json").read_text("utf-8"))
    assert "anatomy" in run_report["timings_s"]
    assert run_report["files"] == {
        "mask": "scan_seg.nii.gz",
        "instances": "scan_instances.nii.gz",
        "statistics": "scan_vertebrae.json",
        "table": "scan_vertebrae.csv",
        "mesh": "scan_mesh.vtp",
        "meshes": "scan_meshes",
    }


@pytest.mark.parametrize(("modality", "looked_at"), [(None, True), ("MR", True), ("CT", False)])
def test_levels_are_not_read_in_the_picture_of_a_ct_that_was_forced(
    scan: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, modality: str | None, looked_at: bool
) -> None:
    pictures: list[object] = []

    def find(*words: object, image: object, **more: object) -> object:
        pictures.append(image)
        return find_vertebrae(*words, image=image, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("verdiff.anatomy.find_vertebrae", find)
    monkeypatch.setattr(
        "verdiff.batch.scan.read_volume", lambda path, **more: replace(read_volume(path, **more), modality=modality)
    )
    assert infer(scan, bundle, AnatomyOptions(stats=True))[0] == SUCCESS
    assert [picture is not None for picture in pictures] == [looked_at]


def test_only_what_is_asked_for_is_written(scan: Path, bundle: Path) -> None:
    infer(scan, bundle, AnatomyOptions(stats=True))
    names = {path.name for path in scan.parent.glob("scan_*")}
    assert names == {"scan_seg.nii.gz", "scan_seg.json", "scan_vertebrae.json", "scan_vertebrae.csv"}
    assert json.loads(scan.with_name("scan_vertebrae.json").read_text("utf-8"))["levels_from"] == "unknown"


def test_a_model_without_vertebrae_is_refused_before_anything_is_written(scan: Path, tmp_path: Path) -> None:
    other = write_tiny(tmp_path / "liver.verdiff", labels=(Label(1, "liver"), Label(2, "disc"), Label(7, "canal")))
    with pytest.raises(InputError, match="liver"):
        infer(scan, other, AnatomyOptions(instances=True))
    assert {path.name for path in scan.parent.iterdir()} == {"scan.nii.gz", "liver.verdiff"}


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("stored", ["ASL", "LAS"])
def test_a_mesh_of_one_slice_is_refused_before_anything_is_computed(
    scan: Path, bundle: Path, stored: str, dry_run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = sitk.ReadImage(str(scan))
    one = scan.with_name("one.nii.gz")
    sitk.WriteImage(sitk.DICOMOrient(stack[:, :, 6:7], stored), str(one))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was segmented")

    monkeypatch.setattr(Segmenter, "segment", never)
    with pytest.raises(InputError, match="a mesh of a scan of one slice"):
        infer(one, bundle, AnatomyOptions(mesh=True), dry_run=dry_run)


def test_a_level_without_anything_to_name_is_refused() -> None:
    with pytest.raises(InputError, match="--lowest L5"):
        Asked(anatomy=AnatomyOptions(lowest="L5"))
