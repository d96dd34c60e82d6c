"""What needs a GPU: collected everywhere, and skipped with the reason in one line where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.gpu.stand_in import CountingDriver
from verdiff.errors import BackendError
from verdiff.runtime.device.cuda_core import CudaCore, open_driver

HERE = Path(__file__).parent
DEVICE = "cuda:0"


@cache
def missing() -> str | None:
    """Why no test here can run, or None. Asks the driver by its C library, so that nothing can crash."""
    try:
        open_driver(DEVICE)
    except BackendError as error:
        return error.found
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder, and skip it without a GPU."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            reason = missing()
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=f"needs a GPU: {reason}"))


@pytest.fixture(scope="session")
def device() -> str:
    """The GPU that the tests run on."""
    return DEVICE


@pytest.fixture
def plain() -> Iterator[CudaCore]:
    """The driver of cuda:0, current in this thread."""
    driver = open_driver(DEVICE)
    with driver.active():
        yield driver


@pytest.fixture
def driver() -> CountingDriver:
    """The driver of cuda:0, which writes every call down."""
    return CountingDriver(open_driver(DEVICE))
