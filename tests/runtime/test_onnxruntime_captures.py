"""ONNX Runtime's CUDA graphs on a module without a GPU: one thread, one lock of the process, nothing half captured."""

from __future__ import annotations

import traceback
import weakref
from pathlib import Path
from threading import Thread, current_thread

import pytest

from tests.runtime import fake_onnxruntime
from tests.runtime.fake_onnxruntime import FakeOnnxRuntime
from tests.runtime.recording_device import CALLERS, SHAPE, load, run_prior, runs, step_addresses
from verdiff.errors import BackendError
from verdiff.runtime.backends import capturing, onnxruntime_cuda, providers


def test_a_thread_for_every_call_is_one_thread_for_onnxruntime(bundle_path: Path, module: FakeOnnxRuntime) -> None:
    networks, _ = load(bundle_path, module)
    step = networks.open("step", SHAPE, (0, 0), CALLERS)
    for _ in range(100):
        thread = Thread(target=step.enqueue, args=(step_addresses(0), CALLERS))
        thread.start()
        thread.join()
    assert len(runs(module)) == 100
    assert len({entries["gpu_graph_id"] for *_, entries in runs(module)}) == 1
    (only,) = module.threads
    assert only is not current_thread()
    assert only.is_alive()
    networks.close()
    only.join(30)
    assert not only.is_alive()


def test_the_device_s_context_is_current_where_the_sessions_run(bundle_path: Path, module: FakeOnnxRuntime) -> None:
    networks, driver = load(bundle_path, module)
    found: list[bool] = []
    module.during = lambda entries: found.append(driver.current.context)
    run_prior(networks)
    assert found == [True]


def test_without_graphs_runs_stay_in_their_caller_s_thread(bundle_path: Path, module: FakeOnnxRuntime) -> None:
    networks, _ = load(bundle_path, module, graphs=False)
    run_prior(networks)
    assert module.threads == {current_thread()}


@pytest.mark.parametrize(
    ("backend", "graphs", "held"),
    [
        ("onnxruntime", True, [True, False, False, False]),
        ("onnxruntime", False, [True, False, False, False]),
        ("onnxruntime-tensorrt-rtx", True, [True, True, True, False]),
    ],
)
def test_nobody_takes_memory_while_a_binding_is_captured(
    bundle_path: Path,
    module: FakeOnnxRuntime,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    graphs: bool,
    held: list[bool],
) -> None:
    monkeypatch.setenv(providers.TF32_SWITCH, "0")
    networks, _ = load(bundle_path, module, backend=backend, graphs=graphs)
    found: list[bool] = []
    module.during = lambda entries: found.append(capturing._LOCK.locked())
    step = networks.open("step", SHAPE, (0, 0), CALLERS)
    for _ in held:
        step.enqueue(step_addresses(0), CALLERS)
    assert found == held
    assert not capturing._LOCK.locked()


def test_nobody_takes_memory_while_sessions_are_opened_and_closed(
    bundle_path: Path, module: FakeOnnxRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[bool] = []
    monkeypatch.setattr(onnxruntime_cuda, "require_placement", lambda *asked: found.append(capturing._LOCK.locked()))
    networks, _ = load(bundle_path, module)
    weakref.finalize(module.sessions.pop(0), lambda: found.append(capturing._LOCK.locked()))
    networks.close()
    assert found == [True, True, True]


@pytest.mark.parametrize("graphs", [True, False])
def test_an_error_that_is_held_keeps_no_session(bundle_path: Path, module: FakeOnnxRuntime, graphs: bool) -> None:
    networks, _ = load(bundle_path, module, graphs=graphs)
    fail_once(module, "CUDA error 2: out of memory")
    with pytest.raises(BackendError) as held:
        run_prior(networks)
    sessions = [weakref.ref(session) for session in module.sessions]
    module.sessions.clear()
    assert held.value.__cause__ is not None
    for frame, _ in traceback.walk_tb(held.value.__cause__.__traceback__):
        # onnxruntime's own call is C and leaves no frame.
        if frame.f_code.co_filename == fake_onnxruntime.__file__:
            frame.clear()
    networks.close()
    assert [session() for session in sessions] == [None, None]
    assert "memory" in held.value.expected


CAPTURE_ERRORS = (
    "CUDA failure 900: operation not permitted when stream is capturing ; GPU=0",
    "CUDA failure 901: operation failed due to a previous error during capture ; GPU=0",
    "CUDAGraph::CaptureEnd: graph_ is NULL",
    "Graph capture did not complete after 8 runs",
)


def fail_once(module: FakeOnnxRuntime, said: str) -> None:
    def fail(entries: dict[str, str]) -> None:
        module.during = lambda entries: None
        raise RuntimeError(said)

    module.during = fail


@pytest.mark.parametrize("said", CAPTURE_ERRORS)
def test_after_a_capture_that_failed_nothing_more_is_put_on_its_stream(
    bundle_path: Path, module: FakeOnnxRuntime, said: str
) -> None:
    networks, driver = load(bundle_path, module)
    fail_once(module, said)
    with pytest.raises(BackendError, match="could not capture a CUDA graph") as caught:
        run_prior(networks)
    assert "load the Segmenter again" in caught.value.remedy and "graphs=False" in caught.value.remedy
    module.log.clear()
    with pytest.raises(BackendError, match="could not capture a CUDA graph"):
        networks.open("step", SHAPE, (0, 0), CALLERS).enqueue(step_addresses(0), CALLERS)
    assert module.log == []
    networks.close()
    assert driver.held == set()


@pytest.mark.parametrize("graphs", [False, True])
def test_another_library_s_capture_is_no_failure_of_ours(
    bundle_path: Path, module: FakeOnnxRuntime, graphs: bool
) -> None:
    networks, _ = load(bundle_path, module, graphs=graphs)
    prior = networks.open("prior", SHAPE, (0, 0), CALLERS)
    addresses = {"image": 1, "prior": 10, "feature_0": 11}
    if graphs:
        prior.enqueue(addresses, CALLERS)
    fail_once(module, CAPTURE_ERRORS[0])
    with pytest.raises(BackendError, match="while another thread captured") as caught:
        prior.enqueue(addresses, CALLERS)
    assert "call again" in caught.value.remedy
    prior.enqueue(addresses, CALLERS)


def test_a_graph_s_number_is_not_used_again_after_an_error(bundle_path: Path, module: FakeOnnxRuntime) -> None:
    """ONNX Runtime ends a capture after an error too, and would replay the half that was written down."""
    networks, _ = load(bundle_path, module)
    step, ids = networks.open("step", SHAPE, (0, 0), CALLERS), list[str]()
    fail_once(module, "CUDA failure 2: out of memory")
    failing = module.during
    module.during = lambda entries: (ids.append(entries["gpu_graph_id"]), failing(entries))[0]
    with pytest.raises(BackendError, match="out of memory"):
        step.enqueue(step_addresses(0), CALLERS)
    step.enqueue(step_addresses(0), CALLERS)
    assert ids and runs(module)[-1][4]["gpu_graph_id"] not in ids
