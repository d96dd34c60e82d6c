"""The Slicer module in a MRML scene without a window: a volume out, named and coloured segments back."""

from __future__ import annotations

import stat
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.anatomy.phantom import LABELS, spine
from verdiff.anatomy import find_vertebrae
from verdiff.anatomy.files import levels_of
from verdiff.imaging import Volume, read_volume, write_array
from verdiff.imaging.terms import named_structures

pytest.importorskip("slicer_core", reason="MRML without Slicer: pip install slicer-core")
import slicer

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "slicer" / "VerdiffSegmenter"))

from VerdiffSegmenterLib import job, scene  # noqa: E402
from VerdiffSegmenterLib.call import CallError, Settings  # noqa: E402


@pytest.fixture
def mrml() -> Any:
    made = slicer.vtkMRMLScene()
    yield made
    made.Clear(1)


@pytest.fixture
def scan(tmp_path: Path) -> tuple[Volume, Path]:
    made = spine(3, slices=9)
    volume = Volume(np.where(made.labels > 0, 500, 20).astype(np.int16), made.geometry)
    write_array(volume.array, volume, tmp_path / "scan.nrrd")
    return volume, tmp_path / "scan.nrrd"


def loaded(mrml: Any, path: Path) -> Any:
    node = mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    return node


def stand_in(folder: Path, mask: Path, report: str) -> str:
    """A program that leaves ``mask`` where it is told to, as ``scan_instances.seg.nrrd``, and prints ``report``."""
    path = folder / "verdiff"
    body = f"""
        import pathlib, shutil, sys
        out = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
        assert pathlib.Path(sys.argv[2]).exists()
        shutil.copy({str(mask)!r}, out.with_name("scan_instances.seg.nrrd"))
        print({report!r})
    """
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(body)}", "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def finished(started: job.Job, segmentation: Any) -> Any:
    deadline = time.monotonic() + 60
    while started.running and time.monotonic() < deadline:
        time.sleep(0.01)
    return started.finish(segmentation)


def test_a_volume_of_the_scene_is_what_verdiff_reads(mrml: Any, scan: tuple[Volume, Path], tmp_path: Path) -> None:
    volume, path = scan
    scene.write_volume(loaded(mrml, path), tmp_path / "out.nrrd")
    read = read_volume(tmp_path / "out.nrrd")
    assert read.geometry.matches(volume.geometry) and np.array_equal(read.array, volume.array)


def test_a_volume_without_voxels_is_refused(mrml: Any, tmp_path: Path) -> None:
    with pytest.raises(CallError, match="has no voxels"):
        scene.write_volume(mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "none"), tmp_path / "out.nrrd")


def test_a_job_brings_each_vertebra_with_its_name_colour_and_term(
    mrml: Any, scan: tuple[Volume, Path], tmp_path: Path
) -> None:
    volume, path = scan
    found = find_vertebrae(spine(3, slices=9).labels, volume.geometry, LABELS, lowest="L5")
    described = {each.name: each for each in named_structures(found.structures)}
    mask = tmp_path / "mask.seg.nrrd"
    write_array(found.instances, volume, mask, structures=tuple(described.values()))
    report = (
        '{"outcome": "complete", "files": {"instances": "scan_instances.seg.nrrd"}, "volumes_ml": {"vertebra": 30.0}, '
        '"provenance": {"levels": {"levels_from": "told", "level_probability": null, "levels": {"1": "L5"}}, '
        '"warnings": [], "forced": ["a reason"]}}'
    )
    node = loaded(mrml, path)
    transform = mrml.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    node.SetAndObserveTransformNodeID(transform.GetID())
    segmentation = mrml.AddNewNodeByClass("vtkMRMLSegmentationNode", "Spine")
    got = finished(job.Job(stand_in(tmp_path, mask, report), node, Settings(lowest="L5"), {}), segmentation)
    assert job.lines_of(got) == ["vertebra: 30.0 ml", "levels: told (1 is L5)", "forced past: a reason"]
    segments = segmentation.GetSegmentation()
    names = [segments.GetNthSegment(index).GetName() for index in range(segments.GetNumberOfSegments())]
    assert set(names) == set(described) and {"L5", "L4", "L3", "disc-below-L5", "canal"} <= set(names)
    fifth = segments.GetNthSegment(names.index("L5"))
    assert [round(255 * value) for value in fifth.GetColor()] == list(described["L5"].colour)
    entry = fifth.GetTerminology() if hasattr(fifth, "GetTerminology") else ""
    assert "49668003" in (entry or _tag(fifth))
    assert segmentation.GetTransformNodeID() == transform.GetID()
    assert '"complete"' in segmentation.GetAttribute(scene.REPORT)


def _tag(segment: Any) -> str:
    import vtk

    found = vtk.mutable("")
    segment.GetTag("TerminologyEntry", found)
    return str(found)


def test_a_job_that_fails_or_is_cancelled_leaves_the_scene_as_it_was(
    mrml: Any, scan: tuple[Volume, Path], tmp_path: Path
) -> None:
    segmentation = mrml.AddNewNodeByClass("vtkMRMLSegmentationNode", "Spine")
    made = spine(3, slices=9)
    named = {"mine": 1}
    write_array(made.labels, scan[0], tmp_path / "mine.seg.nrrd", structures=named_structures(named))
    assert scene.read_segmentation(tmp_path / "mine.seg.nrrd", segmentation) == ["mine"]
    node = loaded(mrml, scan[1])
    failing = tmp_path / "verdiff"
    failing.write_text(f"#!{sys.executable}\nimport sys; sys.exit('found')", "utf-8")
    failing.chmod(0o755)
    with pytest.raises(CallError, match="found"):
        finished(job.Job(str(failing), node, Settings(), {}), segmentation)
    failing.write_text(f"#!{sys.executable}\nimport time; time.sleep(600)", "utf-8")
    started = job.Job(str(failing), node, Settings(), {})
    started.cancel()
    assert started.finish(segmentation) is None
    assert segmentation.GetSegmentation().GetNthSegment(0).GetName() == "mine"


@pytest.mark.parametrize("content", [None, b"", b"hello"])
def test_a_file_that_does_not_read_leaves_the_segments_that_are_there(
    mrml: Any, scan: tuple[Volume, Path], tmp_path: Path, content: bytes | None
) -> None:
    segmentation = mrml.AddNewNodeByClass("vtkMRMLSegmentationNode", "Spine")
    mine, other = tmp_path / "mine.seg.nrrd", tmp_path / "other.seg.nrrd"
    write_array(spine(3, slices=9).labels, scan[0], mine, structures=named_structures({"mine": 1}))
    scene.read_segmentation(mine, segmentation)
    if content is not None:
        other.write_bytes(content)
    with pytest.raises(CallError, match=r"no segmentation could be read from other\.seg\.nrrd"):
        scene.read_segmentation(other, segmentation)
    assert segmentation.GetSegmentation().GetNthSegment(0).GetName() == "mine"
    assert scene.read_segmentation(mine, segmentation) == ["mine"]


def test_the_levels_of_a_report_are_those_of_the_spine() -> None:
    made = spine(3, slices=9)
    found = find_vertebrae(made.labels, made.geometry, LABELS)
    said = levels_of(found)
    report = {"outcome": "complete", "volumes_ml": {}, "provenance": {"levels": said, "warnings": [], "forced": []}}
    assert job.lines_of(report) == ["levels: unknown; name the lowest one if you know it"]
