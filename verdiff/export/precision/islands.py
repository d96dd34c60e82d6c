"""Which nodes of a network stay in FP32 when the rest goes to half precision, and why.

The rules hold before any measurement: statistics are sums over thousands of pixels, a softmax and the time embedding
exponentiate or wind through large arguments, coordinates counted from a slice's size do so too (and ONNX has no Range
in half precision), and the conversion to x0hat is what the sampler's arithmetic starts from. Operators that an engine
cannot compute in a precision stay in FP32 too. Whatever else a model needs is found by
:mod:`verdiff.export.precision.search`.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from verdiff.export.precision.graphs import upstream_of, weight_arrays

NORMS = frozenset({"InstanceNormalization", "GroupNormalization", "LayerNormalization", "BatchNormalization"})
SOFTMAX = frozenset({"Softmax", "LogSoftmax"})
POOLS = frozenset({"GlobalAveragePool", "ReduceMean", "ReduceSum", "ReduceL2", "ReduceSumSquare"})
# Where the conversion from a network's last features to its output begins, walking back from the output.
LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Resize", "Concat", *NORMS})
# Operator -> why it has no form in a precision. TensorRT-RTX is that of version 1.7, ONNX that of operator set 22.
WITHOUT = {
    "bf16": {
        "ConvTranspose": "TensorRT-RTX, which cannot build it in BF16",
        "Einsum": "ONNX, which has no BF16 form of it",
    }
}
SIZES = frozenset({"Shape", "Size"})
ROWS_AND_COLS = {2, 3, -1, -2}

STATISTICS = "normalisation statistics"
POOLED = "a mean over the pixels of a slice"
EXPONENTIAL = "softmax"
TIME = "the time embedding"
OUTPUT = "the conversion to x0hat"
COORDINATES = "coordinates of pixels and frequencies"


def required_islands(model: onnx.ModelProto, precision: str = "fp16") -> dict[str, str]:
    """Name and reason of every node that has to compute in FP32.

    Args:
        model: A network with plain weights and named nodes (:func:`~verdiff.export.precision.graphs.plain_weights`).
        precision: Precision of the rest: ``"fp16"`` or ``"bf16"``.
    """
    found: dict[str, str] = {}
    weights = _constants(model)
    timed = {"timestep"} if any(value.name == "timestep" for value in model.graph.input) else set()
    for node in model.graph.node:
        if node.op_type in NORMS:
            found[node.name] = STATISTICS
        elif node.op_type in SOFTMAX:
            found[node.name] = EXPONENTIAL
        elif node.op_type in POOLS and _over_pixels(node, weights):
            found[node.name] = POOLED
        elif node.op_type in WITHOUT.get(precision, {}):
            found[node.name] = WITHOUT[precision][node.op_type]
        moving = {name for name in node.input if name and name not in weights}
        # Only what follows from the timestep alone: tiny vectors, so FP32 costs nothing.
        if moving and moving <= timed:
            timed.update(node.output)
            found[node.name] = TIME
    found.update(dict.fromkeys(_coordinates(model, weights), COORDINATES))
    outputs = [value.name for value in model.graph.output if value.name in ("prior", "x0hat")]
    for node in upstream_of(model, outputs, LAYERS):
        found.setdefault(node.name, OUTPUT)
    return found


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Weights, and what Constant nodes give."""
    found = weight_arrays(model)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name.startswith("value"):
            value = helper.get_attribute_value(node.attribute[0])
            found[node.output[0]] = numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.array(value)
    return found


def _coordinates(model: onnx.ModelProto, weights: dict[str, np.ndarray]) -> list[str]:
    """Nodes that compute in floating point from nothing but constants and the sizes of tensors."""
    sized: set[str] = set()
    floating: set[str] = set()
    found = []
    for node in model.graph.node:
        moving = {name for name in node.input if name and name not in weights}
        if node.op_type in SIZES:
            sized.update(node.output)
            continue
        if not (moving <= sized if moving else node.op_type == "Range"):
            continue
        sized.update(node.output)
        to_float = node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == TensorProto.FLOAT
        counts = node.op_type == "Range" and node.input[0] in weights and weights[node.input[0]].dtype.kind == "f"
        if to_float or counts or moving & floating:
            floating.update(node.output)
            found.append(node.name)
    return found


def _over_pixels(node: onnx.NodeProto, weights: dict[str, np.ndarray]) -> bool:
    if node.op_type == "GlobalAveragePool":
        return True
    if len(node.input) < 2 or node.input[1] not in weights:
        return True
    return bool(ROWS_AND_COLS & set(weights[node.input[1]].ravel().tolist()))
