"""bench compare: what got slower beyond doubt is a regression, the rest is not, and bad files are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from verdiff.benchmarks.compare import compare_records
from verdiff.cli import app
from verdiff.errors import REGRESSION, InputError

MACHINE = {"cpu": "a processor", "cores": 2, "flags": ["avx2"], "system": "Linux x86_64"}


def record(path: Path, medians: dict[str, float], *, spread: float = 0.01, met: bool = True, **changes: Any) -> Path:
    """A record whose rivals have these medians in seconds, with ``spread`` around them."""
    rng = np.random.default_rng(len(path.name))
    seconds = {name: (m * (1 + spread * rng.uniform(-1, 1, 15))).tolist() for name, m in medians.items()}
    values = {
        "schema": 1,
        "case": "volume",
        "timings": {name: {"seconds": each} for name, each in seconds.items()},
        "figures": [{"name": "peak memory", "met": met}],
        "machine": MACHINE,
        "settings": {"threads": 2},
    }
    path.write_text(json.dumps({**values, **changes}), "utf-8")
    return path


def test_a_clear_slowdown_is_a_regression_and_a_speedup_is_none(tmp_path: Path) -> None:
    before = record(tmp_path / "a.json", {"ort": 1.0, "openvino": 1.0})
    found = compare_records(before, record(tmp_path / "bb.json", {"ort": 1.3, "openvino": 0.7}))
    assert [change.name for change in found.changes] == ["ort", "openvino"]
    assert found.changes[0].ratio.value == pytest.approx(1.3, rel=0.03)
    (only,) = found.regressions()
    assert only.startswith("ort takes 1.3")


def test_a_record_of_the_first_schema_can_still_be_compared(tmp_path: Path) -> None:
    before = record(tmp_path / "a.json", {"ort": 1.0})
    assert compare_records(before, record(tmp_path / "b.json", {"ort": 1.0}, schema=2)).regressions() == []
    with pytest.raises(InputError, match="schema 3"):
        compare_records(before, record(tmp_path / "c.json", {"ort": 1.0}, schema=3))


def test_noise_and_small_changes_are_no_regression(tmp_path: Path) -> None:
    before = record(tmp_path / "a.json", {"ort": 1.0}, spread=0.6)
    noisy = compare_records(before, record(tmp_path / "bb.json", {"ort": 1.08}, spread=0.6))
    assert noisy.changes[0].ratio.low < 1 and noisy.regressions() == []
    before = record(tmp_path / "ccc.json", {"ort": 1.0})
    assert compare_records(before, record(tmp_path / "dddd.json", {"ort": 1.03})).regressions() == []


def test_a_rival_that_vanished_and_an_aim_no_longer_met_are_regressions(tmp_path: Path) -> None:
    before = record(tmp_path / "a.json", {"ort": 1.0, "openvino": 1.0})
    found = compare_records(before, record(tmp_path / "bb.json", {"ort": 1.0}, met=False))
    assert found.regressions() == ["openvino is no longer there", "peak memory no longer meets its aim"]


@pytest.mark.parametrize("after", [[], [{"name": "peak memory", "met": None}]])
def test_a_figure_that_met_its_aim_and_vanished_is_a_regression(tmp_path: Path, after: list[dict[str, Any]]) -> None:
    before = record(tmp_path / "a.json", {"ort": 1.0})
    found = compare_records(before, record(tmp_path / "bb.json", {"ort": 1.0}, figures=after))
    assert found.regressions() == ["peak memory no longer meets its aim"]


def test_a_speedup_that_no_longer_meets_its_aim_is_a_regression(tmp_path: Path) -> None:
    def speedups(met: bool) -> dict[str, Any]:
        return {"ort": {"value": 2.0 + met, "aim": 3.0, "met": met}, "openvino": {"value": 1.0, "met": None}}

    medians = {"eager": 1.0, "ort": 0.3, "openvino": 1.0}
    good, bad = (record(tmp_path / f"{met}.json", medians, speedups=speedups(met)) for met in (True, False))
    assert compare_records(good, bad).regressions() == ["the speed-up of ort no longer meets its aim"]
    assert compare_records(bad, good).regressions() == []


def stages(**medians: float) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {
        "ort": {name: {"seconds": (m * (1 + 0.01 * rng.uniform(-1, 1, 15))).tolist()} for name, m in medians.items()}
    }


def test_the_stages_that_changed_are_listed_with_the_most_time_first(tmp_path: Path) -> None:
    before = record(tmp_path / "a.json", {"ort": 1.0}, stages=stages(read=0.1, fuse=0.2, loop=0.5, locate=0.0, old=1.0))
    after = record(
        tmp_path / "bb.json", {"ort": 0.9}, stages=stages(read=0.12, fuse=0.1, loop=0.5, locate=0.1, new=1.0)
    )
    found = compare_records(before, after)
    assert [change.name for change in found.stages] == ["ort: read", "ort: fuse", "ort: loop"]
    assert found.regressions() == []
    table = found.to_markdown().partition("Stages that changed")[2]
    assert table.index("ort: fuse") < table.index("ort: read")
    assert "ort: loop" not in table


def test_records_with_warnings_are_a_caution(tmp_path: Path) -> None:
    before = record(tmp_path / "a.json", {"ort": 1.0})
    doubtful = record(tmp_path / "bb.json", {"ort": 1.0}, warnings=["other processes took 64%", "ort: drift"])
    assert compare_records(before, doubtful).cautions == (
        "the second record has 2 warning(s), such as: other processes took 64%",
    )


def test_another_machine_is_a_caution(tmp_path: Path) -> None:
    before = record(tmp_path / "a.json", {"ort": 1.0})
    other = record(tmp_path / "bb.json", {"ort": 1.0}, machine={**MACHINE, "cores": 8}, settings={"threads": 8})
    assert compare_records(before, other).cautions == ("cores: 2 before, 8 after", "threads: 2 before, 8 after")


def test_the_command_exits_with_the_code_of_a_regression(tmp_path: Path) -> None:
    before, after = record(tmp_path / "a.json", {"ort": 1.0}), record(tmp_path / "bb.json", {"ort": 2.0})
    worse = CliRunner().invoke(app, ["bench", "compare", str(before), str(after)])
    assert worse.exit_code == REGRESSION and "| ort | 1" in worse.output and "Worse: ort" in worse.output
    better = CliRunner().invoke(app, ["bench", "compare", str(after), str(before)])
    assert better.exit_code == 0, better.output


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_command_wants_two_records(tmp_path: Path, count: int) -> None:
    paths = [str(record(tmp_path / f"{'x' * i}.json", {"ort": 1.0})) for i in range(1, count + 1)]
    refused = CliRunner().invoke(app, ["bench", "compare", *paths])
    assert refused.exit_code == 2 and "BEFORE.json AFTER.json" in refused.stderr


def test_what_is_no_record_or_of_another_case_is_refused(tmp_path: Path) -> None:
    good = record(tmp_path / "a.json", {"ort": 1.0})
    (tmp_path / "b.json").write_text("{}", "utf-8")
    for bad in (tmp_path / "b.json", tmp_path / "none.json"):
        with pytest.raises(InputError, match="is no record"):
            compare_records(good, bad)
    with pytest.raises(InputError, match="startup"):
        compare_records(good, record(tmp_path / "c.json", {"ort": 1.0}, case="startup"))
