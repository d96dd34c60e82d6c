"""The case as a whole with stand-ins for rivals: what is a row, what is a reason, what is held against an aim."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from verdiff.benchmarks.cases import Options, gpu
from verdiff.benchmarks.cases.gpu import EAGER_FP16, compare, factories, figures
from verdiff.benchmarks.gpu.rivals import GpuRival
from verdiff.benchmarks.gpu.table import RivalFigures
from verdiff.benchmarks.gpu.trace import Trace, make_trace
from verdiff.benchmarks.gpu.workload import Workload
from verdiff.benchmarks.timing import Timing
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.nvidia import Gpu, InstalledDriver

pytestmark = pytest.mark.usefixtures("no_waiting")

OPTIONS = Options(repeats=3, warmup=1)


class StandIn:
    """A rival on the CPU that counts what is asked of it."""

    def __init__(self, mask: np.ndarray, same_weights: bool = True) -> None:
        self.mask, self.same_weights = mask, same_weights
        self.volumes = self.loops = self.closed = 0

    def __call__(self, workload: Workload) -> GpuRival:
        return GpuRival(self._volume, self._loop, 20, self.same_weights, self._close)

    def _volume(self) -> np.ndarray:
        self.volumes += 1
        return self.mask

    @contextmanager
    def _loop(self) -> Iterator[Callable[[], object]]:
        def call() -> None:
            self.loops += 1

        yield call

    def _close(self) -> None:
        self.closed += 1


def missing(workload: Workload) -> GpuRival:
    raise BackendError("TensorRT is not installed", "TensorRT", install("tensorrt"))


def broken(workload: Workload) -> GpuRival:
    raise RuntimeError("CUDA error: out of memory\nCompile with ...")


@pytest.fixture
def reference() -> np.ndarray:
    return np.array([[[1, 1, 2, 0]]], np.uint8)


def run_with(workload: Workload, reference: np.ndarray, **rivals: Any) -> Any:
    memory = iter(range(100, 0, -10))
    return compare(
        workload,
        rivals,
        reference,
        OPTIONS,
        free=lambda: next(memory),
        trace=lambda loop, steps: make_trace([(0.0, 1.0), (2.0, 3.0)], ["cudaMalloc"], steps),
    )


def test_rivals_that_run_have_figures_and_those_that_do_not_their_reason(
    workload: Workload, reference: np.ndarray
) -> None:
    good, other = StandIn(reference), StandIn(np.zeros_like(reference), same_weights=False)
    outcome = run_with(workload, reference, good=good, other=other, TensorRT=missing, oom=broken)
    assert set(outcome.timings) == {"good", "other"}
    assert outcome.left_out["TensorRT"] == f"TensorRT is not installed; {install('tensorrt')}"
    assert outcome.left_out["oom"] == "CUDA error: out of memory"
    lines = outcome.page.splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == ["good", "other", "TensorRT", "oom"]
    assert outcome.results["good"]["dice_to_fp32"] == 1.0
    assert outcome.results["other"]["dice_to_fp32"] is None
    assert outcome.results["good"]["device_memory_bytes"] == 10
    assert outcome.results["good"]["calls_in_a_loop"] == {"waits": 0, "copies": 0, "allocations": 1}
    assert outcome.results["good"]["idle_a_step_s"] == pytest.approx(1 / 3)


def test_each_rival_is_checked_once_timed_in_rounds_and_given_back(workload: Workload, reference: np.ndarray) -> None:
    rival = StandIn(reference)
    outcome = run_with(workload, reference, good=rival)
    assert (rival.volumes, rival.loops, rival.closed) == (1 + 1 + 3, 1 + 3, 1)
    assert len(outcome.stages["good"]["loop"].seconds) == len(outcome.timings["good"].seconds) == 3


def test_without_a_listener_busy_and_idle_are_unknown_and_a_note_says_so(
    workload: Workload, reference: np.ndarray
) -> None:
    def deaf(loop: Callable[[], object], steps: int) -> Trace:
        raise BackendError("torch is not installed", "PyTorch with CUDA", "pip install torch")

    outcome = compare(workload, {"good": StandIn(reference)}, reference, OPTIONS, free=lambda: None, trace=deaf)
    assert outcome.results["good"]["busy_share"] is None
    assert outcome.results["good"]["device_memory_bytes"] is None
    assert any("torch is not installed" in note for note in outcome.notes)


def test_nothing_that_runs_is_one_error_with_every_reason(workload: Workload, reference: np.ndarray) -> None:
    with pytest.raises(BackendError, match="out of memory") as caught:
        run_with(workload, reference, TensorRT=missing, oom=broken)
    assert "TensorRT is not installed" in caught.value.found


def test_a_rival_that_fails_in_its_first_volume_is_given_back(workload: Workload, reference: np.ndarray) -> None:
    good, failing = StandIn(reference), StandIn(reference)

    def fail() -> np.ndarray:
        raise RuntimeError("NVRTC: no such architecture")

    failing._volume = fail  # type: ignore[method-assign]
    outcome = run_with(workload, reference, good=good, failing=failing)
    assert outcome.left_out == {"failing": "NVRTC: no such architecture"}
    assert failing.closed == 1


def test_a_machine_without_a_gpu_ends_with_one_clear_error() -> None:
    def nothing(device: str) -> tuple[InstalledDriver, Gpu]:
        raise BackendError("no NVIDIA driver", "a machine with an NVIDIA GPU", "use --device cpu")

    with pytest.raises(BackendError, match="no NVIDIA driver"):
        gpu.run(OPTIONS, require_gpu=nothing)


def test_the_rivals_are_those_the_documents_name() -> None:
    names = list(factories(OPTIONS))
    assert names[:2] == ["PyTorch eager fp32", EAGER_FP16]
    for kind in ("torch.compile", "ONNX Runtime CUDA", "CUDA graphs", "TensorRT fp16", "TensorRT-RTX"):
        assert any(kind in name for name in names)


def test_aims_are_held_against_the_runtime_only_and_against_eager_fp16() -> None:
    slow = RivalFigures(Timing((0.003,) * 3), Timing((0.5,) * 3), Trace(5, 1.0, 0.5, {}), None, None)
    quick = replace(slow, step=Timing((0.001,) * 3), volume=Timing((0.1,) * 3), trace=Trace(5, 1.0, 0.99999, {}))
    found = {figure.name: figure for figure in figures({EAGER_FP16: slow, "TensorRT fp16": quick})}
    assert len(found) == 3
    assert found["volume, TensorRT fp16"].met
    assert found[f"loop, times faster than {EAGER_FP16}, TensorRT fp16"].value == pytest.approx(3.0)
    assert found["idle a step, TensorRT fp16"].value == pytest.approx(2.0)
    assert not {figure.name: figure for figure in figures({"TensorRT fp16": slow})}["volume, TensorRT fp16"].met
