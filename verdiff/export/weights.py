"""Storing weights as float16: half the size on disk, the same arithmetic, since each is cast to float32 at load."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from verdiff.export.torch_graphs import SMALLEST_STORED_AS_HALF


def store_as_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose float32 initializers that are exact in float16 are stored so, each behind a Cast to float32.

    Every runtime folds the casts when it loads the model, so this costs nothing per call. Graphs nested in a Loop
    are treated too.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _halve(copy.graph)
    return copy


def _halve(graph: onnx.GraphProto) -> None:
    casts: list[onnx.NodeProto] = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims, dtype=int) < SMALLEST_STORED_AS_HALF:
            continue
        values = numpy_helper.to_array(tensor)
        half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], name=f"cast_{name}", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _halve(attribute.g)
