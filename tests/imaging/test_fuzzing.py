"""A fixed number of damaged files of every format: read or refused, never anything else."""

from __future__ import annotations

import pytest

from tests.imaging.fuzzing import run


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("number", [1, 2])
def test_a_damaged_file_is_read_right_or_refused_in_three_lines(number: int) -> None:
    figures = run(700, number)
    assert figures.failures == []
    outcomes = {name.split(": ")[1] for name in figures.outcomes}
    assert outcomes == {"read", "refused"}
    # Every format was damaged in ways that were noticed.
    assert sum(name.endswith("refused") for name in figures.outcomes) == len(
        {n.split(":")[0] for n in figures.outcomes}
    )
