"""Proof by the plan's own bytes: the weights of each layer stand in it in the type that the graph gives them.

The types that a network shows are not what is kept of its weights (see :mod:`verdiff.engines.build.islands`), and a
sum of bytes does not see one layer among many. TensorRT-RTX 1.7 keeps weights as they are, apart from the order of
their axes and what it pads between their rows, so each layer's are looked for in the orders seen there. TensorRT may
transform them for its kernels: what is not found proves nothing, and is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from verdiff.engines.build.graphs import EngineGraph
from verdiff.engines.library import REPORT, Library
from verdiff.errors import BackendError
from verdiff.export.precision.graphs import WEIGHTED, weight_arrays

SINGLE, HALVES = np.dtype(np.float32), (np.dtype(np.float16), helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
# What a builder might make of a layer's weights, by the type that the graph gives them.
INSTEAD = {"float32": HALVES, "float16": (SINGLE,), "bfloat16": (SINGLE,), "int8": ()}
# Fewer numbers, or bytes in a row, stand in a plan of megabytes by chance.
LEAST_NUMBERS, LEAST_ROW_BYTES = 8, 16
# Channels that lie side by side are padded to this many bytes.
WORD = 4
NAMED = 3


@dataclass(frozen=True)
class LayerWeights:
    """What a layer multiplies its input with, and what was seen of it in a plan.

    Attributes:
        node: Its name.
        operator: One of :data:`~verdiff.export.precision.graphs.WEIGHTED`.
        kind: The type that the graph gives it: ``"float32"``, ``"float16"``, ``"bfloat16"`` or ``"int8"``.
        kept: The type that it stands in the plan in; None if it was not seen there.
    """

    node: str
    operator: str
    kind: str
    kept: str | None


@dataclass(frozen=True)
class PlanWeights:
    """The layers of a graph, and what a plan holds of their weights."""

    layers: tuple[LayerWeights, ...]

    @property
    def convincing(self) -> bool:
        """Whether most layers were seen in the graph's types, so that a sum of bytes has nothing to add."""
        return 2 * len(self._right()) > len(self.layers)

    def __str__(self) -> str:
        """The sentence in a sidecar."""
        right = self._right()
        count = Counter(layer.kind for layer in right)
        told = ", ".join(f"{number} in {kind}" for kind, number in sorted(count.items())) or "which proves nothing"
        text = f"plan: holds the weights of {len(right)} of {len(self.layers)} layers in the graph's types ({told})"
        for what, names in (
            ("in float32 instead", [layer.node for layer in self.layers if layer.kept not in (None, layer.kind)]),
            ("not to be seen", [layer.node for layer in self.layers if layer.kept is None]),
        ):
            if names:
                text += f"; {what}: {', '.join(names[:NAMED])}{' and others' if len(names) > NAMED else ''}"
        return text

    def _right(self) -> list[LayerWeights]:
        return [layer for layer in self.layers if layer.kept == layer.kind]


def layer_weights(graph: EngineGraph) -> Iterator[tuple[str, str, NDArray[Any]]]:
    """Node, operator and weights of every layer that multiplies by some; quantised ones as they are quantised."""
    weights = weight_arrays(graph.model)
    for node in graph.model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
        elif node.op_type in WEIGHTED:
            for name in node.input[:2]:
                if name in weights and weights[name].dtype.name in INSTEAD:
                    yield node.name, node.op_type, weights[name]


def look_into(library: Library, graph: EngineGraph, plan: bytes) -> PlanWeights:
    """Look for the weights of every layer of ``graph`` in what was built of it.

    Raises:
        BackendError: An FP32 layer's weights were rounded, or most layers in reduced precision have theirs in FP32;
            names the node.
    """
    weights = list(layer_weights(graph))
    # A tensor that is read in two precisions is there twice.
    meant = {values.tobytes() for _, _, values in weights}
    layers = tuple(
        LayerWeights(node, operator, values.dtype.name, _kept(plan, values, meant))
        for node, operator, values in weights
    )
    reduced = [layer for layer in layers if layer.kind != "float32"]
    rounded = [layer for layer in layers if layer.kind == "float32" and layer.kept not in (None, "float32")]
    # A kernel may want a few of them in FP32, which is said and costs no accuracy.
    wider = [layer for layer in reduced if layer.kept == "float32"]
    for layer in rounded or (wider if 2 * len(wider) > len(reduced) else []):
        raise BackendError(
            f"{library.title} keeps the weights of {layer.operator} {layer.node} in {layer.kept}",
            f"{layer.kind}, as in the {graph.role} graph",
            REPORT,
        )
    return PlanWeights(layers)


def holds(plan: bytes, values: NDArray[Any]) -> bool:
    """Whether a plan holds these numbers, in an order seen in plans; rows may stand apart."""
    return any(_in_order(plan, rows) for rows in _orders(values))


def _kept(plan: bytes, values: NDArray[Any], meant: set[bytes]) -> str | None:
    """The type that a plan holds ``values`` in; None where it shows none."""
    if len(np.unique(values.astype(np.float32))) < LEAST_NUMBERS:
        return None
    if holds(plan, values):
        return str(values.dtype.name)
    others = ((kind.name, values.astype(kind)) for kind in INSTEAD[values.dtype.name])
    return next((name for name, other in others if other.tobytes() not in meant and holds(plan, other)), None)


def _orders(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The same numbers as rows: as they are, with channels last (padded to whole words of four bytes), transposed."""
    axes = tuple(range(values.ndim))
    last = (0, *axes[2:], 1)[: values.ndim]
    for order in {axes, last, axes[::-1]}:
        turned = np.ascontiguousarray(values.transpose(order))
        columns = turned.shape[-1]
        if order == last and (beyond := -columns % (WORD // values.itemsize)):
            padded = np.zeros((*turned.shape[:-1], columns + beyond), values.dtype)
            padded[..., :columns] = turned
            yield padded.reshape(turned.shape[0], -1)
        yield turned.reshape(-1, columns if columns * values.itemsize >= LEAST_ROW_BYTES else turned.size)


def _in_order(plan: bytes, rows: NDArray[Any]) -> bool:
    at = 0
    for row in rows:
        data = row.tobytes()
        at = plan.find(data, at)
        if at < 0:
            return False
        at += len(data)
    return True
