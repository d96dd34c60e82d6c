"""How an FP16 or BF16 graph computes on a GPU, on a machine that has none: values are rounded where they are made.

ONNX Runtime's CPU provider runs an FP16 graph in FP32 from end to end (two convolutions by 1000 in a row give the
right answer where FP16 overflows), and so does OpenVINO, so running such a graph there says nothing about half
precision. Here products are summed in FP32, as tensor cores do, and every result of a half node is rounded to FP16
before anything reads it. An FP16 overflow becomes an infinity and is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from verdiff.export.precision.graphs import element_types, plain_weights
from verdiff.runtime import silent
from verdiff.runtime.backends.onnxruntime import ERRORS_ONLY
from verdiff.runtime.backends.openvino_graphs import SizedNetwork

Maps = NDArray[np.float32]

# They move values without changing them, so what was rounded stays rounded.
MOVES = frozenset(
    {"Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze"}
    | {"Tile", "Transpose", "Unsqueeze", "ReduceMax", "MaxPool", "Relu"}
)


def as_executed(model: onnx.ModelProto) -> onnx.ModelProto:
    """An FP32 graph that gives what the FP16 or BF16 graph ``model`` gives where that is computed in hardware.

    Its inputs and outputs are float32, the features too.
    """
    types = element_types(model)
    halves = {name: kind for name, kind in types.items() if kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16)}
    source = plain_weights(model)
    nodes: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}

    def rounded(value: str, result: str, kind: int) -> None:
        nodes.append(helper.make_node("Cast", [value], [f"{result}.half"], to=kind))
        nodes.append(helper.make_node("Cast", [f"{result}.half"], [result], to=TensorProto.FLOAT))

    inputs = [_as_float(value) for value in source.graph.input]
    for value in source.graph.input:
        if value.name in halves:
            renamed[value.name] = f"{value.name}.rounded"
            rounded(value.name, renamed[value.name], halves[value.name])
    for node in source.graph.node:
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.input[:] = [renamed.get(name, name) for name in node.input]
        made = [name for name in node.output if name in halves]
        if node.op_type == "Cast" and made:
            twin.output[0] = f"{made[0]}.half"
            nodes.append(twin)
            nodes.append(helper.make_node("Cast", [twin.output[0]], [made[0]], to=TensorProto.FLOAT))
        elif made and node.op_type not in MOVES:
            twin.output[:] = [f"{name}.exact" if name in made else name for name in node.output]
            nodes.append(twin)
            for name in made:
                rounded(f"{name}.exact", name, halves[name])
        else:
            nodes.append(twin)
    outputs = [_as_float(value) for value in source.graph.output]
    weights = [
        numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
        if tensor.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
        else tensor
        for tensor in source.graph.initializer
    ]
    graph = helper.make_graph(nodes, source.graph.name, inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def _as_float(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    twin = onnx.ValueInfoProto()
    twin.CopyFrom(value)
    if value.type.tensor_type.elem_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        twin.type.tensor_type.elem_type = TensorProto.FLOAT
    return twin


class Graph(Protocol):
    """A network that can be run."""

    def run(self, feed: dict[str, NDArray[Any]]) -> list[Maps]:
        """The graph's outputs, in its order."""
        ...


class CpuGraph:
    """A graph on ONNX Runtime's CPU provider.

    Args:
        model: The graph.
        watch: Inner values that become outputs.
        integers: Quantised convolutions by the integer kernels that the runtime would use, which saturate on some
            processors; off computes the quantised values as the graph writes them.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        watch: tuple[str, ...] = (),
        integers: bool = False,
    ) -> None:
        onnxruntime: Any = silent.onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        if not integers:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        self.outputs = [value.name for value in model.graph.output]
        self.watched = tuple(name for name in watch if name not in self.outputs)
        if self.watched:
            twin = onnx.ModelProto()
            twin.CopyFrom(model)
            twin.graph.output.extend(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.watched
            )
            model = twin
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, feed: dict[str, NDArray[Any]]) -> list[Maps]:
        """The graph's outputs, in its order."""
        results: list[Maps] = self._session.run(self.outputs, feed)
        return results

    def inner(self, feed: dict[str, NDArray[Any]]) -> dict[str, Maps]:
        """Every output and watched value by name."""
        names = [*self.outputs, *self.watched]
        return dict(zip(names, self._session.run(names, feed), strict=True))


class OpenVinoGraph:
    """A graph on OpenVINO's CPU plugin, compiled as the runtime compiles it; ``hint`` is what it computes in."""

    def __init__(self, model: onnx.ModelProto, *, hint: str = "f32") -> None:
        self._network = SizedNetwork(model.SerializeToString(), model.graph.name, {"INFERENCE_PRECISION_HINT": hint})
        self._outputs = [value.name for value in model.graph.output]

    def run(self, feed: dict[str, NDArray[Any]]) -> list[Maps]:
        """The graph's outputs, in its order."""
        feed = self._network.accepted(feed)
        results = self._network.compiled({name: array.shape for name, array in feed.items()})(feed)
        return [np.array(results[name]) for name in self._outputs]


GraphFactory = Callable[[onnx.ModelProto], Graph]
GRAPH_FACTORIES: dict[str, GraphFactory] = {
    "onnxruntime": partial(CpuGraph, integers=True),
    "openvino": OpenVinoGraph,
    "openvino-bf16": partial(OpenVinoGraph, hint="bf16"),
}
"""How a backend of the runtime computes a graph on this processor."""
