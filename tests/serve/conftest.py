"""The tiny bundle, a worker that has loaded it, a DICOM series, and a node that takes its masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.dicom_peers import Receiver
from verdiff.serve import Client, Limits


@pytest.fixture(scope="session")
def client(bundle: Path) -> Iterator[Client]:
    """One worker for the tests that leave it as it was."""
    with Client(bundle, threads=1) as client:
        yield client


@pytest.fixture
def short_tempered(bundle: Path) -> Iterator[Client]:
    """A worker of one test's own, which is killed soon when it does not end a job."""
    with Client(bundle, threads=1, limits=Limits(grace_s=0.3, late_s=0.1, waiting=2, pause_s=0.2)) as client:
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A node that listens."""
    with Receiver().listening() as receiver:
        yield receiver


@pytest.fixture
def said() -> list[str]:
    """What a node says."""
    return []
