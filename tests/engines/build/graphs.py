"""Small graphs for TensorRT, each with one thing about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from verdiff.engines.build.graphs import EngineGraph

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
MAPS: list[str | int] = ["N", 3, "H", "W"]


def value(name: str, kind: int = FLOAT, shape: Any = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, MAPS if shape is None else shape)


def graph(
    nodes: list[onnx.NodeProto],
    weights: dict[str, NDArray[Any]] | None = None,
    *,
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
) -> EngineGraph:
    """image [N, 3, H, W] -> y [N, 3, H, W], unless said otherwise."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    body = helper.make_graph(nodes, "small", inputs or [value("image")], outputs or [value("y")], tensors)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    return EngineGraph("prior", model, "ab" * 32)


def convolution(kind: Any = np.float32) -> EngineGraph:
    """Two convolutions in float32, float16 or bfloat16, between casts; 3,996 weights."""
    weights = {"w": np.ones((36, 3, 6, 6), kind), "v": np.ones((3, 36, 1, 1), kind)}
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [
        helper.make_node("Cast", ["image"], ["a"], name="in", to=number),
        helper.make_node("Conv", ["a", "w"], ["b"], name="wide", pads=[2, 2, 3, 3]),
        helper.make_node("Relu", ["b"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "v"], ["c"], name="narrow"),
        helper.make_node("Cast", ["c"], ["y"], name="out", to=FLOAT),
    ]
    return graph(nodes, weights)


def decoder() -> EngineGraph:
    """A convolution down, one up again, as in a U-Net, and a last one; in float32."""
    weights = {
        name: np.ones(shape, np.float32)
        for name, shape in (("w", (8, 3, 6, 6)), ("t", (8, 8, 2, 2)), ("v", (3, 8, 1, 1)))
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], name="down", strides=[2, 2], pads=[2, 2, 2, 2]),
        helper.make_node("ConvTranspose", ["a", "t"], ["b"], name="up", strides=[2, 2]),
        helper.make_node("Relu", ["b"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "v"], ["y"], name="last"),
    ]
    return graph(nodes, weights)


def island(layer: str, channels: tuple[int, int] = (64, 64)) -> EngineGraph:
    """Convolution, ``layer`` of these channels with an addition behind it, two convolutions; in float32."""
    rng, (given, made) = np.random.default_rng(0), channels
    shapes: dict[str, tuple[int, ...]] = {"w": (given, 3, 2, 2), "bias": (1, made, 1, 1)}
    shapes |= {"u": (made, made, 3, 3), "v": (3, made, 1, 1)}
    shapes["t"] = {
        "Conv": (made, given, 2, 2),
        "ConvTranspose": (given, made, 2, 2),
        "MatMul": (given, made),
        "Gemm": (made, given),
    }[layer]
    weights: dict[str, NDArray[Any]] = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    weights["plane"] = np.array([2, 3])
    node = helper.make_node
    middle = {
        "Conv": [node("Conv", ["a", "t"], ["b"], name="island", pads=[1, 1, 0, 0])],
        "ConvTranspose": [node("ConvTranspose", ["a", "t"], ["b"], name="island", strides=[2, 2])],
        "MatMul": [
            node("Transpose", ["a"], ["last"], name="to_last", perm=[0, 2, 3, 1]),
            node("MatMul", ["last", "t"], ["product"], name="island"),
            node("Transpose", ["product"], ["b"], name="to_first", perm=[0, 3, 1, 2]),
        ],
        "Gemm": [
            node("GlobalAveragePool", ["a"], ["mean"], name="pool"),
            node("Flatten", ["mean"], ["pooled"], name="flatten"),
            node("Gemm", ["pooled", "t"], ["product"], name="island", transB=1),
            node("Unsqueeze", ["product", "plane"], ["b"], name="to_plane"),
        ],
    }[layer]
    nodes = [
        node("Conv", ["image", "w"], ["a"], name="first", strides=[2, 2]),
        *middle,
        node("Add", ["b", "bias"], ["c"], name="addition"),
        node("Conv", ["c", "u"], ["d"], name="third", pads=[1, 1, 1, 1]),
        node("Conv", ["d", "v"], ["y"], name="fourth"),
    ]
    return graph(nodes, weights)


def mixed_types() -> EngineGraph:
    """Float x Half in one Mul, which a strongly typed network does not take."""
    inputs = [value("image"), value("gain", HALF)]
    return graph([helper.make_node("Mul", ["image", "gain"], ["y"], name="scale_it")], inputs=inputs)


def control_flow() -> EngineGraph:
    """A Loop of three steps."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "v"], ["twice"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("v")],
        [value("on", TensorProto.BOOL, []), value("twice")],
    )
    node = helper.make_node("Loop", ["count", "yes", "image"], ["y"], name="steps", body=body)
    return graph([node], {"count": np.array(3, np.int64), "yes": np.array(True)})


def quantised(zero: NDArray[Any], *, integer_bias: bool = False) -> EngineGraph:
    """A convolution behind a quantised input whose zero point is ``zero``."""
    bias = ["bias_q", "bias_scale", "bias_zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["q"], name="quantise_image"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="dequantise_image"),
        helper.make_node("DequantizeLinear", ["w_q", "w_scale", "w_zero"], ["w"], name="dequantise_w", axis=0),
        *([helper.make_node("DequantizeLinear", bias, ["bias"], name="dequantise_bias", axis=0)] * integer_bias),
        helper.make_node("Conv", ["d", "w", "bias"], ["y"], name="conv", pads=[1, 1, 1, 1]),
    ]
    weights: dict[str, NDArray[Any]] = {
        "scale": np.array(0.1, np.float32),
        "zero": zero,
        "w_q": np.ones((3, 3, 3, 3), np.int8),
        "w_scale": np.full(3, 0.1, np.float32),
        "w_zero": np.zeros(3, np.int8),
    }
    if integer_bias:
        weights |= {"bias_q": np.ones(3, np.int32), "bias_scale": np.full(3, 0.01, np.float32)}
        weights["bias_zero"] = np.zeros(3, np.int32)
    else:
        weights["bias"] = np.ones(3, np.float32)
    return graph(nodes, weights)
