"""The study ``endurance`` on a few requests to a real server with a model of a few multiplications."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom")
pytest.importorskip("pynetdicom")

from studies.cases.endurance import ENTRANCES, Look, figures
from studies.library.dicom_series import renamed, series_of
from studies.library.phantom import phantom
from studies.options import StudyOptions
from studies.running import run
from tests.runtime.tiny_bundle import tiny_manifest, write_tiny
from verdiff.errors import DataError
from verdiff.imaging import read_volume


@pytest.mark.parametrize(("modality", "view"), [("MR", "sagittal"), ("CT", "coronal"), ("CT", "axial")])
def test_a_generated_series_is_read_back_as_the_scan_it_was_made_of(tmp_path: Path, modality: str, view: str) -> None:
    scan = phantom(tiny_manifest(modality=modality, view=view), (12, 20, 16), seed=1)
    series = series_of(scan, view)
    uid = renamed(series, 4)
    for number, each in enumerate(series):
        each.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    read = read_volume(tmp_path)
    assert read.modality == modality and read.identity is not None and read.identity.series == uid
    assert read.array.size == scan.array.size
    grid = read.geometry
    for x, y, z in ((0, 0, 0), (3, 5, 7), (11, 2, 15), (6, 19, 1)):
        place = np.subtract(scan.geometry.index_to_mm([x, y, z]), grid.origin_mm)
        there = np.linalg.solve(grid.matrix * grid.spacing_mm, place).round().astype(int)
        assert read.array[tuple(there[::-1])] == scan.array[z, y, x]


def test_requests_go_in_turns_to_both_entrances_and_all_have_the_same_mask(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "tiny.verdiff")
    run("endurance", StudyOptions(bundle=bundle, requests=20, threads=1), output=tmp_path / "out")
    record = json.loads((tmp_path / "out" / "endurance.json").read_text())
    assert [len(record["timings"][name]["seconds"]) for name in ENTRANCES] == [10, 10]
    results = record["results"]
    assert (results["different_masks"], results["exit_code"], len(results["looks"])) == (1, 0, 20)
    assert "--requests 20" in record["command"] and "--repeats" not in record["command"]
    last = results["looks"][-1]
    assert last["worker_mib"] > 20 and last["server_files"] > 3 and last["processor_s"] > 0


def test_what_grows_is_not_as_it_was() -> None:
    looks = [Look(number, 100.0 + number, 50.0, 9, 4 + number // 5, 8, 2, 0.1 * number) for number in range(1, 11)]
    tenths = [{"processor_s_a_request": seconds} for seconds in [0.1] * 5 + [0.2] * 5]
    results = {"requests": 10, "different_masks": 2, "exit_code": 0, "tenths": tenths}
    missed = {figure.name for figure in figures(looks, results) if figure.met is False}
    assert missed == {
        "growth of descriptors, worker",
        "processor time a request, second half over the first",
        "different masks of the one scan",
    }


def test_a_film_model_has_no_series(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "film.verdiff", modality="XR", view="film")
    with pytest.raises(DataError, match="film"):
        run("endurance", StudyOptions(bundle=bundle, requests=20, threads=1))
