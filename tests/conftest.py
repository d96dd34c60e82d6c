"""What every room's tests share: the repository's root, the two real samples, and repeatable property tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests import peers

if TYPE_CHECKING:
    from tests.runtime.device.null_driver import NullDriver

ROOT = Path(__file__).resolve().parents[1]

# Workers share the cores. PyTorch alone would start a thread a core in each, and they would wait for one another.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

# The same examples on every run and no deadline: a busy machine is no reason for a test to fail.
settings.register_profile("verdiff", derandomize=True, deadline=None)
settings.load_profile("verdiff")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Keep a file's bytes out of a test's name: packed data hold the time, and all workers must agree on names."""
    return argname if isinstance(val, bytes) and len(val) > 16 else None


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def mr_sample() -> Path:
    """A real T2w MR crop, 1.5 mm isotropic, axes towards posterior, inferior, right."""
    return ROOT / "examples" / "mr_t2_sample.nii.gz"


@pytest.fixture(scope="session")
def mr_expert() -> Path:
    """The mask of `mr_sample`: 1 vertebra, 2 disc, 3 canal."""
    return ROOT / "examples" / "mr_t2_sample_expert.nii.gz"


@pytest.fixture(scope="session")
def ct_sample() -> Path:
    """A real CT crop, 1.5 mm isotropic."""
    return ROOT / "examples" / "ct_sample.nii.gz"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, for tests that leave it as it is."""
    from tests.runtime.tiny_bundle import write_tiny

    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.verdiff")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A sagittal MR series in a folder."""
    from tests.interop.dicom.series import save_oriented
    from tests.runtime.scans import mr_scan

    scan = mr_scan()
    return save_oriented(tmp_path / "series", scan.array, scan.geometry)


@pytest.fixture
def driver() -> NullDriver:
    """A GPU's driver that computes on the processor."""
    from tests.runtime.device.null_driver import NullDriver

    return NullDriver()


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds follow each other at once."""
    from verdiff.benchmarks import harness

    monkeypatch.setattr(harness, "SETTLE_S", 0)


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    """PyTorch's threads are given back."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_process_wide_torch_switches() -> Iterator[None]:
    """Fail the test whose code turned gradients off for the whole process, not the ones that run after it."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and not torch.is_grad_enabled():
        torch.set_grad_enabled(True)
        pytest.fail("gradients were left disabled for the whole process: use torch.no_grad() around the code instead")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name in one line the programs for want of which tests were skipped."""
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", []) if len(report.longrepr) == 3]
    line = peers.skipped_line(reasons)
    if line is not None:
        terminalreporter.write_line(line)
