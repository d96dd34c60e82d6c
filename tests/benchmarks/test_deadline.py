"""The deadline case: budgets that are kept, refused and missed are told apart."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.tiny_fold import write_clear_fold
from tests.runtime.tiny_bundle import write_tiny
from verdiff.benchmarks import running
from verdiff.benchmarks.cases import Options
from verdiff.benchmarks.cases.deadline import BUDGETS_MS, Budgeted, _page


def test_every_budget_is_tried_on_every_patient(tmp_path: Path) -> None:
    data = write_clear_fold(tmp_path / "Dataset900_Tiny")
    settings = [{"steps": 2, "samples": 1, "policy": "skip", "dice": 0.9, "name": "fast"}]
    bundle = write_tiny(tmp_path / "tiny.verdiff", frontier={"settings": settings})
    record = running.run("deadline", Options(bundle=bundle, data=data, repeats=2), output=tmp_path / "out")
    budgets = record.outcome.results["budgets"]
    assert list(budgets) == [str(budget) for budget in BUDGETS_MS]
    for each in budgets.values():
        assert sum(each["outcomes"].values()) == 4
        assert each["settings"] == {"2 x 1, skip": 4}
        assert set(each["dice"]) == {"p0", "p1"}
    assert record.outcome.figures[0].met
    assert (tmp_path / "out" / "deadline.png").stat().st_size > 10_000


def test_what_was_refused_is_counted_and_has_no_dice() -> None:
    refused, late = Budgeted(), Budgeted([1.2], [0.2], {"p": 0.9})
    refused.outcomes["refused"] += 3
    page = _page({600: refused, 1000: late}).splitlines()
    assert page[2] == "| 600 ms |  |  | refused: 3 |  | 0 |  |"
    assert "+20.0%" in page[3]
