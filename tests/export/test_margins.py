"""Calibration: phantoms whose right margins are known, patients left out in turn, and the command."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import LABELS, write_tiny
from verdiff.bundle import open_bundle
from verdiff.bundle.margins import INNER, OUTER, margin_of
from verdiff.cli import app
from verdiff.errors import DataError, InputError, OutputError, VerdiffError
from verdiff.evaluate.fold import LabelledScan
from verdiff.export.margins import Calibrated, cross_fitted, margins_record, measure_margins, report
from verdiff.imaging import Geometry, Volume, write_array
from verdiff.options import CalibrateOptions
from verdiff.runtime import Segmenter

GRID = Geometry((56, 56, 56), (1.0, 1.0, 1.0))
FOUND_MM = 12.0


def distance() -> NDArray[np.float64]:
    z, y, x = np.mgrid[:56, :56, :56] - 27.5
    return np.sqrt(x**2 + y**2 + z**2)


class Phantom:
    """A model that finds a ball of 12 mm, whatever is there; of a scan that is dark, nothing."""

    def segment(self, scan: Volume, **asked: Any) -> Phantom:
        self.dark, self.asked = not scan.array.any(), asked
        return self

    def probabilities(self, name: str) -> NDArray[np.float32]:
        ball = np.clip(0.5 - (distance() - FOUND_MM) / 4, 0, 1).astype(np.float32)
        return np.zeros_like(ball) if self.dark else ball

    @property
    def provenance(self) -> dict[str, Any]:
        sampling = {"steps": 2, "samples": 1, "sampler": "ddim", "fusion": "mean", "policy": "whole", "seed": 3}
        return {"sampling": sampling, "reached": {"samples": [1, 1]}}


def patient(name: str, true_mm: float, *, dark: bool = False) -> LabelledScan:
    truth = (distance() <= true_mm).astype(np.uint8)
    return LabelledScan(name, Volume(np.full(truth.shape, not dark, np.int16), GRID), truth)


def calibrated(scans: list[LabelledScan], **patients: str) -> Calibrated:
    return measure_margins(
        Phantom(),  # type: ignore[arg-type]
        scans,
        {"canal": 1, "disc": 2},
        patients=patients,
        options=CalibrateOptions(),
        say=lambda line: None,
    )


TRUE_MM = {"a": 13.0, "b": 14.5, "c": 12.0, "d": 16.0, "e": 10.0}


@pytest.fixture(scope="module")
def five() -> Calibrated:
    return calibrated([patient(name, radius) for name, radius in TRUE_MM.items()])


def test_each_patient_gives_the_distance_to_his_own_surface(five: Calibrated) -> None:
    for name, outward in five.distances("canal", OUTER, 0.95).items():
        assert outward == pytest.approx(max(0, TRUE_MM[name] - FOUND_MM), abs=0.9)
    assert five.distances("canal", INNER, 1.0)["e"] == pytest.approx(2.0, abs=0.9)


def test_the_record_has_the_largest_of_them_for_what_five_can_promise(five: Calibrated) -> None:
    record = margins_record(five, probability=None, where={"data": "phantoms"})
    margin = margin_of(record, "canal", OUTER)
    assert margin.probability == pytest.approx(5 / 6) and margin.patients == 5
    assert margin.mm == five.distances("canal", OUTER, 0.99)["d"]
    assert margin.mm == pytest.approx(4.0, abs=0.9)
    assert record["setting"] == {"steps": 2, "samples": 1, "sampler": "ddim", "fusion": "mean", "policy": "whole"}
    assert list(record["structures"]) == ["canal"], "no true mask has a disc"


def test_a_patient_left_out_is_held_against_the_others_alone(five: Calibrated) -> None:
    told = cross_fitted(five, 0.99)["canal"][OUTER]
    distances = sorted(five.distances("canal", OUTER, 0.99).values())
    assert (told["patients"], told["covered"], told["probability"]) == (5, 4, 0.8)
    # The largest is left out once, and held against the next one.
    assert told["margins_mm"] == distances[-2:]
    assert told["least_share"] < 0.5, "the ball of 16 mm has next to no surface within 14.5"


def test_more_than_the_patients_can_promise_is_refused(five: Calibrated) -> None:
    with pytest.raises(InputError, match=r"at most 0\.833"):
        margins_record(five, probability=0.9, where={})


def test_a_patient_counts_once_with_the_worst_of_his_cases() -> None:
    found = calibrated([patient("a1", 13), patient("a2", 15), patient("b", 12)], a1="a", a2="a")
    assert list(found.patients) == ["a", "b"]
    assert found.distances("canal", OUTER, 0.95)["a"] == pytest.approx(3, abs=0.9)


def test_a_patient_in_whom_it_was_missed_leaves_no_largest_margin() -> None:
    found = calibrated([patient("a", 13), patient("b", 14, dark=True), patient("c", 12)])
    record = margins_record(found, probability=None, where={})
    assert math.isinf(margin_of(record, "canal", OUTER).mm)
    assert margin_of(record, "canal", OUTER, probability=0.5).mm < 2
    told = report(found, record)
    assert told["patients"]["b"]["canal"][OUTER]["1"] is None
    json.dumps(told, allow_nan=False)


def test_one_patient_is_too_few() -> None:
    with pytest.raises(DataError, match="2 of 1"):
        margins_record(calibrated([patient("a", 13)]), probability=None, where={})


def test_a_scan_that_cannot_be_segmented_is_named() -> None:
    class Broken(Phantom):
        def segment(self, scan: Volume, **asked: Any) -> Phantom:
            raise InputError("a hole", "none", "mend it")

    with pytest.raises(InputError, match="case a: a hole"):
        measure_margins(
            Broken(),  # type: ignore[arg-type]
            [patient("a", 13)],
            {"canal": 1},
            patients={},
            options=CalibrateOptions(),
            say=lambda line: None,
        )


CASES = ("p1", "p2", "p3")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model and three patients whose true masks are what it finds, under the data set's own numbers."""
    here = tmp_path_factory.mktemp("calibrate")
    write_tiny(here / "tiny.verdiff")
    segmenter = Segmenter.load(here / "tiny.verdiff", threads=1)
    data = here / "Set"
    for part in ("imagesTr", "labelsTr"):
        (data / part).mkdir(parents=True)
    ours = {label.name: label.id for label in LABELS}
    theirs = {"canal": 1, "vertebra": 2, "disc": 3}
    for index, name in enumerate(CASES):
        scan = mr_scan(5 + index)
        found = segmenter.segment(scan, force=True).labels
        mask = np.zeros_like(found)
        for structure, number in theirs.items():
            mask[found == ours[structure]] = number
        write_array(scan.array, scan, data / "imagesTr" / f"{name}_0000.nii.gz")
        write_array(mask, scan, data / "labelsTr" / f"{name}.nii.gz")
    about = {"labels": {"background": 0, **theirs}, "file_ending": ".nii.gz", "channel_names": {"0": "T2"}}
    (data / "dataset.json").write_text(json.dumps({**about, "numTraining": 3}), "utf-8")
    splits = [{"train": [], "val": list(CASES)}, {"train": list(CASES[1:]), "val": ["p1"]}]
    (data / "splits_final.json").write_text(json.dumps(splits), "utf-8")
    return here


