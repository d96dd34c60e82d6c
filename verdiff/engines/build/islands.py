"""What keeps an FP32 island FP32 in an engine: the types of a strongly typed network alone do not.

TensorRT-RTX 1.7 takes a layer with weights that stands between two casts, half precision in and half precision out, or
with an addition behind it, for a layer of that half precision, and rounds its weights to it. The types that the network
shows for it stay FP32. An activation right behind the layer prevents that; one of slope 1 changes no value, and NaN and
infinity pass through it.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from verdiff.export.precision.diagnosis import LOW
from verdiff.export.precision.graphs import WEIGHTED, element_types


def keep_islands(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network; in half precision, with an activation of slope 1 behind every layer with weights in FP32.

    Args:
        model: Model with plain weights and named nodes (:func:`~verdiff.export.precision.graphs.plain_weights`).
    """
    types = element_types(model)
    if not LOW & set(types.values()):
        return model
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    del kept.graph.node[:]
    for node in model.graph.node:
        twin = kept.graph.node.add()
        twin.CopyFrom(node)
        if node.op_type in WEIGHTED and types.get(node.output[0]) == TensorProto.FLOAT:
            out = node.output[0]
            twin.output[0] = f"{out}_fp32"
            kept.graph.node.append(
                helper.make_node("LeakyRelu", [f"{out}_fp32"], [out], name=f"{node.name}_stays", alpha=1.0)
            )
    return kept
