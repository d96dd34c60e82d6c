"""Busy and idle from intervals that overlap, touch and leave gaps; calls counted by kind."""

from __future__ import annotations

import pytest
import torch

from verdiff.benchmarks.gpu.trace import make_trace, trace_loop
from verdiff.errors import BackendError


def test_overlapping_kernels_are_busy_once_and_gaps_are_idle() -> None:
    trace = make_trace([(2.0, 3.0), (0.0, 1.0), (0.5, 1.5), (2.5, 2.75)], [], steps=2)
    assert (trace.span_s, trace.busy_s) == (3.0, 2.5)
    assert trace.busy_share == pytest.approx(2.5 / 3)
    assert trace.idle_a_step_s == pytest.approx(0.25)


def test_a_trace_without_a_kernel_has_no_idle_time() -> None:
    trace = make_trace([], [], steps=3)
    assert (trace.busy_share, trace.idle_a_step_s) == (1.0, 0.0)


def test_waits_copies_and_allocations_are_told_apart() -> None:
    names = ["cudaGraphLaunch", "cudaStreamSynchronize", "cudaMemcpyAsync", "cuMemcpyHtoDAsync_v2", "cudaMalloc"]
    trace = make_trace([(0, 1)], [*names, "aten::conv2d", "cudaLaunchKernel"], steps=1)
    assert dict(trace.calls) == {"waits": 1, "copies": 2, "allocations": 1}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU that PyTorch drives")
def test_without_a_pytorch_that_drives_a_gpu_nothing_listens() -> None:
    with pytest.raises(BackendError, match="finds no GPU"):
        trace_loop(lambda: None, 1)
