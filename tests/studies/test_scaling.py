"""The case ``scaling`` on small generated scans and a model of a few multiplications; no figure of time is asserted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studies.cases import scaling
from studies.library.phantom import phantom, write_phantom
from studies.options import StudyOptions
from studies.running import run as run_study
from tests.runtime.tiny_bundle import tiny_manifest
from verdiff.benchmarks.cost import CostCounter
from verdiff.benchmarks.fresh import FreshRun, run_fresh
from verdiff.bundle import open_bundle
from verdiff.errors import DataError, InputError
from verdiff.imaging import plan_slices
from verdiff.runtime.suitability import unsuitable_reasons


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """Every size where it is, with a peak of a kilobyte a voxel, and a machine that is not measured."""
    tasks: list[Mapping[str, Any]] = []

    def fresh(target: str, arguments: Mapping[str, Any]) -> FreshRun:
        assert target == scaling.SEGMENT_ONCE
        tasks.append(dict(arguments))
        voxels = Path(arguments["scan"]).stat().st_size // 2
        return FreshRun(scaling.segment_once(**arguments), 1000 * voxels)

    monkeypatch.setattr(scaling, "run_fresh", fresh)
    monkeypatch.setattr(scaling, "matmul_gflops", lambda threads: 50.0)
    return tasks


@pytest.mark.parametrize(("modality", "view"), [("MR", "sagittal"), ("CT", "coronal"), ("CT", "axial")])
def test_a_phantom_is_what_the_model_takes_and_has_something_in_it(modality: str, view: str) -> None:
    manifest = tiny_manifest(modality=modality, view=view)
    scan = phantom(manifest, (40, 48, 64), seed=1)
    plan = plan_slices(scan.geometry, view=view, spacing_mm=manifest.spacing_mm, multiple=4)  # type: ignore[arg-type]
    assert scan.array.shape == (64, 48, 40)
    assert unsuitable_reasons(scan, manifest, plan) == ()
    assert len(np.unique(scan.array)) > 50
    assert (scan.array.min() < -900) == (modality == "CT")
    assert np.array_equal(scan.array, phantom(manifest, (40, 48, 64), seed=1).array)


def test_a_film_has_no_phantom() -> None:
    with pytest.raises(DataError, match="film"):
        phantom(tiny_manifest(modality="XR", view="film"), (1, 40, 40), seed=1)


def test_every_size_is_run_and_the_work_grows_with_it(bundle: Path, in_this_process: list[Mapping[str, Any]]) -> None:
    outcome = scaling.run(StudyOptions(bundle=bundle, every=8, repeats=2, threads=1))
    rows = outcome.results["sizes"]
    assert len(rows) == len({*scaling.MORE_SLICES, *scaling.MORE_PIXELS, scaling.LARGEST}) == len(in_this_process) / 2
    largest = rows["64 x 64 x 100"]
    assert largest["slices"] == 64
    # 100 and 64 voxels of 0.87 mm at 1 mm, filled up to fours.
    assert largest["pixels_a_slice"] == 88 * 56
    assert outcome.work["64 x 64 x 100"].images == {"prior": 64, "denoiser": 64 * 3 * 2}
    assert largest["gflop"] == pytest.approx(8 * rows["8 x 64 x 100"]["gflop"])
    assert all(0 < row["outside_share"] < 1 and row["seconds_a_megapixel"] > 0 for row in rows.values())
    assert all(len(timing.seconds) == 2 for timing in outcome.timings.values())


def test_the_aims_are_figures_and_memory_in_proportion_has_a_slope_of_one(
    bundle: Path, in_this_process: list[Mapping[str, Any]]
) -> None:
    outcome = scaling.run(StudyOptions(bundle=bundle, every=8, repeats=1, threads=1))
    figures = {figure.name: figure for figure in outcome.figures}
    memory = figures["log-log slope, peak memory against voxels of all"]
    assert memory.value == pytest.approx(1, abs=0.05)
    assert memory.at_most == scaling.SLOPE_AT_MOST
    peak = figures["peak memory of the process, 64 x 64 x 100"]
    assert (peak.at_most, peak.met) == (scaling.PEAK_AT_MOST_GB, True)
    assert {name for name, figure in figures.items() if figure.at_most == scaling.SLOPE_AT_MOST} == {
        f"log-log slope, {name}" for name in outcome.results["slopes"]
    }


def test_the_slope_is_the_power_that_time_grows_with() -> None:
    amounts = [1.0, 2.0, 5.0, 40.0]
    assert scaling.log_slope(amounts, [3 * each for each in amounts]) == pytest.approx(1)
    assert scaling.log_slope(amounts, [0.1 * each**1.5 for each in amounts]) == pytest.approx(1.5)


@pytest.mark.parametrize("every", [0, -1, 9])
def test_lengths_can_only_be_divided_into_something(bundle: Path, every: int) -> None:
    with pytest.raises(InputError, match=f"every = {every}"):
        scaling.run(StudyOptions(bundle=bundle, every=every, repeats=1))


def test_a_fresh_process_gives_times_calls_and_a_peak(bundle: Path, tmp_path: Path) -> None:
    size = 8, 16, 25
    scan = tmp_path / "scan.nii"
    opened = open_bundle(bundle)
    write_phantom(scan, opened.manifest, size, seed=3)
    task = {"model": str(bundle), "scan": str(scan), "threads": 2}
    measured = scaling.measured_size(size, [run_fresh(scaling.SEGMENT_ONCE, task)], CostCounter(opened))
    assert {"read", "prior", "loop", "restore", "write"} <= set(measured.stages[0])
    assert measured.peak_bytes is None or measured.peak_bytes > 1 << 20
    assert measured.work.images["prior"] == measured.work.slices == size[0]


def test_the_command_writes_table_and_picture(
    bundle: Path, in_this_process: list[Mapping[str, Any]], tmp_path: Path
) -> None:
    lines: list[str] = []
    options = StudyOptions(bundle=bundle, every=8, repeats=1, threads=1, say=lines.append)
    run_study("scaling", options, output=tmp_path)
    assert "| 64 x 64 x 100 | 64 | 4928 |" in (tmp_path / "scaling.md").read_text("utf-8")
    assert "python -m studies scaling --model tiny.verdiff --every 8 " in (tmp_path / "scaling.md").read_text("utf-8")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
