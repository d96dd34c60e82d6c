"""A bench of the gate for each module."""

from __future__ import annotations

import pytest

from tests.export.precision.bench import Bench


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()
