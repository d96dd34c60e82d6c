"""ONNX Runtime on a GPU against a module that writes down what it is asked: order, addresses, graphs, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.runtime import recording_device
from tests.runtime.fake_onnxruntime import FakeOnnxRuntime, Part
from tests.runtime.recording_device import (
    CALLERS,
    SHAPE,
    RecordingDriver,
    load,
    run_prior,
    runs,
    step_addresses,
)
from tests.runtime.tiny_bundle import write_tiny_half
from verdiff.bundle import open_bundle
from verdiff.diffusion.step_graph import step_graph
from verdiff.errors import BackendError
from verdiff.runtime.backends import onnxruntime_cuda, providers
from verdiff.runtime.backends.onnxruntime_cuda import MOST_GRAPHS, OnnxNetworks
from verdiff.runtime.device.network import CallShape

MAPS = (2, 3, 8, 12)


def test_a_step_waits_for_the_caller_s_stream_and_the_caller_s_stream_for_it(
    bundle_path: Path, module: FakeOnnxRuntime
) -> None:
    networks, driver = load(bundle_path, module)
    own = int(module.sessions[0].asked[0][1]["user_compute_stream"])
    step = networks.open("step", SHAPE, (0, 0), CALLERS)
    step.enqueue(step_addresses(0), CALLERS)
    assert [entry[0] for entry in module.log] == ["record", "wait", "run", "record", "wait"]
    begun, done = module.log[0][1], module.log[3][1]
    assert module.log[:2] == [("record", begun, CALLERS), ("wait", own, begun)]
    assert module.log[3:] == [("record", done, own), ("wait", CALLERS, done)]
    assert own in driver.held


def test_from_the_prior_to_the_last_step_everything_stays_at_its_address_on_the_device(
    bundle_path: Path, module: FakeOnnxRuntime
) -> None:
    networks, _ = load(bundle_path, module)
    prior, step = (networks.open(role, SHAPE, (0, 0), CALLERS) for role in ("prior", "step"))
    prior.enqueue({"image": 1, "prior": 10, "feature_0": 11}, CALLERS)
    for number in range(3):
        step.enqueue(step_addresses(number), CALLERS)
    (_, _, given, made, _), *steps = runs(module)
    assert given == {"image": ("cuda", 1, np.float32, (2, 1, 8, 12), 1)}
    assert made["feature_0"] == ("cuda", 1, np.float32, (2, 1, 8, 12), 11)
    for number, (_, _, inputs, outputs, entries) in enumerate(steps):
        assert inputs["feature_0"] == made["feature_0"]
        assert inputs["prior"] == made["prior"] == ("cuda", 1, np.float32, MAPS, 10)
        assert (inputs["row"][3], inputs["timestep"][3]) == ((5,), (2,))
        if number:
            assert inputs["x"] == steps[number - 1][3]["x_next"]
            assert inputs["previous"] == steps[number - 1][3]["x0hat"]
        assert outputs["x_next"][4] != inputs["x"][4]
        assert entries["disable_synchronize_execution_providers"] == "1"
    devices = {bound[0] for run in runs(module) for side in run[2:4] for bound in side.values()}
    assert devices == {"cuda"}


def test_each_step_is_a_graph_of_its_own_and_the_same_one_the_next_time(
    bundle_path: Path, module: FakeOnnxRuntime
) -> None:
    networks, _ = load(bundle_path, module)
    step = networks.open("step", SHAPE, (0, 0), CALLERS)
    for _ in range(2):
        for number in range(3):
            step.enqueue(step_addresses(number), CALLERS)
    ids = [entries["gpu_graph_id"] for *_, entries in runs(module)]
    assert ids[:3] == ids[3:]
    assert len(set(ids)) == 3
    assert module.sessions[0].asked[0][1]["enable_cuda_graph"] == "1"


def test_another_shape_never_replays_an_earlier_shape_s_graph(bundle_path: Path, module: FakeOnnxRuntime) -> None:
    networks, _ = load(bundle_path, module)
    for shape in (SHAPE, CallShape(1, 16, 12)):
        networks.open("step", shape, (0, 0), CALLERS).enqueue(step_addresses(0), CALLERS)
    first, second = runs(module)
    assert first[4]["gpu_graph_id"] != second[4]["gpu_graph_id"]
    assert second[2]["x"][3] == (1, 3, 16, 12)


def test_there_is_an_end_to_the_graphs_a_session_keeps(bundle_path: Path, module: FakeOnnxRuntime) -> None:
    networks, _ = load(bundle_path, module)
    step = networks.open("step", SHAPE, (0, 0), CALLERS)
    for number in range(MOST_GRAPHS + 2):
        step.enqueue({**step_addresses(0), "noise": 1000 + number}, CALLERS)
    ids = [entries["gpu_graph_id"] for *_, entries in runs(module)]
    assert (ids[MOST_GRAPHS - 1], ids[MOST_GRAPHS:]) == (str(MOST_GRAPHS), ["-1", "-1"])


def test_tensorrt_s_provider_keeps_one_graph_and_so_gets_none(
    bundle_path: Path, module: FakeOnnxRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(providers.TF32_SWITCH, "0")
    networks, _ = load(bundle_path, module, backend="onnxruntime-tensorrt")
    assert not networks.graphs
    assert module.sessions[0].asked[0][1]["trt_cuda_graph_enable"] == "0"
    with pytest.raises(BackendError, match="keeps one and replays it for every step"):
        load(bundle_path, module, backend="onnxruntime-tensorrt", graphs=True)


def test_fp32_that_would_be_tf32_is_refused(
    bundle_path: Path, module: FakeOnnxRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(providers.TF32_SWITCH, raising=False)
    with pytest.raises(BackendError, match="computes fp32 in TF32"):
        load(bundle_path, module, backend="onnxruntime-tensorrt")


def test_a_context_that_is_not_the_primary_one_is_refused(
    bundle_path: Path, module: FakeOnnxRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecordingDriver, "is_primary", False)
    with pytest.raises(BackendError, match="a CUDA context on cuda:1 that a program made for itself") as caught:
        load(bundle_path, module)
    assert "--backend tensorrt" in caught.value.remedy
    assert "pycuda.driver.Device(1).retain_primary_context()" in caught.value.remedy
    monkeypatch.setattr(RecordingDriver, "is_primary", True)
    load(bundle_path, module)


@pytest.mark.parametrize("priority", [None, -3])
def test_networks_run_at_the_priority_that_was_asked_for(
    bundle_path: Path, module: FakeOnnxRuntime, priority: int | None
) -> None:
    _, driver = load(bundle_path, module, priority=priority)
    assert driver.priority == priority


def test_layers_that_onnxruntime_puts_on_the_cpu_are_refused(bundle_path: Path, module: FakeOnnxRuntime) -> None:
    module.placed = (Part("CUDAExecutionProvider", ("Tanh",)), Part("CPUExecutionProvider", ("Conv",)))
    with pytest.raises(BackendError, match="layers of the prior graph on the CPU: Conv"):
        load(bundle_path, module)


def test_the_gpu_is_used_by_its_number_and_without_a_way_back(bundle_path: Path, module: FakeOnnxRuntime) -> None:
    load(bundle_path, module)
    assert [session.enable_fallback for session in module.sessions] == [0, 0]
    for session in module.sessions:
        ((name, options),) = session.asked
        assert (name, options["device_id"]) == ("CUDAExecutionProvider", "1")


REFUSAL = RuntimeError(
    "This session cannot use the graph capture feature as requested by the user as all compute graph nodes"
)


def test_graphs_are_left_out_where_the_provider_cannot(bundle_path: Path, module: FakeOnnxRuntime) -> None:
    module.refuses["enable_cuda_graph"] = REFUSAL
    networks, _ = load(bundle_path, module)
    assert not networks.graphs
    run_prior(networks)
    assert "gpu_graph_id" not in runs(module)[0][4]


def test_no_session_keeps_its_graphs_when_a_later_one_cannot_have_any(
    bundle_path: Path, module: FakeOnnxRuntime
) -> None:
    """A prior with graphs, run without a graph's number, would replay its first addresses for ever."""
    module.refuses["enable_cuda_graph"], module.allows = REFUSAL, 1
    networks, _ = load(bundle_path, module)
    assert not networks.graphs
    with_graphs, *kept = (session.asked[0][1]["enable_cuda_graph"] for session in module.sessions)
    assert (with_graphs, kept) == ("1", ["0", "0"])


