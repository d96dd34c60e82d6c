"""How much of the cores' time others took, from ticks that a file says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from verdiff.benchmarks.watch import Watch

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)


def write(path: Path, **seconds: tuple[float, float]) -> Path:
    """Busy user and steal seconds of each core; the rest of the columns are idle or waiting time."""
    lines = [
        f"{core} {user * TICKS:.0f} 0 0 999999 77 0 0 {stolen * TICKS:.0f} 55 0"
        for core, (user, stolen) in seconds.items()
    ]
    path.write_text("\n".join(["cpu  1 1 1 1 1 1 1 1 1 1", *lines, "ctxt 5"]) + "\n", "utf-8")
    return path


def test_what_is_busy_and_not_one_s_own_is_others(tmp_path):
    now, own = [100.0], [5.0]
    stat = write(tmp_path / "stat", cpu0=(10, 0), cpu1=(0, 0), cpu3=(20, 0))
    watch = Watch(stat, lambda: own[0], lambda: now[0])
    now[0], own[0] = 110.0, 17.0
    write(stat, cpu0=(17, 1), cpu1=(90, 0), cpu3=(28, 0))
    assert watch.others_share() == pytest.approx((16 - 12) / 20)


def test_rounding_never_makes_it_negative(tmp_path):
    now, own = [0.0], [0.0]
    watch = Watch(write(tmp_path / "stat", cpu0=(1, 0)), lambda: own[0], lambda: now[0])
    now[0], own[0] = 10.0, 0.5
    assert watch.others_share() == 0.0


def test_nothing_is_said_of_a_moment_or_without_the_kernel_s_count(tmp_path):
    assert Watch(write(tmp_path / "stat", cpu0=(1, 0)), lambda: 0.0, lambda: 1.0).others_share() is None
    assert Watch(tmp_path / "none").others_share() is None
