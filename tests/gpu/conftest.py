"""What needs a GPU is collected everywhere and skipped, with the reason, where there is none."""

from __future__ import annotations

import pytest

from verdiff.errors import BackendError
from verdiff.runtime.nvidia import require_gpu


@pytest.fixture(scope="session")
def device() -> str:
    """``"cuda:0"``, or the test is skipped."""
    try:
        require_gpu("cuda:0")
    except BackendError as error:
        pytest.skip(error.found)
    return "cuda:0"
