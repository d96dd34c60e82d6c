"""INT8 networks: convolutions between QuantizeLinear and DequantizeLinear, in the two forms that consumers want.

TensorRT takes symmetric signed activations and biases left in float. OpenVINO gives wrong results for signed
activations into a convolution that is fed by a Concat, which is every skip connection here, and right ones for
unsigned. So there are two graphs.

Processors without VNNI multiply bytes in pairs (``vpmaddubsw``) and add the two products in sixteen bits, where
2 x 255 x 127 does not fit and saturates. The weights of the graph for processors stop at 64, so no pair can: 2 x 255 x
64 = 32640. Then every sum of a convolution is exact, and the same on every instruction set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from verdiff.export.precision.graphs import PER_PIXEL, plain_weights, weight_arrays
from verdiff.precisions import TABLE

STYLES = tuple(TABLE["int8"].tried_on)
# Steps from zero to a channel's largest weight.
WEIGHT_STEPS = {"int8-trt": 127, "int8-ov": 64}
HEAD = "the last convolution, whose rounding would be the mask's edge"

LARGEST_ACTIVATION = 255
PAIR_LIMIT = 2**15 - 1

Range = tuple[float, float]


@dataclass(frozen=True)
class QuantisedNetwork:
    """A quantised network.

    Attributes:
        model: The graph, FP32 but for the convolutions.
        islands: Name and reason of every convolution left in FP32.
        half: Names of the convolutions in INT8, in the graph's order.
    """

    model: onnx.ModelProto
    islands: dict[str, str]
    half: tuple[str, ...]


def quantise(
    model: onnx.ModelProto, ranges: Mapping[str, Range], style: str, extra: Mapping[str, str] | None = None
) -> QuantisedNetwork:
    """Quantise the convolutions of ``prior`` or ``denoiser``.

    Args:
        model: The FP32 graph as a bundle stores it.
        ranges: Lowest and highest value of every activation, over a calibration set.
        style: ``"int8-trt"`` or ``"int8-ov"``.
        extra: Name and reason of convolutions to leave in FP32.
    """
    source = plain_weights(model)
    writer = _QuantisedCopy(source, ranges, style)
    islands = {**{name: HEAD for name in _heads(source)}, **(extra or {})}
    return writer.write(islands)


def saturation_free(style: str) -> bool:
    """Whether two products of an unsigned activation and a weight fit into sixteen bits, whatever the values."""
    return style == "int8-ov" and 2 * LARGEST_ACTIVATION * WEIGHT_STEPS[style] <= PAIR_LIMIT


def share_in_reach(model: onnx.ModelProto) -> float:
    """The share of the weights met by every pixel that INT8 reaches: convolutions'; matrix products stay in FP32."""
    source = plain_weights(model)
    weights, heads = weight_arrays(source), _heads(source)
    reached = every = 0
    for node in source.graph.node:
        if node.op_type in PER_PIXEL:
            size = sum(weights[name].size for name in node.input[:2] if name in weights)
            every += size
            reached += size if node.op_type == "Conv" and node.name not in heads else 0
    return reached / every if every else 0.0


def _heads(model: onnx.ModelProto) -> list[str]:
    """The convolutions from which an answer follows without another layer."""
    producers = {name: node for node in model.graph.node for name in node.output}
    waiting = [value.name for value in model.graph.output if value.name in ("prior", "x0hat")]
    found = []
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.op_type == "Conv":
            found.append(node.name)
        elif node is not None:
            waiting.extend(node.input)
    return found


class _QuantisedCopy:
    """Copies a graph, with a pair of nodes on every activation that a quantised convolution reads."""

    def __init__(self, source: onnx.ModelProto, ranges: Mapping[str, Range], style: str) -> None:
        self.source, self.ranges = source, ranges
        self.signed, self.weight_steps = style == "int8-trt", WEIGHT_STEPS[style]
        self.weights = weight_arrays(source)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.activations: dict[str, str] = {}

    def write(self, islands: Mapping[str, str]) -> QuantisedNetwork:
        graph, quantised = self.source.graph, []
        for node in graph.node:
            twin = onnx.NodeProto()
            twin.CopyFrom(node)
            if node.op_type == "Conv" and node.name not in islands and node.input[1] in self.weights:
                twin.input[0] = self._activation(node.input[0])
                twin.input[1] = self._weight(node.input[1])
                quantised.append(node.name)
            self.nodes.append(twin)
        read = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        twin_graph = helper.make_graph(
            self.nodes, graph.name, list(graph.input), list(graph.output), [*kept, *self.initializers]
        )
        model = helper.make_model(
            twin_graph,
            opset_imports=list(self.source.opset_import),
            ir_version=self.source.ir_version,
            producer_name="verdiff",
        )
        onnx.checker.check_model(model, full_check=True)
        left = {node.name: islands[node.name] for node in graph.node if node.name in islands}
        return QuantisedNetwork(model, left, tuple(quantised))

    def _activation(self, name: str) -> str:
        if name not in self.activations:
            scale, zero = _steps(self.ranges[name], self.signed)
            given = [name, self._const(f"{name}_scale", scale), self._const(f"{name}_zero", zero)]
            self._node("QuantizeLinear", given, f"{name}_q")
            self._node("DequantizeLinear", [f"{name}_q", *given[1:]], f"{name}_dq")
            self.activations[name] = f"{name}_dq"
        return self.activations[name]

    def _weight(self, name: str) -> str:
        if f"{name}_dq" not in self.activations:
            values = self.weights[name].astype(np.float32)
            reach = np.abs(values).reshape(len(values), -1).max(axis=1)
            scale = np.where(reach > 0, reach / self.weight_steps, 1.0).astype(np.float32)
            steps = np.rint(values / scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
            zeros = self._const(f"{name}_zero", np.zeros(len(scale), np.int8))
            given = [self._const(f"{name}_int8", steps), self._const(f"{name}_scale", scale), zeros]
            self._node("DequantizeLinear", given, f"{name}_dq", axis=0)
            self.activations[f"{name}_dq"] = name
        return f"{name}_dq"

    def _const(self, name: str, value: np.ndarray | np.generic) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{output}", **attributes))


def _steps(reach: Range, signed: bool) -> tuple[np.float32, np.generic]:
    """Scale and zero point for values between the two ends of ``reach``."""
    low, high = min(reach[0], 0.0), max(reach[1], 0.0)
    if signed:
        return np.float32(max(-low, high, 1e-8) / 127), np.int8(0)
    scale = max(high - low, 1e-8) / LARGEST_ACTIVATION
    return np.float32(scale), np.uint8(round(-low / scale))
