"""Many scans known in advance: ways of sharing the threads, the order of the scans, and masks that do not differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runtime.scans import ct_scan, mr_scan
from tests.runtime.tiny_bundle import tiny_manifest
from verdiff.benchmarks.cases import Options, throughput
from verdiff.benchmarks.cases.throughput import SizedScan, Way, jobs_of, segment_all, ways_of
from verdiff.errors import InputError
from verdiff.imaging import read_labels, write_array
from verdiff.runtime import Segmenter

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture
def scans(tmp_path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, scan in (("small", mr_scan(3)), ("large", mr_scan(6)), ("wide", mr_scan(3, 45, 90)), ("ct", ct_scan())):
        write_array(scan.array, scan, folder / f"{name}.nii.gz")
    (folder / "notes.txt").write_text("no scan", "utf-8")
    return folder


@pytest.mark.parametrize(
    ("threads", "ways"),
    [(1, [(1, 1)]), (2, [(1, 2), (2, 1)]), (8, [(1, 8), (2, 4), (4, 2), (8, 1)]), (3, [(1, 3), (2, 1), (3, 1)])],
)
def test_threads_are_shared_out_from_one_segmenter_to_one_a_thread(threads, ways):
    assert [(way.segmenters, way.threads) for way in ways_of(threads)] == ways


def test_the_scan_with_most_pixels_goes_first_and_what_the_model_refuses_is_left_out(scans):
    jobs, left_out = jobs_of(Options(scan=scans), tiny_manifest(), most_workers=2)
    assert [job.scan.name for job in jobs] == ["wide.nii.gz", "large.nii.gz", "small.nii.gz"]
    assert [job.slices for job in jobs] == [3, 6, 3]
    assert set(left_out) == {"ct.nii.gz"}


def test_one_scan_is_taken_several_times_for_every_worker(scans):
    jobs, _ = jobs_of(Options(scan=scans / "small.nii.gz"), tiny_manifest(), most_workers=2)
    assert len(jobs) == 2 * throughput.SCANS_A_WORKER


def test_a_fold_s_validation_scans_are_taken(scans, tmp_path):
    images = tmp_path / "imagesTr"
    images.mkdir()
    (images / "a_0000.nii.gz").write_bytes((scans / "small.nii.gz").read_bytes())
    (images / "b_0000.nii.gz").write_bytes((scans / "large.nii.gz").read_bytes())
    (tmp_path / "splits_final.json").write_text('[{"train": ["a"], "val": ["b"]}]', "utf-8")
    jobs, _ = jobs_of(Options(data=tmp_path), tiny_manifest(), most_workers=1)
    assert [job.scan.name for job in jobs] == ["b_0000.nii.gz"]


def test_no_scans_or_none_that_fits_is_refused(scans):
    with pytest.raises(InputError, match="no scans"):
        jobs_of(Options(), tiny_manifest(), most_workers=1)
    with pytest.raises(InputError, match=r"ct\.nii\.gz"):
        jobs_of(Options(scan=scans / "ct.nii.gz"), tiny_manifest(), most_workers=1)


def test_several_segmenters_write_every_mask_once_and_as_one_would(bundle, scans, tmp_path):
    jobs = [SizedScan(scans / f"{name}.nii.gz", 0, 0) for name in ("small", "large", "wide")]
    written = []
    for count in (1, 2):
        out = tmp_path / str(count)
        out.mkdir()
        segment_all([Segmenter.load(bundle, threads=1) for _ in range(count)], jobs, out)
        assert sorted(path.name for path in out.iterdir()) == ["0.nii.gz", "1.nii.gz", "2.nii.gz"]
        written.append([read_labels(out / f"{number}.nii.gz").array for number in range(3)])
    assert all(np.array_equal(*pair) for pair in zip(*written, strict=True))
    assert len({array.shape for array in written[0]}) == 3


def test_an_error_in_one_worker_ends_the_run(bundle, tmp_path):
    jobs = [SizedScan(tmp_path / "none.nii.gz", 0, 0)] * 2
    with pytest.raises(InputError):
        segment_all([Segmenter.load(bundle, threads=1) for _ in range(2)], jobs, tmp_path)


def test_the_case_says_scans_and_slices_a_second_of_each_way(bundle, scans):
    outcome = throughput.run(Options(bundle=bundle, scan=scans, repeats=2, warmup=1, threads=2))
    names = [Way(1, 2).name, Way(2, 1).name]
    assert list(outcome.timings) == names == ["1 Segmenter x 2 threads", "2 Segmenters x 1 thread"]
    figures = {figure.name: figure.value for figure in outcome.figures}
    for name in names:
        median = outcome.timings[name].median
        assert figures[f"scans a second, {name}"] == pytest.approx(3 / median)
        assert figures[f"slices a second, {name}"] == pytest.approx(12 / median)
        assert figures[f"peak memory of the process, {name}"] > 0.01
    assert "Every way wrote the same masks." in outcome.notes
    assert set(outcome.left_out) == {"ct.nii.gz"}


def test_masks_that_differ_are_said_to_be_a_defect(bundle, scans, monkeypatch):
    digests = iter("ab")
    monkeypatch.setattr(throughput, "_digest", lambda folder, count: next(digests))
    monkeypatch.setattr(throughput, "_peak", lambda model, way, jobs: None)
    outcome = throughput.run(Options(bundle=bundle, scan=scans, repeats=1, warmup=0, threads=2))
    assert any("different masks" in note for note in outcome.notes)
