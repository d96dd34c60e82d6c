"""Which node is at fault: the checks of a conversion that end in a node's name.

A mask can survive a damaged weight or a node in the wrong precision on the slices at hand and not on the next
patient's, so these are looked at before any mask is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from verdiff.export.precision.execution import CpuGraph
from verdiff.export.precision.graphs import element_types, plain_weights, users, weight_arrays
from verdiff.export.precision.half import HALF_MAX
from verdiff.export.precision.islands import required_islands

# Rounding moves a weight by half a unit in its last place, or by half the smallest subnormal.
RELATIVE_ROUNDING = {"fp16": 2.0**-11, "bf16": 2.0**-8, "fp32": 0.0}
ABSOLUTE_ROUNDING = 2.0**-25
LOW = {TensorProto.FLOAT16, TensorProto.BFLOAT16}


@dataclass(frozen=True)
class Fault:
    """What is wrong, and where.

    Attributes:
        node: The node's name.
        found: What was met there.
        expected: What would have been right.
    """

    node: str
    found: str
    expected: str


def check_islands(source: onnx.ModelProto, candidate: onnx.ModelProto) -> list[Fault]:
    """Nodes that have to compute in FP32 and do not."""
    types = element_types(candidate)
    precision = "bf16" if TensorProto.BFLOAT16 in types.values() else "fp16"
    required = required_islands(plain_weights(source), precision)
    faults = []
    for node in candidate.graph.node:
        reason = required.get(node.name)
        if reason is not None and {types.get(name) for name in (*node.input, *node.output)} & LOW:
            faults.append(
                Fault(node.name, f"{node.op_type} {node.name} computes in reduced precision", f"FP32, for {reason}")
            )
    return faults


def check_weights(source: onnx.ModelProto, candidate: onnx.ModelProto) -> list[Fault]:
    """Nodes whose weights are not the source's, rounded."""
    expected, found = weight_arrays(plain_weights(source)), weight_arrays(candidate)
    readers = users(candidate)
    faults = []
    for name, values in found.items():
        node = readers[name][0]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            if not name.endswith("_int8"):
                continue
            original, precision = name.removesuffix("_int8"), "int8"
            scale = found[node.input[1]].astype(np.float64).reshape(-1, *[1] * (values.ndim - 1))
            values, node = values * scale, readers[node.output[0]][0]
        else:
            original, _, precision = name.rpartition("_")
            if precision not in RELATIVE_ROUNDING or original not in expected:
                original, precision = name, "fp32"
        exact = expected.get(original)
        if exact is None or exact.shape != values.shape:
            faults.append(Fault(node.name, f"{node.op_type} {node.name} reads a weight {name}", "the model's weights"))
            continue
        exact = exact.astype(np.float64)
        error = np.abs(values.astype(np.float64) - exact)
        allowed = (
            scale * (0.5 + 1e-4) if precision == "int8" else np.abs(exact) * RELATIVE_ROUNDING[precision]
        ) + ABSOLUTE_ROUNDING
        if not bool(np.all(error <= allowed)):
            worst = float(np.max(error) / max(float(np.max(np.abs(exact))), 1e-12))
            faults.append(
                Fault(
                    node.name,
                    f"{node.op_type} {node.name} has a weight in {name} that is off by {100 * worst:.2g} %",
                    f"the model's own weights, rounded to {precision.upper()}",
                )
            )
    return faults


class Ranges:
    """The largest magnitude of every value of an FP32 network, over the inputs it is shown."""

    def __init__(self, source: onnx.ModelProto) -> None:
        self.model = plain_weights(source)
        types = element_types(self.model)
        made = [name for node in self.model.graph.node for name in node.output]
        self._runner = CpuGraph(self.model, watch=tuple(n for n in made if types.get(n) == TensorProto.FLOAT))
        self.low: dict[str, float] = {}
        self.high: dict[str, float] = {}
        self.not_a_number: set[str] = set()

    def look(self, feed: dict[str, NDArray]) -> None:
        """Take in one call."""
        for name, values in {**feed, **self._runner.inner(feed)}.items():
            # A NaN is neither below nor above anything, so the magnitudes leave it out and it is noted by itself.
            self.low[name] = float(np.fmin(self.low.get(name, np.inf), np.fmin.reduce(values, axis=None)))
            self.high[name] = float(np.fmax(self.high.get(name, -np.inf), np.fmax.reduce(values, axis=None)))
            if np.isnan(values).any():
                self.not_a_number.add(name)

    def oversize(self, limit: float = HALF_MAX) -> dict[str, float]:
        """Values that pass ``limit`` (or are not finite), with the magnitude reached; NaN where one was met."""
        reached = {
            name: float("nan") if name in self.not_a_number else max(-self.low[name], self.high[name])
            for name in self.low
        }
        return {name: value for name, value in reached.items() if not value <= limit}

    def touching(self, limit: float = HALF_MAX) -> dict[str, float]:
        """Nodes that make or read a value beyond ``limit``, in the graph's order, with the magnitude."""
        oversize = self.oversize(limit)
        found = {}
        for node in self.model.graph.node:
            reached = [oversize[name] for name in (*node.output, *node.input) if name in oversize]
            if reached:
                found[node.name] = reached[0]
        return found


def check_ranges(ranges: Ranges, half: tuple[str, ...]) -> list[Fault]:
    """Half nodes whose results or inputs do not fit into FP16 on the slices that were looked at."""
    kinds = {node.name: node.op_type for node in ranges.model.graph.node}
    return [
        Fault(name, f"{kinds[name]} {name} meets {value:.4g}", f"at most {HALF_MAX:g}, the largest number of FP16")
        for name, value in ranges.touching().items()
        if name in half
    ]


def half_nodes(candidate: onnx.ModelProto) -> tuple[str, ...]:
    """Nodes whose results are FP16, casts apart."""
    types = element_types(candidate)
    return tuple(
        node.name
        for node in candidate.graph.node
        if node.op_type != "Cast" and any(types.get(name) == TensorProto.FLOAT16 for name in node.output)
    )


def steepest(source: onnx.ModelProto, executed: onnx.ModelProto, feed: dict[str, NDArray]) -> tuple[str, float]:
    """The node at which the relative error grows most, and by how much.

    Args:
        source: The FP32 network.
        executed: The candidate as hardware computes it, float32 values under the same names.
        feed: One call's inputs.
    """
    plain = plain_weights(source)
    types = element_types(plain)
    there = {name for node in executed.graph.node for name in node.output}
    common = tuple(
        name
        for node in plain.graph.node
        for name in node.output
        if types.get(name) == TensorProto.FLOAT and name in there
    )
    exact, found = CpuGraph(plain, watch=common).inner(feed), CpuGraph(executed, watch=common).inner(feed)
    errors = {name: _relative(found[name], exact[name]) for name in common}
    worst, growth = "", 0.0
    for node in plain.graph.node:
        for name in node.output:
            if name in errors:
                before = max([RELATIVE_ROUNDING["fp16"], *(errors.get(given, 0.0) for given in node.input)])
                if not errors[name] / before <= growth:
                    worst, growth = node.name, errors[name] / before
    return worst, growth


def _relative(found: NDArray, exact: NDArray) -> float:
    if not np.isfinite(found).all():
        return float("inf")
    scale = float(np.sqrt(np.mean(np.square(exact, dtype=np.float64)))) or 1.0
    return float(np.sqrt(np.mean(np.square(found.astype(np.float64) - exact)))) / scale
