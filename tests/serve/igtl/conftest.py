"""A server in front of the tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.igtl.wire import Peer
from verdiff.runtime import Segmenter
from verdiff.serve import Client
from verdiff.serve.igtl import IgtlServer


@pytest.fixture(scope="session")
def server(client: Client) -> Iterator[IgtlServer]:
    """One for the tests that leave it as it was."""
    with IgtlServer(client, 0) as server:
        yield server


@pytest.fixture
def peer(server: IgtlServer) -> Iterator[Peer]:
    with Peer(server.address[1]) as peer:
        yield peer


@pytest.fixture(scope="session")
def segmenter(bundle: Path) -> Segmenter:
    """The same model in this process."""
    return Segmenter.load(bundle, threads=1)
