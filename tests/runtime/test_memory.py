"""The memory that is planned for a call against what a fresh process then takes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.scans import SAGITTAL
from tests.runtime.tiny_bundle import NumpyBackend, tiny_manifest
from verdiff.benchmarks.fresh import STATUS, peak_bytes, run_fresh
from verdiff.imaging import Geometry, Volume, plan_slices
from verdiff.options import SampleOptions
from verdiff.runtime import Segmenter, host
from verdiff.runtime.backends.laned import LanedBackend
from verdiff.runtime.clock import Clock
from verdiff.runtime.lanes import Lanes
from verdiff.runtime.memory import MemoryPlan, plan_memory
from verdiff.runtime.sampling import resolve_sampling

pytestmark = pytest.mark.skipif(not STATUS.is_file(), reason="the system does not tell a process's memory")


def planned_and_taken(model: str | None, slices: int, rows: int, cols: int, threads: int) -> dict[str, int]:
    """What the fresh process runs: bytes planned for a call, and those by which it raised the process's peak."""
    plans: list[MemoryPlan] = []

    def watched(*args: Any, **options: Any) -> MemoryPlan:
        plans.append(plan_memory(*args, **options))
        return plans[-1]

    # A mask that is not empty is looked at with SimpleITK. Libraries are not planned: to read a scan loads them before.
    importlib.import_module("SimpleITK")
    segmenter = Segmenter.load(model, backend="onnxruntime", threads=threads)
    numbers = np.random.default_rng(0).integers(0, 900, rows * cols).astype(np.int16)
    array = np.empty((slices, rows, cols), np.int16)
    array[:] = numbers.reshape(rows, cols)
    # Sagittal, at the pixel size of both models, so that nothing is resampled to another size.
    scan = Volume(array, Geometry((cols, rows, slices), (0.94, 0.94, 4.0), (0.0, 0.0, 0.0), SAGITTAL))
    before = next(
        int(line.split()[1]) << 10 for line in STATUS.read_text("utf-8").splitlines() if line.startswith("VmRSS:")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "plan_memory", watched)
        segmenter.segment(scan)
    peak = peak_bytes()
    assert peak is not None
    return {"planned": plans[0].bytes, "taken": peak - before}


@pytest.mark.parametrize(
    ("slices", "side", "limit", "in_lanes"),
    [(8, 300, None, True), (1, 300, None, False), (8, 900, None, False), (8, 300, 220 << 20, False)],
    ids=["many", "fewer than lanes", "large", "little memory"],
)
def test_slices_share_the_processor_where_the_memory_for_it_is_small_and_there(
    slices: int, side: int, limit: int | None, in_lanes: bool
) -> None:
    backend = LanedBackend(lambda lanes: NumpyBackend(), 2)
    manifest = tiny_manifest()
    geometry = Geometry((side, side, slices), (1.0, 1.0, 4.0), (0.0, 0.0, 0.0), SAGITTAL)
    plan = plan_slices(geometry, view="sagittal", spacing_mm=1.0, multiple=4)
    sampling = resolve_sampling(manifest, SampleOptions(samples=1), denoiser=True)
    with Lanes(2) as lanes:
        runner = host.HostRunner(backend, manifest, Clock(), lanes, limit)
        memory = runner.begin(plan, sampling, chunk=None, anytime=False)
    assert (runner.batcher.backend is backend.lane) == in_lanes
    assert memory.chunk == (2 if in_lanes else 1)
    assert limit is None or memory.bytes <= limit


def fresh(model: Path | None, slices: int, rows: int, cols: int, threads: int) -> dict[str, int]:
    task = {"model": None if model is None else str(model), "slices": slices, "rows": rows, "cols": cols}
    found: dict[str, int] = run_fresh(f"{__name__}:planned_and_taken", {**task, "threads": threads}).result
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_what_the_shipped_model_takes_is_planned(threads: int) -> None:
    found = fresh(None, 4, 352, 224, threads)
    assert 0.8 * found["taken"] < found["planned"] < 1.5 * found["taken"]


def test_what_a_scan_of_more_slices_takes_is_planned(bundle_path: Path) -> None:
    """With networks of a few multiplications, what is left is what the call keeps of every slice."""
    few, many = (fresh(bundle_path, slices, 240, 200, 1) for slices in (20, 180))
    planned, taken = (many[key] - few[key] for key in ("planned", "taken"))
    # The rest is what lies unused between buffers of a slice each.
    assert 0.75 * taken < planned < 1.1 * taken
