"""What ``verdiff infer`` says of a budget, of ``--precision auto`` and of what the field of view cuts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import write_tiny
from verdiff.cli import app
from verdiff.errors import BudgetError
from verdiff.extras import install
from verdiff.imaging import write_array
from verdiff.runtime import Segmenter
from verdiff.runtime.frontier import Pace

SETTINGS = [
    {"steps": 0, "samples": 0, "policy": "whole", "dice": 0.90},
    {"steps": 3, "samples": 2, "policy": "whole", "dice": 0.93},
]
PIXELS = 5 * 44 * 36  # of the scan, on the tiny model's grid


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.verdiff", frontier={"settings": SETTINGS})


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    volume = mr_scan()
    write_array(volume.array, volume, tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """A machine whose pace is known: seconds a scan of the prior and of one denoiser pass."""
    load = Segmenter.load

    def known(prior_s: float, step_s: float) -> None:
        def loaded(*arguments: Any, **options: Any) -> Segmenter:
            pace = Pace(prior_s / PIXELS, step_s / PIXELS)
            return Segmenter(replace(load(*arguments, **options).loaded, pace=pace))

        monkeypatch.setattr(Segmenter, "load", loaded)

    return known


def infer(scan: Path, bundle: Path, *more: object) -> Result:
    words = ("infer", scan, "--model", bundle, "--threads", 1, *more)
    return CliRunner().invoke(app, [str(word) for word in words])


def report(scan: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(scan.with_name("scan_seg.json").read_text("utf-8"))
    return found


def test_a_budget_out_of_reach_is_refused_at_once_with_one_that_will_do(
    scan: Path, bundle: Path, pace: Callable[[float, float], None]
) -> None:
    pace(1000.0, 1000.0)
    result = infer(scan, bundle, "--budget-ms", 60_000)
    assert result.exit_code == BudgetError.exit_code
    assert "60000 ms for 5 slices" in result.stderr and "about 1" in result.stderr
    assert [path.name for path in scan.parent.iterdir()] == ["scan.nii.gz"]


def test_a_budget_for_the_prior_alone_says_so_on_the_line_and_in_the_report(
    scan: Path, bundle: Path, pace: Callable[[float, float], None]
) -> None:
    pace(1.0, 1000.0)
    result = infer(scan, bundle, "--budget-ms", 60_000)
    assert result.exit_code == 0, result.output
    assert "the budget left time for the prior alone: with sampling it takes about" in result.stdout
    found = report(scan)
    assert found["outcome"] == "prior"
    assert found["provenance"]["computed"]["sampling_would_take_ms"] > 60_000


def test_an_hour_for_a_model_whose_best_setting_is_the_prior_is_not_said_to_be_too_short(
    scan: Path, tmp_path: Path
) -> None:
    fast = {"steps": 0, "samples": 0, "policy": "whole", "dice": 0.93, "name": "fast"}
    bundle = write_tiny(tmp_path / "prior.verdiff", frontier={"settings": [fast]})
    for more in ((), ("--policy", "fast")):
        result = infer(scan, bundle, "--budget-ms", 3_600_000, *more)
        assert result.exit_code == 0, result.output
        assert "prior only" in result.stdout and "the budget" not in result.stdout
        assert report(scan)["outcome"] == "prior"


def test_a_budget_with_time_for_sampling_is_complete(
    scan: Path, bundle: Path, pace: Callable[[float, float], None]
) -> None:
    pace(1e-3, 1e-3)
    result = infer(scan, bundle, "--budget-ms", 60_000)
    assert "prior alone" not in result.stdout and "3 steps x 2 samples" in result.stdout
    assert report(scan)["outcome"] == "complete"


def test_precision_auto_says_what_it_took_and_why_on_the_line_and_in_the_report(scan: Path, bundle: Path) -> None:
    result = infer(scan, bundle, "--precision", "auto")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("precision auto: ")]
    chosen = report(scan)["provenance"]["chosen"]
    assert chosen["because"] in line and "fp32 on " in line
    left_out = [each for each in chosen["candidates"] if "refused" in each]
    assert all(f"not {each['precision']} on {each['backend']}: " in result.stdout for each in left_out)


def test_for_one_small_scan_auto_opens_one_backend(scan: Path, bundle: Path) -> None:
    infer(scan, bundle, "--precision", "auto")
    candidates = report(scan)["provenance"]["chosen"]["candidates"]
    assert len([each for each in candidates if "slice_ms" in each]) == 1
    assert "not tried for one scan" in "".join(each.get("refused", "") for each in candidates)


def test_a_precision_that_was_named_needs_no_explanation(scan: Path, bundle: Path) -> None:
    assert "precision auto" not in infer(scan, bundle).stdout


def test_structures_at_the_end_of_the_field_of_view_are_marked_beside_their_volume(scan: Path, bundle: Path) -> None:
    result = infer(scan, bundle)
    cut = report(scan)["cut_by_field_of_view"]
    assert cut, "the blobs of the scan run over its border"
    for name, sides in cut.items():
        (line,) = [line for line in result.stdout.splitlines() if line.startswith(f"  {name} ")]
        assert line.endswith(f" ml within the field of view, which cuts it ({', '.join(sides)})")


def test_missing_packages_of_vertebrae_are_told_before_a_model_is_loaded(
    scan: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> Segmenter:
        raise AssertionError("a model was loaded for nothing")

    monkeypatch.setattr(Segmenter, "load", never)
    monkeypatch.setitem(sys.modules, "skimage", None)
    result = infer(scan, bundle, "--stats")
    assert result.exit_code == 6 and install("anatomy") in result.stderr


def test_a_precision_that_a_bundle_lacks_is_answered_with_names_that_the_option_takes(scan: Path) -> None:
    result = CliRunner().invoke(app, ["infer", str(scan), "--precision", "fp16"])
    assert result.exit_code == 6
    assert "expected: one of fp32, int8\n" in result.stderr
