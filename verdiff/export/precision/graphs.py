"""What the conversions ask of a graph: its values' types, its plain weights, what feeds what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from verdiff.errors import BundleError

# Layers that multiply their input by weights: for every pixel, and (Gemm) for vectors, such as the timestep's, as well.
PER_PIXEL = frozenset({"Conv", "ConvTranspose", "MatMul"})
WEIGHTED = PER_PIXEL | {"Gemm"}


def plain_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose weights are float32 initializers, without the casts they are stored behind in a bundle.

    Raises:
        BundleError: The graph nests another (a Loop); networks are converted, not whole pipelines.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
            raise BundleError(
                f"the node {node.name or node.op_type} holds a graph of its own",
                "a network without control flow",
                "convert the bundle's prior and denoiser; the pipeline is built from them",
            )
        if node.op_type == "Cast" and node.input[0] in stored:
            values = numpy_helper.to_array(stored[node.input[0]])
            kind = onnx.helper.tensor_dtype_to_np_dtype(next(a.i for a in node.attribute if a.name == "to"))
            graph.initializer.append(numpy_helper.from_array(values.astype(kind), node.output[0]))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    name_nodes(copy)
    return copy


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own, so that a report can point at it."""
    taken: set[str] = set()
    for node in model.graph.node:
        name = node.name or f"{node.op_type}_{node.output[0]}"
        while name in taken:
            name += "_"
        node.name = name
        taken.add(name)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type (``TensorProto.FLOAT`` and so on) of every value of a graph without subgraphs."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {tensor.name: tensor.data_type for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def weight_arrays(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """The initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def users(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read each value."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def upstream_of(model: onnx.ModelProto, outputs: Iterable[str], stop: frozenset[str]) -> Iterator[onnx.NodeProto]:
    """The nodes that lead to ``outputs``, walking back until a node whose operator is in ``stop`` (left out)."""
    producers = {name: node for node in model.graph.node for name in node.output}
    waiting, seen = list(outputs), set()
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or node.name in seen or node.op_type in stop:
            continue
        seen.add(node.name)
        yield node
        waiting.extend(node.input)
