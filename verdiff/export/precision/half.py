"""A strongly typed FP16 (or BF16) network from an FP32 one: every value's type stands in the graph, nothing is a flag.

The graph's inputs and outputs stay FP32, except the condition features, which travel from prior to denoiser in half
precision. A Cast stands wherever the two precisions meet; each value is cast once, whatever reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from verdiff.errors import VerificationError
from verdiff.export.precision.graphs import element_types, plain_weights, weight_arrays
from verdiff.export.precision.islands import required_islands

HALF_MAX = 65504.0
BF16_OPSET = 22
LOW = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
LARGEST = {"fp16": HALF_MAX, "bf16": 3.38e38}
FEATURE = "feature_"
# Inputs that the operator's definition keeps in float32 whatever it computes in: Resize's region and scales.
FLOAT_SLOTS = {"Resize": (1, 2)}
# Their attributes say what they give, whatever reads it: FP32, with a cast before a half node.
SOURCES = frozenset({"Constant", "ConstantOfShape", "EyeLike"})


@dataclass(frozen=True)
class HalfNetwork:
    """A converted network.

    Attributes:
        model: The FP16 graph.
        islands: Name and reason of every node that computes in FP32.
        half: Names of the nodes that compute in FP16, in the graph's order.
    """

    model: onnx.ModelProto
    islands: dict[str, str]
    half: tuple[str, ...]


def to_half(model: onnx.ModelProto, extra: Mapping[str, str] | None = None, precision: str = "fp16") -> HalfNetwork:
    """Convert ``prior`` or ``denoiser``.

    Args:
        model: The FP32 graph as a bundle stores it.
        extra: Name and reason of nodes to keep in FP32 beside the required ones.
        precision: ``"fp16"`` or ``"bf16"``.

    Raises:
        VerificationError: A weight is too large for FP16, with the node it belongs to.
        BundleError: The graph holds control flow.
    """
    source = plain_weights(model)
    return convert(source, {**required_islands(source, precision), **(extra or {})}, precision)


def convert(source: onnx.ModelProto, islands: Mapping[str, str], precision: str = "fp16") -> HalfNetwork:
    """Convert a network with plain weights, with these islands and no other.

    Raises:
        VerificationError: A weight is too large for FP16.
    """
    writer = _HalfCopy(source, frozenset(islands), precision)
    converted = writer.write()
    onnx.checker.check_model(converted, full_check=True)
    named = {name: reason for name, reason in islands.items() if name in writer.floating}
    return HalfNetwork(converted, named, tuple(name for name in writer.floating if name not in named))


class _HalfCopy:
    """Copies a graph node by node, each in its precision, with the casts that the edges need."""

    def __init__(self, source: onnx.ModelProto, islands: frozenset[str], precision: str) -> None:
        self.source, self.islands, self.precision, self.low = source, islands, precision, LOW[precision]
        # Convolutions take BF16 from operator set 22 on; nothing else about the operators used here changed since 20.
        given = next(each.version for each in source.opset_import if each.domain == "")
        self.opset = max(given, BF16_OPSET) if precision == "bf16" else given
        self.types = element_types(source)
        self.weights = weight_arrays(source)
        self.now: dict[str, int] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self.casts: dict[tuple[str, int], str] = {}
        self.floating: list[str] = []

    def write(self) -> onnx.ModelProto:
        graph = self.source.graph
        inputs, outputs = [self._edge(v) for v in graph.input], [self._edge(v) for v in graph.output]
        self.now = {value.name: value.type.tensor_type.elem_type for value in inputs}
        wanted = {value.name: value.type.tensor_type.elem_type for value in outputs}
        for node in graph.node:
            self._copy(node, wanted)
        twin = helper.make_graph(self.nodes, graph.name, inputs, outputs, list(self.initializers.values()))
        result = helper.make_model(
            twin, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=self.source.ir_version,
            producer_name="verdiff",
        )  # fmt: skip
        return result

    def _edge(self, value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
        twin = onnx.ValueInfoProto()
        twin.CopyFrom(value)
        if value.name.startswith(FEATURE) and value.type.tensor_type.elem_type == TensorProto.FLOAT:
            twin.type.tensor_type.elem_type = self.low
        return twin

    def _copy(self, node: onnx.NodeProto, wanted: dict[str, int]) -> None:
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        slots = FLOAT_SLOTS.get(node.op_type, ())
        carries = [
            index
            for index, name in enumerate(node.input)
            if name and index not in slots and self.types.get(name) == TensorProto.FLOAT
        ]
        gives = [name for name in node.output if self.types.get(name) == TensorProto.FLOAT]
        kind = TensorProto.FLOAT
        if (carries or gives) and node.op_type not in SOURCES:
            self.floating.append(node.name)
            kind = TensorProto.FLOAT if node.name in self.islands else self.low
        for index, name in enumerate(node.input):
            if index in carries:
                twin.input[index] = self._as(name, kind, node)
            elif name in self.weights:
                self._keep(name)
        if node.op_type == "Cast" and gives:
            next(a for a in twin.attribute if a.name == "to").i = kind
        # A graph output of the other type gets its name from the cast that follows.
        renamed = {}
        for index, name in enumerate(node.output):
            if name in gives and wanted.get(name, kind) != kind:
                renamed[name] = twin.output[index] = f"{name}_{_short(kind)}"
                self.now[renamed[name]] = kind
                self.casts[name, kind] = renamed[name]
            self.now[name] = (
                kind if name in gives and name not in renamed else wanted.get(name, self.types.get(name, 0))
            )
        self.nodes.append(twin)
        for name, inner in renamed.items():
            self.nodes.append(helper.make_node("Cast", [inner], [name], name=f"cast_{name}", to=wanted[name]))

    def _as(self, name: str, kind: int, node: onnx.NodeProto) -> str:
        """The value ``name`` in type ``kind``: itself, a converted weight, or a cast made once."""
        if name in self.weights:
            return self._weight(name, kind, node)
        if self.now[name] == kind:
            return name
        if (name, kind) not in self.casts:
            cast = f"{name}_{_short(kind)}"
            self.nodes.append(helper.make_node("Cast", [name], [cast], name=f"cast_{cast}", to=kind))
            self.casts[name, kind] = cast
        return self.casts[name, kind]

    def _weight(self, name: str, kind: int, node: onnx.NodeProto) -> str:
        if kind == TensorProto.FLOAT:
            return self._keep(name)
        largest = float(np.abs(self.weights[name]).max(initial=0))
        if not largest <= LARGEST[self.precision]:
            raise VerificationError(
                f"{node.op_type} {node.name} has a weight of {largest:g} in {name}",
                f"at most {LARGEST[self.precision]:g}, the largest number of {self.precision.upper()}",
                "keep the node in FP32, or retrain with weight decay",
            )
        half = f"{name}_{_short(kind)}"
        if half not in self.initializers:
            values = self.weights[name].astype(helper.tensor_dtype_to_np_dtype(kind))
            self.initializers[half] = numpy_helper.from_array(values, half)
        return half

    def _keep(self, name: str) -> str:
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.asarray(self.weights[name]), name)
        return name


def _short(kind: int) -> str:
    return next((name for name, low in LOW.items() if low == kind), "fp32")