def test_graphs_that_were_asked_for_are_not_left_out(bundle_path: Path, module: FakeOnnxRuntime) -> None:
    module.refuses["enable_cuda_graph"] = REFUSAL
    with pytest.raises(BackendError, match="cannot use the graph capture feature"):
        load(bundle_path, module, graphs=True)


def test_another_failure_is_no_reason_to_try_without_graphs(bundle_path: Path, module: FakeOnnxRuntime) -> None:
    module.refuses["enable_cuda_graph"] = RuntimeError("CUDA failure 46: all CUDA-capable devices are busy")
    with pytest.raises(BackendError, match="devices are busy"):
        load(bundle_path, module)


def test_what_was_taken_is_given_back_when_a_graph_cannot_be_loaded(
    bundle_path: Path, module: FakeOnnxRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[RecordingDriver] = []

    class Kept(RecordingDriver):
        def __init__(self, log: list[tuple[Any, ...]]) -> None:
            super().__init__(log)
            taken.append(self)

    monkeypatch.setattr(recording_device, "RecordingDriver", Kept)
    module.given = ["CPUExecutionProvider"]
    with pytest.raises(BackendError, match="gave CPUExecutionProvider"):
        load(bundle_path, module)
    assert taken[0].held == set()


def test_closing_gives_back_streams_and_events(bundle_path: Path, module: FakeOnnxRuntime) -> None:
    networks, driver = load(bundle_path, module)
    networks.close()
    assert driver.held == set()


@pytest.mark.parametrize(
    ("said", "remedy"),
    [("CUDA failure 2: out of memory", "free device memory"), ("CUDA failure 700: illegal address", "Xid")],
)
def test_a_run_that_fails_says_what_to_do(
    bundle_path: Path, module: FakeOnnxRuntime, monkeypatch: pytest.MonkeyPatch, said: str, remedy: str
) -> None:
    networks, _ = load(bundle_path, module)

    def fail(self: Any, binding: Any, options: Any) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(type(module.sessions[0]), "run_with_iobinding", fail)
    with pytest.raises(BackendError, match=said) as caught:
        run_prior(networks)
    assert remedy in caught.value.remedy


def test_fp16_on_tensorrt_s_provider_is_refused_with_the_reason(bundle_path: Path, module: FakeOnnxRuntime) -> None:
    with pytest.raises(BackendError, match="precision fp16 with ONNX Runtime's TensorRT provider") as caught:
        load(bundle_path, module, backend="onnxruntime-tensorrt", precision="fp16")
    assert "--backend tensorrt" in caught.value.remedy


def test_a_model_without_a_denoiser_has_a_prior_only(single_pass_path: Path, module: FakeOnnxRuntime) -> None:
    networks, _ = load(single_pass_path, module)
    assert networks.roles == ("prior",)


class HostSession:
    """A real session on the CPU behind the same calls, so that binding to addresses is run, not only written down."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self.session = session
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs
        self.run_with_iobinding = session.run_with_iobinding

    def io_binding(self) -> Any:
        binding = self.session.io_binding()
        real_input, real_output = binding.bind_input, binding.bind_output

        class OnHost:
            _session, _iobinding = binding._session, binding._iobinding

            def bind_input(self, name: str, device: str, number: int, *rest: Any) -> None:
                real_input(name, "cpu", 0, *rest)

            def bind_output(self, name: str, device: str, number: int, *rest: Any) -> None:
                real_output(name, "cpu", 0, *rest)

        return OnHost()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_same_bindings_run_on_real_sessions_and_real_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Prior, then two steps, all through addresses, against the same graphs given arrays."""
    bundle = open_bundle(write_tiny_half(tmp_path / "half.verdiff"))

    def on_cpu(module: Any, graph: bytes, role: str, *rest: Any, **options: Any) -> HostSession:
        return HostSession(onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]))

    monkeypatch.setattr(onnxruntime_cuda, "require_provider", lambda *asked: None)
    monkeypatch.setattr(onnxruntime_cuda, "require_placement", lambda *asked: None)
    monkeypatch.setattr(onnxruntime_cuda, "open_session", on_cpu)
    networks = OnnxNetworks(
        bundle,
        RecordingDriver([]),  # type: ignore[arg-type]
        backend="onnxruntime",
        precision=precision,
        threads=1,
        graphs=False,
    )
    kind = {"fp32": np.float32, "fp16": np.float16}[precision]
    assert networks.features[0].dtype == kind
    random = np.random.default_rng(4)
    image = random.uniform(-1, 1, (2, 1, 8, 12)).astype(np.float32)
    prior, feature = np.zeros(MAPS, np.float32), np.zeros((2, 1, 8, 12), kind)
    networks.open("prior", SHAPE, (0, 0), 0).enqueue(
        {"image": image.ctypes.data, "prior": prior.ctypes.data, "feature_0": feature.ctypes.data}, 0
    )
    real = onnxruntime.InferenceSession(bundle.graph("prior", precision), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(prior, real.run(["prior"], {"image": image})[0])

    x, x0hat = random.standard_normal((2, *MAPS)).astype(np.float32), np.zeros((2, *MAPS), np.float32)
    noise = random.standard_normal((2, *MAPS)).astype(np.float32)
    rows = np.array([[0.5, 0.25, 0.125, 2, 0], [1, 0.5, 0, 0.25, -0.5]], np.float32)
    timesteps = np.array([[700, 700], [300, 300]], np.float32)
    step = networks.open("step", SHAPE, (0, 0), 0)
    graph = step_graph(bundle.graph("denoiser", precision))
    real = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    expected_x, expected_x0hat = x[0].copy(), [x0hat[1].copy()]
    for number in range(2):
        feed = {"x": expected_x, "prior": prior, "feature_0": feature, "row": rows[number], "noise": noise[number]}
        feed |= {"timestep": timesteps[number], "previous": expected_x0hat[-1]}
        expected_x, found = real.run(["x_next", "x0hat"], feed)
        expected_x0hat.append(found)
        arrays = {"x": x[number % 2], "x_next": x[(number + 1) % 2], "x0hat": x0hat[number % 2]}
        arrays |= {"previous": x0hat[(number + 1) % 2], "prior": prior, "feature_0": feature, "row": rows[number]}
        arrays |= {"noise": noise[number], "timestep": timesteps[number]}
        step.enqueue({name: array.ctypes.data for name, array in arrays.items()}, 0)
    np.testing.assert_array_equal(x[0], expected_x)
    np.testing.assert_array_equal(x0hat[1], expected_x0hat[-1])
