"""A record: every duration as JSON, a page that says what to believe, files that appear whole."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from tests.benchmarks.test_environment import QUIET
from verdiff.benchmarks.cases import Figure, Findings, Options
from verdiff.benchmarks.cost import RunCost
from verdiff.benchmarks.record import Record
from verdiff.benchmarks.record_page import record_page
from verdiff.benchmarks.recording import portable, write_record
from verdiff.benchmarks.running import repeatable_command
from verdiff.benchmarks.timing import Timing
from verdiff.errors import OutputError

STEADY = (1.0, 1.0, 1.0, 1.0, 1.0)


@pytest.fixture
def record() -> Record:
    outcome = Findings(
        timings={"eager": Timing((2.0,) * 5), "runtime": Timing(STEADY), "odd": Timing((0.1, 9.0, 1.0, 4.0, 0.5))},
        baseline="eager",
        stages={"runtime": {"read": Timing((0.25,) * 5), "loop": Timing((0.6,) * 5)}},
        networks={"runtime": {"denoiser": Timing((0.5,) * 5)}},
        work={"runtime": RunCost(10, {"prior": 10, "denoiser": 20}, {"denoiser": 40.0})},
        figures=(Figure("peak memory", 1.25, "GB", at_most=1.5), Figure("unknown", None, "GB", at_most=1.5)),
        aims={"runtime": 1.8, "odd": 3.0},
        subject={"model": "tiny 1.0.0"},
        left_out={"bf16": "no such instructions"},
        notes=("From file to file.",),
    )
    settings = {"repeats": 5, "warmup": 1, "seed": 35, "threads": 2}
    return Record("volume", "verdiff bench volume", "2026-01-02", settings, QUIET, {"numpy": "2.0"}, outcome)


def test_speedups_are_against_the_baseline_and_held_against_their_aims(record):
    plain = record.to_dict()
    assert set(plain["speedups"]) == {"runtime", "odd"}
    runtime = plain["speedups"]["runtime"]
    assert (runtime["value"], runtime["aim"], runtime["met"], runtime["in_doubt"]) == (2.0, 1.8, True, False)
    assert plain["speedups"]["odd"]["in_doubt"] is True


def test_warnings_name_the_rival_that_varies_and_no_other(record):
    assert {warning.partition(":")[0] for warning in record.warnings()} == {"odd"}


def test_on_a_busy_machine_every_comparison_is_in_doubt(record):
    busy = replace(record, machine=replace(QUIET, load=4.0))
    assert busy.in_doubt("runtime")
    assert "yes, in doubt" in record_page(busy)


def test_the_page_shows_rivals_stages_figures_and_what_was_left_out(record):
    text = record_page(record)
    assert "| eager | 2.00 s [–, –] | 2.00 s [2.00 s, –] | 2.00 s [2.00 s, –] | baseline |" in text
    assert "| 2.00 | 2.00 to 2.00 | at least 1.8 | yes |" in text
    assert "| peak memory | 1.25 GB | at most 1.5 | yes, in doubt |" in text
    assert "| unknown | unknown | at most 1.5 |  |" in text
    assert "- Left out: bf16: no such instructions" in text
    assert "5 repeats each" in text


def test_a_stage_is_told_for_the_volume_a_slice_and_a_step(record):
    text = record_page(record)
    assert "Stages, runtime (10 slices, 20 denoiser steps):" in text
    assert "| read | 250.0 ms | 250.0 ms | 25.0% | 25.0 ms |  |" in text
    assert "| loop | 600.0 ms | 600.0 ms | 60.0% | 60.0 ms | 30.0 ms |" in text
    assert "| within: denoiser network | 500.0 ms | 500.0 ms | 50.0% | 50.0 ms | 25.0 ms |" in text


def test_stages_of_unknown_work_are_told_for_the_whole_alone(record):
    text = record_page(replace(record, outcome=replace(record.outcome, work={})))
    assert "Stages, runtime:" in text
    assert "| loop | 600.0 ms | 600.0 ms | 60.0% |\n" in text


def test_the_csv_has_a_row_for_every_rival_stage_and_repeat(record):
    rows = list(csv.DictReader(io.StringIO(record.to_csv())))
    assert len(rows) == 3 * 5 + 2 * 5 + 5
    odd = [float(row["seconds"]) for row in rows if row["rival"] == "odd"]
    assert odd == [0.1, 9.0, 1.0, 4.0, 0.5]
    assert {row["stage"] for row in rows if row["rival"] == "runtime"} == {"total", "read", "loop", "denoiser network"}
    assert [row["repeat"] for row in rows[:5]] == ["1", "2", "3", "4", "5"]


def test_without_a_baseline_nothing_is_compared(record):
    alone = replace(record, outcome=replace(record.outcome, baseline=None))
    assert alone.speedups() == {}
    assert "times faster" not in record_page(alone)


def test_json_is_strict_and_holds_every_duration(record):
    odd = replace(record, outcome=replace(record.outcome, figures=(Figure("ratio", math.inf, ""),)))
    plain = json.loads(odd.to_json(), parse_constant=pytest.fail)
    assert plain["timings"]["odd"]["seconds"] == [0.1, 9.0, 1.0, 4.0, 0.5]
    assert plain["figures"][0]["value"] is None
    assert plain["machine"]["cpu"] == "Some CPU"


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure("f", 1.0, "s", at_most=1.0), True),
        (Figure("f", 1.1, "s", at_most=1.0), False),
        (Figure("f", 0.9, "", at_least=1.0), False),
        (Figure("f", 1.0, "s"), None),
        (Figure("f", None, "s", at_most=1.0), None),
    ],
)
def test_an_aim_is_met_missed_or_absent(figure, met):
    assert figure.met is met


def test_json_csv_page_and_plot_are_written_under_one_stem(record, tmp_path):
    paths = write_record(record, tmp_path / "run.v2", say=lambda line: None)
    assert [path.name for path in paths] == ["run.v2.json", "run.v2.csv", "run.v2.md", "run.v2.png"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert (tmp_path / "run.v2.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_record_is_written_without_a_plot(record, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    lines: list[str] = []
    paths = write_record(record, tmp_path / "run", say=lines.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.csv", "run.json", "run.md"]
    assert len(paths) == 3
    assert "matplotlib" in lines[0]


def test_a_folder_that_is_not_there_is_an_output_error(record, tmp_path):
    with pytest.raises(OutputError):
        write_record(record, tmp_path / "none" / "run")


def test_the_command_names_data_by_its_variable_and_other_files_without_their_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VERDIFF_DATA", str(tmp_path / "data"))
    options = Options(bundle=tmp_path / "my model.verdiff", scan=tmp_path / "data" / "scans" / "a.nii.gz", repeats=7)
    command = repeatable_command("volume", options, "volume.json")
    assert command == (
        "verdiff bench volume --model 'my model.verdiff' --scan $VERDIFF_DATA/scans/a.nii.gz "
        "--repeats 7 --threads 1 --output volume.json"
    )
    monkeypatch.delenv("VERDIFF_DATA")
    assert portable(tmp_path / "data" / "a.nii.gz") == "a.nii.gz"
