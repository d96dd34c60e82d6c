"""The step graph repeats the host loop: any table, any row, whatever the denoiser computes in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.runtime.tiny_bundle import NumpyBackend, denoiser_graph
from verdiff.diffusion import Process, SamplerTable, Schedule, StepState, make_table, noise_source, run_loop
from verdiff.errors import BundleError
from verdiff.export.step_graph import build_step
from verdiff.runtime.backends.step_graph import step_graph

Maps = NDArray[np.float32]
PROCESS = Process("verdiff", Schedule("linear", 1000), 0.5)
TABLES = {
    "ddim, eta 0": make_table(PROCESS, sampler="ddim", steps=4),
    "ddim, eta 0.7": make_table(PROCESS, sampler="ddim", steps=4, eta=0.7),
    "ddpm": make_table(PROCESS, sampler="ddpm", steps=3),
    "dpmpp-2m": make_table(PROCESS, sampler="dpmpp-2m", steps=5),
    "from the prior": make_table(PROCESS, sampler="ddim", steps=3, start="prior", start_step=400),
}


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def conditions() -> tuple[Maps, Maps]:
    """Prior [2, 3, 12, 8] and feature [2, 1, 12, 8] of a generated image."""
    image = np.clip(noise_source(3, slices=[0, 1], samples=[0, 0], shape=(1, 12, 8))(0), -1, 1)
    prior, (feature,) = NumpyBackend().prior(image.astype(np.float32))
    return prior, feature


def device_loop(model: onnx.ModelProto, table: SamplerTable, prior: Maps, feature: NDArray, noise: object) -> list:
    """What a device does: x, x0hat and the x0hat before go from step to step; (x, x0hat) of every row."""
    step, rows = session(model), table.coefficients.astype(np.float32)
    on_prior, on_noise = table.start.astype(np.float32)
    x = on_prior * prior + on_noise * noise(0)  # type: ignore[operator]
    previous, seen = np.zeros_like(prior), []
    for row, timestep in enumerate(table.timesteps):
        feed = {
            "x": x,
            "timestep": np.full(len(x), timestep, np.float32),
            "prior": prior,
            "feature_0": feature,
            "row": rows[row],
            "noise": noise(row + 1) if table.needs_noise(row) else np.zeros_like(prior),  # type: ignore[operator]
            "previous": previous,
        }
        following, x0hat = step.run(["x_next", "x0hat"], feed)
        seen.append((x, x0hat))
        x, previous = following, x0hat
    return seen


@pytest.mark.parametrize("name", TABLES)
def test_stepping_through_the_graph_is_the_host_loop(name: str) -> None:
    table, (prior, feature) = TABLES[name], conditions()
    noise = noise_source(35, slices=[0, 1], samples=[0, 0], shape=prior.shape[1:])
    denoiser = session(onnx.load_from_string(denoiser_graph()))

    def denoise(x: Maps, timestep: int) -> Maps:
        feed = {"x": x, "timestep": np.full(len(x), timestep, np.float32), "prior": prior, "feature_0": feature}
        return denoiser.run(None, feed)[0]

    expected: list[tuple[Maps, Maps]] = []

    def keep(state: StepState) -> None:
        expected.append((state.x.copy(), state.x0hat))

    run_loop(denoise, table, prior, noise, on_step=keep)
    found = device_loop(build_step(onnx.load_from_string(denoiser_graph())), table, prior, feature, noise)
    assert len(found) == len(expected) == len(table)
    for (x, x0hat), (x_host, x0hat_host) in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, x_host, rtol=0, atol=2e-6)
        np.testing.assert_allclose(x0hat, x0hat_host, rtol=0, atol=2e-6)


@pytest.mark.parametrize("column", range(5))
def test_each_coefficient_multiplies_its_own_input(column: int) -> None:
    prior, feature = conditions()
    others = [noise_source(seed, slices=[0, 1], samples=[0, 0], shape=prior.shape[1:])(0) for seed in (1, 2, 4)]
    row = np.zeros(5, np.float32)
    row[column] = 1
    feed = {"x": others[0], "timestep": np.full(2, 300, np.float32), "prior": prior, "feature_0": feature, "row": row}
    feed |= {"noise": others[1], "previous": others[2]}
    x_next, x0hat = session(build_step(onnx.load_from_string(denoiser_graph()))).run(["x_next", "x0hat"], feed)
    assert np.array_equal(x_next, (others[0], x0hat, prior, others[1], others[2])[column])


@pytest.mark.parametrize("name", TABLES)
def test_the_runtimes_step_made_without_onnx_gives_the_same_bits(name: str) -> None:
    table, (prior, feature) = TABLES[name], conditions()
    noise = noise_source(35, slices=[0, 1], samples=[0, 0], shape=prior.shape[1:])
    ours = build_step(onnx.load_from_string(denoiser_graph()))
    theirs = onnx.load_from_string(step_graph(denoiser_graph()))
    loops = [device_loop(model, table, prior, feature, noise) for model in (ours, theirs)]
    for (x, x0hat), (x_theirs, x0hat_theirs) in zip(*loops, strict=True):
        assert np.array_equal(x, x_theirs) and np.array_equal(x0hat, x0hat_theirs)


def half_denoiser() -> onnx.ModelProto:
    """x0hat = x / 3 + feature, computed and declared in float16 throughout."""
    half = TensorProto.FLOAT16

    def info(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, half, shape)

    maps: list[str | int] = ["N", 3, "H", "W"]
    nodes = [
        helper.make_node("Mul", ["x", "third"], ["small"], name="scale"),
        helper.make_node("Add", ["small", "feature_0"], ["x0hat"], name="add"),
    ]
    inputs = [info("x", maps), info("timestep", ["N"]), info("prior", maps), info("feature_0", ["N", 1, "H", "W"])]
    third = numpy_helper.from_array(np.float16(1 / 3), "third")
    graph = helper.make_graph(nodes, "denoiser", inputs, [info("x0hat", maps)], [third])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_the_update_is_float32_even_where_the_denoiser_is_float16() -> None:
    model = build_step(half_denoiser())
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert {name for name, kind in kinds.items() if kind != TensorProto.FLOAT} == {"feature_0"}
    prior, feature = conditions()
    # Numbers that float16 would round: the update must keep them whole.
    x = np.float32(1) + np.float32(2) ** -20 * np.arange(prior.size, dtype=np.float32).reshape(prior.shape)
    feed = {"x": x, "timestep": np.zeros(2, np.float32), "prior": prior, "feature_0": feature.astype(np.float16)}
    feed |= {"row": np.array([1, 0, 0, 0, 0], np.float32), "noise": 0 * x, "previous": 0 * x}
    (x_next,) = session(model).run(["x_next"], feed)
    assert np.array_equal(x_next, x)


def test_the_denoiser_s_nodes_keep_their_names_behind_a_prefix() -> None:
    names = {node.name for node in build_step(half_denoiser()).graph.node}
    assert {"step/denoiser/scale", "step/denoiser/add"} <= names


@pytest.mark.parametrize("problem", ["no x", "a stranger", "a whole number"])
def test_a_graph_that_is_no_denoiser_is_refused(problem: str) -> None:
    model = half_denoiser()
    if problem == "no x":
        del model.graph.input[0]
    elif problem == "a stranger":
        model.graph.input[3].name = "image"
    else:
        model.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(BundleError, match=r"denoiser graph with"):
        build_step(model)


def test_making_it_needs_no_torch(root: Path) -> None:
    code = "import verdiff.export.step_graph, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"
