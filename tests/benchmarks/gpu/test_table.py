"""One table: a row a rival in the order given, figures or the reason, the same number of cells in each."""

from __future__ import annotations

import re

from verdiff.benchmarks.gpu.table import TITLES, RivalFigures, rivals_table
from verdiff.benchmarks.gpu.trace import Trace
from verdiff.benchmarks.timing import Timing

FULL = RivalFigures(
    step=Timing((0.001, 0.002, 0.003)),
    volume=Timing((0.1, 0.2, 0.3)),
    trace=Trace(5, span_s=0.010, busy_s=0.009, calls={"waits": 1}),
    memory_bytes=512 << 20,
    dice=0.99951,
)
BARE = RivalFigures(Timing((0.004,)), Timing((0.4,)), None, None, None)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]


def test_figures_stand_under_their_titles() -> None:
    title, rule, row = rivals_table(["a"], {"a": FULL}, {}).splitlines()
    names = ("rival", "s50", "s90", "s99", "v50", "v90", "v99", "busy", "idle", "memory", "dice")
    found = dict(zip(names, cells(row), strict=True))
    assert cells(title) == list(TITLES)
    assert len(cells(rule)) == len(TITLES)
    assert (found["s50"], found["v50"], found["v90"]) == ("2 ms", "200 ms", "280 ms")
    assert (found["busy"], found["idle"]) == ("90 %", "200.0 µs")
    assert (found["memory"], found["dice"]) == ("512 MiB", "0.9995")


def test_what_was_not_measured_is_called_so() -> None:
    assert cells(rivals_table(["b"], {"b": BARE}, {}).splitlines()[2])[7:] == [
        "unknown",
        "unknown",
        "unknown",
        "not comparable",
    ]


def test_a_rival_that_did_not_run_is_a_row_with_its_reason_in_its_place() -> None:
    page = rivals_table(["a", "TensorRT", "b"], {"a": FULL, "b": BARE}, {"TensorRT": "not installed | pip\ninstall"})
    rows = [cells(line) for line in page.splitlines()[2:]]
    assert [row[0] for row in rows] == ["a", "TensorRT", "b"]
    assert rows[1][1] == r"not run: not installed \| pip; install"
    assert {len(row) for row in rows} == {len(TITLES)}
