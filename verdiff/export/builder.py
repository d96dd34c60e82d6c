"""A few lines around onnx.helper that let a graph be written top to bottom, one operator a line."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
# Shared names of the operator set and file format every graph of a bundle is written in.
IR_VERSION = 10


class GraphBuilder:
    """Collects nodes and initializers; values are referred to by name.

    Args:
        prefix: Put before every name this builder makes, so that graphs can be nested without clashes.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix, self.count = prefix, 0
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []

    def name(self, hint: str) -> str:
        """A name not used before in this builder."""
        self.count += 1
        return f"{self.prefix}{hint}_{self.count}"

    def const(self, value: Any, dtype: Any = None) -> str:
        """An initializer."""
        name = self.name("const")
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """A node with one output, whose name is returned."""
        output = out or self.name(kind)
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"{self.prefix}n_{output}", **attributes))
        return output

    def ops(self, kind: str, inputs: list[str], outputs: int, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        names = [self.name(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"{self.prefix}n_{names[0]}", **attributes))
        return names

    def inline(
        self, model: onnx.ModelProto, inputs: dict[str, str], prefix: str, *, weights: dict[str, str] | None = None
    ) -> dict[str, str]:
        """Copy another model's nodes and initializers in, its inputs connected to values of this graph.

        Args:
            model: What to copy.
            inputs: The model's input names and the values of this graph they are.
            prefix: Put before the names of what is copied.
            weights: Kept between copies of the same model, so that they share one set of initializers.

        Returns:
            The model's output names and what they are called here.
        """
        renamed = {**inputs, **(weights or {})}

        def here(name: str) -> str:
            return renamed.setdefault(name, f"{self.prefix}{prefix}{name}") if name else ""

        for tensor in model.graph.initializer:
            if tensor.name in renamed:
                continue
            copy = TensorProto()
            copy.CopyFrom(tensor)
            copy.name = here(tensor.name)
            self.initializers.append(copy)
            if weights is not None:
                weights[tensor.name] = copy.name
        for node in model.graph.node:
            twin = onnx.NodeProto()
            twin.CopyFrom(node)
            twin.name = f"{self.prefix}{prefix}{node.name}"
            twin.input[:] = [here(name) for name in node.input]
            twin.output[:] = [here(name) for name in node.output]
            self.nodes.append(twin)
        return {output.name: here(output.name) for output in model.graph.output}


def tensor_info(
    name: str, shape: list[str | int | None], kind: int = TensorProto.FLOAT, *, doc: str = ""
) -> onnx.ValueInfoProto:
    """A graph input or output with named dynamic axes, and what it is in words."""
    return helper.make_tensor_value_info(name, kind, shape, doc_string=doc)


def make_model(graph: onnx.GraphProto) -> onnx.ModelProto:
    """A model of the operator set every graph of a bundle uses."""
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="verdiff"
    )
