"""ONNX Runtime's CUDA provider on a real GPU: the host's masks, with and without CUDA graphs, and memory that stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest

from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.tiny_bundle import write_tiny_half
from verdiff.benchmarks.gpu.rivals import segmenter_of
from verdiff.benchmarks.gpu.workload import Workload
from verdiff.bundle import open_bundle
from verdiff.errors import BackendError
from verdiff.nvidia import require_gpu
from verdiff.options import LoadOptions
from verdiff.runtime import Segmenter
from verdiff.runtime.backends.providers import CUDA, require_provider

pytestmark = pytest.mark.gpu
OPTIONS: dict[str, Any] = {"samples": 3, "steps": 4, "sampler": "ddpm", "seed": 11}


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_half(tmp_path_factory.mktemp("bundle") / "half.verdiff")


@pytest.fixture
def on_cuda(device: str, bundle_path: Path) -> Any:
    """Opens the tiny model; skipped where onnxruntime is the package for the CPU."""
    import onnxruntime

    try:
        require_provider(onnxruntime, CUDA, device)
    except BackendError as error:
        pytest.skip(error.found)

    def opened(precision: str = "fp32", graphs: bool | None = None) -> Segmenter:
        from verdiff.runtime.device.opening import open_device

        bundle = open_bundle(bundle_path)
        backend = open_device(bundle, "onnxruntime", LoadOptions(device=device, precision=precision, graphs=graphs))
        return segmenter_of(Workload(bundle, size=(32, 32)), backend)

    return opened


@pytest.mark.parametrize(("precision", "share"), [("fp32", 0.9999), ("fp16", 0.99)])
def test_the_mask_is_the_host_s(on_cuda: Any, precision: str, share: float) -> None:
    expected = numpy_segmenter().segment(mr_scan(), **OPTIONS)
    with on_cuda(precision) as segmenter:
        found = segmenter.segment(mr_scan(), **OPTIONS)
    assert np.mean(found.labels == expected.labels) >= share


def test_cuda_graphs_change_no_bit(on_cuda: Any) -> None:
    masks = []
    for graphs in (False, True):
        with on_cuda(graphs=graphs) as segmenter:
            for _ in range(3):
                result = segmenter.segment(mr_scan(), **OPTIONS)
            masks.append((result.labels, result.uncertainty))
    for plain, replayed in zip(*masks, strict=True):
        np.testing.assert_array_equal(plain, replayed)


def test_a_self_test_passes_through_the_public_door(on_cuda: Any, device: str, bundle_path: Path) -> None:
    with Segmenter.load(bundle_path, device=device) as segmenter:
        assert segmenter.backend.name == "onnxruntime"
        assert set(segmenter.differences) == {"prior", "denoiser", "labels"}


def test_a_hundred_calls_take_no_more_memory_than_five(on_cuda: Any, device: str) -> None:
    with on_cuda() as segmenter:
        free = []
        for count in (5, 100):
            for _ in range(count):
                segmenter.segment(mr_scan(), **OPTIONS)
            free.append(require_gpu(device)[1].free_bytes)
    assert_flat(free)


def test_a_thread_for_every_call_takes_no_more_memory_than_five(on_cuda: Any, device: str) -> None:
    """ONNX Runtime keeps handles of cuBLAS and cuDNN, and every graph, for each thread that it is called from."""
    with on_cuda(graphs=True) as segmenter:
        free = []
        for count in (5, 50):
            for _ in range(count):
                thread = Thread(target=segmenter.segment, args=(mr_scan(),), kwargs=OPTIONS)
                thread.start()
                thread.join()
            free.append(require_gpu(device)[1].free_bytes)
    assert_flat(free)


def test_loading_and_capturing_at_once_in_several_threads_give_one_thread_s_masks(on_cuda: Any) -> None:
    """A capture of ONNX Runtime's forbids memory to every other thread of the process."""
    with on_cuda(graphs=True) as segmenter:
        expected = segmenter.segment(mr_scan(), **OPTIONS)
    together = Barrier(4)

    def work(number: int) -> list[Any]:
        found = []
        together.wait()
        for _ in range(5):
            with on_cuda(graphs=True) as segmenter:
                found += [segmenter.segment(mr_scan(), **OPTIONS).labels for _ in range(2)]
        return found

    with ThreadPoolExecutor(4) as pool:
        for labels in chain.from_iterable(pool.map(work, range(4))):
            np.testing.assert_array_equal(labels, expected.labels)


def test_a_context_that_is_not_the_primary_one_is_refused(on_cuda: Any, device: str) -> None:
    driver = pytest.importorskip("cuda.bindings.driver")
    status, number = driver.cuDeviceGet(require_gpu(device)[1].index)
    assert int(status) == 0
    # CUDA 13 has parameters of the creation in front of the flags.
    status, context = driver.cuCtxCreate(None, 0, number)
    assert int(status) == 0
    try:
        with pytest.raises(BackendError, match="that a program made for itself"):
            on_cuda()
    finally:
        driver.cuCtxDestroy(context)


def assert_flat(free: list[int | None]) -> None:
    """That no more than noise was taken between two looks at the free memory."""
    before, after = free
    if before is None or after is None:
        pytest.skip("the driver does not tell how much memory is free")
    assert before - after < 8 << 20
