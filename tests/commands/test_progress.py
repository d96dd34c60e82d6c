"""How far a command is: what the work tells of itself, and how that is drawn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.evaluate.test_evaluate_command import case, write
from verdiff.cli import app
from verdiff.commands import progress as drawer
from verdiff.evaluate import evaluation
from verdiff.progress import doing, done, stage, tracked, watched_by


class Heard:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def within(self, share: float) -> None:
        self.told.append(round(share, 3))

    def doing(self, what: str) -> None:
        self.told.append(what)

    def stage(self) -> None:
        self.told.append("anew")


def test_items_within_items_are_parts_of_them() -> None:
    heard = Heard()
    with watched_by(heard):
        for _ in tracked("ab"):
            for _ in tracked("cd"):
                done(0.5)
    assert heard.told == [0, 0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.625, 0.75, 0.875, 1.0, "anew"]


def test_a_stage_counts_by_itself_and_what_follows_begins_anew() -> None:
    heard = Heard()
    with watched_by(heard):
        done(0.25)
        with stage("judging"):
            done(0.5)
        doing("writing")
    assert heard.told == [0.25, "anew", "judging", 0.5, "anew", "", "writing"]


def test_nobody_has_to_watch() -> None:
    with stage("unseen"):
        assert list(tracked([1, 2])) == [1, 2] and list(tracked([])) == []
    done(0.5)
    doing("nothing")


def test_a_loop_that_is_left_early_leaves_nothing_behind() -> None:
    heard = Heard()

    def items() -> Iterator[int]:
        yield from tracked([1, 2, 3, 4])

    with watched_by(heard):
        going = items()
        next(going)
        going.close()
        done(1.0)
    assert heard.told == [0, 1.0]


def test_time_left_of_what_goes_on_follows_what_this_call_did(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(drawer, "monotonic", lambda: now[0])
    left = drawer.Remaining(1)
    left.within(0.5)
    assert left.left() == ""
    now[0] = 60.0
    left.within(0.75)
    assert left.left() == ", about 1:00 left"


@pytest.mark.parametrize("quiet", [False, True])
def test_a_long_evaluation_says_in_plain_lines_how_far_it_is_and_nothing_if_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / "truth" / f"{name}.nii.gz", case(0))
        write(tmp_path / "masks" / f"{name}_seg.nii.gz", case(1))
    load = evaluation.load_pair

    def slow(*given: object) -> object:
        time.sleep(0.2)
        return load(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation, "load_pair", slow)
    monkeypatch.setattr(drawer, "_LINES_AT_SECONDS", (0.1,))
    monkeypatch.setattr(drawer, "_LINES_EVERY_SECONDS", 0.1)
    words = ["evaluate", str(tmp_path / "masks"), str(tmp_path / "truth"), "--labels", "disc=1", "--no-distances"]
    result = CliRunner().invoke(app, [*words, *(["-q"] if quiet else [])])
    assert result.exit_code == 0, result.output
    told = [line for line in result.stderr.splitlines() if line.startswith("evaluating ")]
    assert ("%" in "".join(told)) is not quiet and bool(told) is not quiet
