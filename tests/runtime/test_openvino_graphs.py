"""OpenVINO's networks: compiled for each size, group norms rewritten without changing what they give."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from verdiff.errors import BackendError
from verdiff.runtime.backends.openvino_graphs import KEPT, SizedNetwork, keep_layout

openvino = pytest.importorskip("openvino")
CHANNELS, GROUPS = 12, 3
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
GAIN, BIAS = np.linspace(0.5, 2, CHANNELS, dtype=np.float32), np.linspace(-1, 1, CHANNELS, dtype=np.float32)


def graph(*, grouped: bool = True, affine: bool = True, peek: bool = False) -> bytes:
    """``x`` [N, 12, H, W] -> ``y``: a norm as PyTorch's exporter writes it, through a convolution that copies.

    Args:
        grouped: Over groups of four channels, else over each channel.
        affine: With a gain and a bias a channel behind it.
        peek: With the normalised groups as a second output, so that they have two readers.
    """
    parts = GROUPS if grouped else CHANNELS
    constants = {
        "kernel": np.eye(CHANNELS, dtype=np.float32).reshape(CHANNELS, CHANNELS, 1, 1),
        "groups": np.array([0, GROUPS, -1]),
        "ones": np.ones(parts, np.float32),
        "zeros": np.zeros(parts, np.float32),
        "gain": GAIN.reshape(-1, 1, 1),
        "bias": BIAS.reshape(-1, 1, 1),
    }
    nodes = [helper.make_node("Conv", ["x", "kernel"], ["maps"])]
    if grouped:
        nodes += [
            helper.make_node("Reshape", ["maps", "groups"], ["apart"]),
            helper.make_node("InstanceNormalization", ["apart", "ones", "zeros"], ["normed"]),
            helper.make_node("Shape", ["maps"], ["shape"]),
            helper.make_node("Reshape", ["normed", "shape"], ["plain"]),
        ]
    else:
        nodes.append(helper.make_node("InstanceNormalization", ["maps", "ones", "zeros"], ["plain"]))
    if affine:
        nodes += [helper.make_node("Mul", ["plain", "gain"], ["gained"])]
        nodes += [helper.make_node("Add", ["gained", "bias"], ["y"])]
    else:
        nodes.append(helper.make_node("Relu", ["plain"], ["y"]))
    shape = ["N", CHANNELS, "H", "W"]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    if peek:
        outputs.append(helper.make_tensor_value_info("normed", TensorProto.FLOAT, ["N", GROUPS, "P"]))
    used = {name for node in nodes for name in node.input}
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    model = helper.make_model(
        helper.make_graph(nodes, "norm", inputs, outputs, weights),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def maps(rows: int = 10, cols: int = 6, *, batch: int = 1, offset: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(rows * cols)
    return (offset + rng.standard_normal((batch, CHANNELS, rows, cols))).astype(np.float32)


def expected(x: np.ndarray, *, groups: int = GROUPS, affine: bool = True) -> np.ndarray:
    parts = x.astype(np.float64).reshape(len(x), groups, -1)
    deviation = np.sqrt(parts.var(axis=2, keepdims=True) + 1e-5)
    plain = ((parts - parts.mean(axis=2, keepdims=True)) / deviation).reshape(x.shape)
    return plain * GAIN[:, None, None] + BIAS[:, None, None] if affine else np.maximum(plain, 0)


def operations(network: SizedNetwork, x: np.ndarray) -> list[str]:
    """What the compiled network does, in OpenVINO's words."""
    nodes = network.compiled({"x": x.shape}).get_runtime_model().get_ordered_ops()
    return [str(node.get_rt_info()["layerType"].astype(str)) for node in nodes]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_group_norm_gives_the_same_and_moves_no_memory(affine: bool, batch: int) -> None:
    network, x = SizedNetwork(graph(affine=affine), "prior", SETTINGS), maps(batch=batch)
    found = network.compiled({"x": x.shape})({"x": x})["y"]
    np.testing.assert_allclose(found, expected(x, affine=affine), atol=2e-6)
    assert "MVN" not in operations(network, x)


def test_values_far_from_zero_keep_three_digits() -> None:
    """Twenty deviations from zero, where the squares' difference has lost the most; how many depends on the kernels."""
    x = maps(64, 48, offset=20.0)
    found = SizedNetwork(graph(), "prior", SETTINGS).compiled({"x": x.shape})({"x": x})["y"]
    np.testing.assert_allclose(found, expected(x), rtol=1e-3, atol=1e-3)


def test_a_constant_map_is_normalised_to_the_bias() -> None:
    x = np.full((1, CHANNELS, 10, 6), 7.3, np.float32)
    found = SizedNetwork(graph(), "prior", SETTINGS).compiled({"x": x.shape})({"x": x})["y"]
    np.testing.assert_allclose(found, np.broadcast_to(BIAS[:, None, None], found.shape), atol=5e-2)


@pytest.mark.parametrize(("options", "groups"), [({"grouped": False}, CHANNELS), ({"peek": True}, GROUPS)])
def test_a_norm_of_another_form_is_left_as_it_is(options: dict[str, bool], groups: int) -> None:
    model = openvino.Core().read_model(graph(**options))
    model.reshape([1, CHANNELS, 10, 6])
    assert keep_layout(openvino, model) == 0
    x = maps()
    found = SizedNetwork(graph(**options), "prior", SETTINGS).compiled({"x": x.shape})({"x": x})["y"]
    np.testing.assert_allclose(found, expected(x, groups=groups), atol=2e-6)


def test_in_bf16_a_norm_stays_one_operation() -> None:
    assert "MVN" in operations(SizedNetwork(graph(), "prior", {"INFERENCE_PRECISION_HINT": "bf16"}), maps())


def test_every_size_is_compiled_once_and_the_last_few_are_kept() -> None:
    network = SizedNetwork(graph(), "prior", SETTINGS)
    sizes = [{"x": maps(4 + i, 6).shape} for i in range(KEPT + 1)]
    first, *rest = [network.compiled(size) for size in sizes]
    assert [network.compiled(size) for size in sizes[1:]] == rest
    assert network.compiled(sizes[0]) is not first


def test_lanes_that_ask_at_once_get_the_same_network() -> None:
    network = SizedNetwork(graph(), "prior", SETTINGS)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(network.compiled, 8 * [{"x": (1, CHANNELS, 9, 7)}]))
    assert all(each is found[0] for each in found)


def test_a_size_the_graph_cannot_have_is_refused_by_the_network_s_name() -> None:
    with pytest.raises(BackendError, match="cannot load the denoiser graph"):
        SizedNetwork(graph(), "denoiser", SETTINGS).compiled({"x": (1, CHANNELS + 1, 8, 8)})