@pytest.fixture
def here(prepared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    for name in ("tiny.verdiff", "Set"):
        (tmp_path / name).symlink_to(prepared / name)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def calibrate(*more: object) -> Result:
    given = ["calibrate", "tiny.verdiff", "--data", "Set", "-o", "out.verdiff", "--threads", 1, *more]
    return CliRunner().invoke(app, [str(each) for each in given])


def test_the_command_writes_the_same_model_with_margins_and_a_report(here: Path) -> None:
    done = calibrate("--report", "margins.json")
    assert done.exit_code == 0, done.output
    before, after = open_bundle("tiny.verdiff"), open_bundle("out.verdiff")
    assert after.manifest.files == before.manifest.files
    margin = margin_of(after.manifest.margins, "canal", OUTER)
    assert (margin.patients, margin.probability) == (3, 0.75)
    assert margin.mm < 2.5, "its own masks, on slices of 4 mm"
    told = json.loads((here / "margins.json").read_text("utf-8"))
    assert set(told["patients"]) == set(CASES)
    assert told["manifest_sha256"] == before.manifest_sha256
    assert told["cross_fitted"]["0.99"]["canal"]["outer"]["patients"] == 3
    assert "canal: " in done.output and "probability 0.750" in done.output


def test_infer_makes_surfaces_of_what_was_calibrated(here: Path) -> None:
    assert calibrate().exit_code == 0
    scan = mr_scan(7)
    write_array(scan.array, scan, here / "scan.nii.gz")
    given = ["infer", "scan.nii.gz", "--model", "out.verdiff", "--threads", "1", "--force", "--mesh"]
    done = CliRunner().invoke(app, [*given, "--margin-probability", "0.5", "--margin-share", "1"])
    assert done.exit_code in (0, 14), done.output
    report = json.loads((here / "scan_seg.json").read_text("utf-8"))
    rows = {(row["structure"], row["side"]): row for row in report["provenance"]["margins"]["surfaces"]}
    assert set(rows) == {(name, side) for name in ("vertebra", "disc", "canal") for side in (OUTER, INNER)}
    for (name, side), row in rows.items():
        assert (row["probability"], row["share"], row["patients"]) == (0.5, 1.0, 3)
        assert (here / f"scan_meshes/{name}-{side}.stl").exists() == (row["missing"] is None)
        assert f"{name}-{side}" in done.output
    assert report["files"]["outer"] == "scan_outer.vtp" and (here / "scan_outer.vtp").exists()
    assert CliRunner().invoke(app, [*given, "--margin-probability", "0.9"]).exit_code == InputError.exit_code


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (("--probability", "0.9"), InputError, "at most 0.750"),
        (("--fold", "1"), DataError, "1 patients in fold 1"),
        (("--fold", "7"), DataError, "fold 7"),
        (("--expect-sha256", "0" * 64), VerdiffError, "which was pinned"),
        (("-o", "Set"), OutputError, "Set"),
        (("--data", "Nowhere"), DataError, "Nowhere"),
    ],
)
def test_what_cannot_end_well_is_refused_before_anything_is_computed(
    here: Path, given: tuple[str, ...], error: type[VerdiffError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Segmenter, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    done = calibrate(*given)
    assert words in done.stderr and not (here / "out.verdiff").exists()
    assert done.exit_code == (16 if error is VerdiffError else error.exit_code)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training": {"data_set": "Set", "validation_cases": ["p1"]}}, "was trained on p2, p3"),
        ({"view": "film"}, "a model of films"),
    ],
)
def test_a_model_that_margins_make_no_sense_for_is_refused(here: Path, change: dict[str, Any], words: str) -> None:
    (here / "tiny.verdiff").unlink()
    write_tiny(here / "tiny.verdiff", **change)
    done = calibrate()
    assert done.exit_code == DataError.exit_code and words in done.stderr


def test_a_data_set_of_other_structures_is_refused(here: Path, prepared: Path) -> None:
    (here / "Set").unlink()
    (here / "Set").mkdir()
    for name in ("imagesTr", "labelsTr", "splits_final.json"):
        (here / "Set" / name).symlink_to(prepared / "Set" / name)
    about = json.loads((prepared / "Set/dataset.json").read_text("utf-8"))
    (here / "Set/dataset.json").write_text(json.dumps({**about, "labels": {"background": 0, "liver": 1}}), "utf-8")
    done = calibrate()
    assert done.exit_code == DataError.exit_code and "labels none of vertebra, disc, canal" in done.stderr


def test_a_report_never_goes_over_another_file(here: Path) -> None:
    (here / "notes.json").write_text("{}", "utf-8")
    done = calibrate("--report", "notes.json")
    assert done.exit_code == OutputError.exit_code and not (here / "out.verdiff").exists()
    assert (here / "notes.json").read_text("utf-8") == "{}"
