"""The fleet on paper: the page's tables are the tool's, and the simulation keeps the laws of a queue and a real run."""

from __future__ import annotations

import json

import pytest

from tools.fleet import BEGIN, END, PAGE, Stages, compared, costs, page, simulate
from tools.import_graph import ROOT


def test_the_tables_of_the_page_are_made_of_the_records() -> None:
    text = PAGE.read_text("utf-8")
    held = text.split(BEGIN)[1].split(END)[0]
    assert held == page(), "write them again: python -m tools.fleet, between the two marks of docs/scale.md"
    default, fast, int8 = costs()
    assert default.seconds > fast.seconds > int8.seconds and default.gflop > fast.gflop == int8.gflop
    for told in (
        f"{default.seconds:.1f} s",
        f"{fast.seconds:.1f} s",
        f"{int8.seconds:.1f} s",
        f"{default.gflop:.0f} GFLOP",
    ):
        assert told in text


@pytest.mark.parametrize(("count", "workers", "rounds"), [(12, 1, 12), (12, 4, 3), (13, 4, 4), (3, 8, 1), (0, 2, 0)])
def test_workers_that_only_compute_take_rounds(count: int, workers: int, rounds: int) -> None:
    assert simulate([Stages(0, 2, 0)] * count, workers).seconds == pytest.approx(2 * rounds)


def test_reading_and_writing_hide_behind_computing_with_two_scans_in_hand_and_not_with_one() -> None:
    scans = [Stages(0.4, 1.0, 0.4)] * 20
    assert simulate(scans, 1).seconds == pytest.approx(20 * 1.0 + 0.8)
    assert simulate(scans, 1, ahead=1).seconds == pytest.approx(20 * 1.8)


def test_a_scan_that_takes_long_holds_up_its_own_worker_alone() -> None:
    long = [Stages(0, 50, 0), *[Stages(0, 1, 0)] * 40]
    assert simulate(long, 2).seconds == pytest.approx(51)


def test_disks_that_are_shared_are_the_limit_however_many_workers_there_are() -> None:
    scans = [Stages(0, 1, 0)] * 400
    few, many = (simulate(scans, n, megabytes=10, disk_mb_s=100) for n in (5, 100))
    assert few.seconds == pytest.approx(80, rel=0.05) and few.busy > 0.95
    assert many.seconds == pytest.approx(40, rel=0.05) and many.busy < 0.15


def test_one_process_that_hands_out_is_the_limit_too() -> None:
    assert simulate([Stages(0, 1, 0)] * 1000, 500, driver=0.1).seconds == pytest.approx(100, rel=0.05)


def test_the_simulation_ends_when_the_recorded_run_on_ray_did() -> None:
    record = json.loads((ROOT / "docs" / "results" / "fleet.json").read_text("utf-8"))
    took, simulated = compared(record)
    assert len(record["scans"]) >= 10 and record["workers"] == 2
    assert simulated == pytest.approx(took, rel=0.1)
