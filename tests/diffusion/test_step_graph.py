"""The denoiser with the table's update behind it computes what the host loop does, and is a valid graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.runtime.tiny_bundle import NumpyBackend, denoiser_graph
from verdiff.diffusion import Process, Schedule, make_table, noise_source, run_loop
from verdiff.diffusion.step_graph import step_graph


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(step_graph(denoiser_graph()), providers=["CPUExecutionProvider"])


def test_the_graph_passes_onnx_s_checker_and_keeps_the_denoiser_s_nodes() -> None:
    model, before = onnx.load_from_string(step_graph(denoiser_graph())), onnx.load_from_string(denoiser_graph())
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node][: len(before.graph.node)] == [
        node.op_type for node in before.graph.node
    ]
    assert [i.name for i in model.graph.input][-3:] == ["row", "noise", "previous"]
    assert [o.name for o in model.graph.output] == ["x0hat", "x_next"]


def test_one_step_is_the_update_of_the_table(session: onnxruntime.InferenceSession) -> None:
    random = np.random.default_rng(2)
    x, prior, noise, previous = random.standard_normal((4, 2, 3, 8, 12)).astype(np.float32)
    feature = random.standard_normal((2, 1, 8, 12)).astype(np.float32)
    row = np.array([0.5, -0.25, 2.0, 0.125, 3.0], np.float32)
    feed = {"x": x, "prior": prior, "noise": noise, "previous": previous, "row": row, "feature_0": feature}
    x_next, x0hat = session.run(["x_next", "x0hat"], {**feed, "timestep": np.full(2, 400, np.float32)})
    np.testing.assert_allclose(x0hat, NumpyBackend().denoise(x, 400, prior, (feature,)), atol=1e-6)
    expected = row[0] * x + row[1] * x0hat + row[2] * prior + row[3] * noise + row[4] * previous
    np.testing.assert_array_equal(x_next, expected)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp-2m"])
def test_steps_one_after_another_are_the_host_s_loop_bit_for_bit(
    session: onnxruntime.InferenceSession, sampler: str
) -> None:
    table = make_table(Process("verdiff", Schedule("linear", 1000), 0.5), sampler=sampler, steps=4)
    backend, random = NumpyBackend(), np.random.default_rng(5)
    prior, features = backend.prior(random.uniform(-1, 1, (1, 1, 8, 8)).astype(np.float32))
    draw = noise_source(1, slices=[0], samples=[0], shape=prior.shape[1:])
    feed = {"prior": prior, "feature_0": features[0]}

    def denoise(x: np.ndarray, timestep: int) -> np.ndarray:
        zeros = {"noise": np.zeros_like(x), "previous": np.zeros_like(x), "row": np.zeros(5, np.float32)}
        return session.run(["x0hat"], {**feed, **zeros, "x": x, "timestep": np.full(1, timestep, np.float32)})[0]

    expected = run_loop(denoise, table, prior, draw)
    start = table.start.astype(np.float32)
    x, previous, x0hat = start[0] * prior + start[1] * draw(0), np.zeros_like(prior), prior
    for number, (timestep, row) in enumerate(zip(table.timesteps, table.coefficients.astype(np.float32), strict=True)):
        noise = draw(number + 1) if row[3] != 0 else np.zeros_like(x)
        feed |= {"x": x, "noise": noise, "previous": previous, "row": row}
        x, x0hat = session.run(["x_next", "x0hat"], {**feed, "timestep": np.full(1, timestep, np.float32)})
        previous = x0hat
    np.testing.assert_array_equal(x0hat, expected)
