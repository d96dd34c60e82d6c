"""Proof that an engine computes in the precision that was asked for; a request for FP16 that builds FP32 is an error.

Four proofs, from the graph to the plan: the types of every node in TensorRT's network are those of the ONNX graph; the
inputs and outputs have the types of the graph's; the weights of each layer stand in the plan in the graph's types
(:mod:`verdiff.engines.build.plan_weights`); all that the engine keeps of weights takes the bytes of the graph's typed
weights, and not those of FP32. Where a GPU is at hand the engine itself is asked, else its builder.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from verdiff.engines import TensorInfo
from verdiff.engines.build.graphs import EngineGraph
from verdiff.engines.build.network import ParsedNetwork, plain_shape
from verdiff.engines.build.plan_weights import PlanWeights, layer_weights
from verdiff.engines.library import REPORT, Library, numpy_name
from verdiff.errors import BackendError
from verdiff.export.precision.graphs import PER_PIXEL, element_types
from verdiff.precisions import REFERENCE, precision_of

if TYPE_CHECKING:
    import tensorrt as trt

CONVOLUTIONS = ("Conv", "ConvTranspose")
ONNX_FLOATS = {1: "float32", 10: "float16", 16: "bfloat16"}
# Each tensor begins where the device reads fastest.
ALIGNMENT = 256


def prove_network(library: Library, network: ParsedNetwork, graph: EngineGraph, precision: str) -> list[str]:
    """Check the network before it is built; returns what was proven, a sentence each.

    Raises:
        BackendError: The graph is not of that precision, or TensorRT's types are not the graph's; names the node.
    """
    _require_precision(graph, precision)
    expected = convolution_types(graph)
    count = Counter(expected.values())
    kinds = library.api.LayerType
    values = _same_types(library, network, graph)
    found = {**network.types(kinds.CONVOLUTION), **network.types(kinds.DECONVOLUTION)}
    quantised = network.types(kinds.QUANTIZE)
    asked = [node.name for node in graph.model.graph.node if node.op_type == "QuantizeLinear"]
    unsigned = [name for name, kind in quantised.items() if kind != "int8"]
    if unsigned or len(quantised) != len(asked):
        raise BackendError(
            f"{library.title} quantises at {len(quantised)} places"
            + (f", {unsigned[0]} not to INT8" if unsigned else ""),
            f"{len(asked)} places, all to INT8, as in the {graph.role} graph",
            REPORT,
        )
    same_tensors(library, network.tensors(), graph)
    matched = sum(name in found for name in expected)
    # Where TensorRT calls layers otherwise than the nodes they come from, there must still be one of each type.
    others = Counter(kind for name, kind in found.items() if name not in expected)
    unseen = Counter(kind for name, kind in expected.items() if name not in found and kind != "int8") - others
    if unseen or len(found) < len(expected):
        raise BackendError(
            f"{library.title} shows {len(found)} of the {len(expected)} convolutions of the {graph.role} graph"
            + "".join(f", {number} fewer in {kind}" for kind, number in unseen.items()),
            "each of them, in the graph's type",
            REPORT,
        )
    layers = ", ".join(f"{number} in {kind}" for kind, number in sorted(count.items())) or "none"
    return [
        f"network: {matched} of {len(expected)} convolutions found by name, all of the graph's types ({layers})",
        values,
        "network: inputs and outputs have the graph's types",
    ]


def _require_precision(graph: EngineGraph, precision: str) -> None:
    """Refuse a graph most of whose weights for pixels are in another type than asked for, whatever it is called."""
    wanted, sizes = precision_of(precision).weights, Counter[str]()
    for _, operator, values in layer_weights(graph):
        if operator in PER_PIXEL:
            sizes[values.dtype.name] += values.size
    if sizes and 2 * sizes[wanted] <= sizes.total():
        others = ", ".join(f"{size / sizes.total():.0%} in {kind}" for kind, size in sizes.items() if kind != wanted)
        raise BackendError(
            f"{precision} was asked for, and of the weights of the {graph.role} graph's layers {others}",
            f"a graph that computes in {wanted}: TensorRT takes the precision from the graph's types",
            "build with another --precision"
            if precision == REFERENCE
            else f"convert the model with 'verdiff export --{precision_of(precision).name}'",
        )


def _same_types(library: Library, network: ParsedNetwork, graph: EngineGraph) -> str:
    """Refuse a node that gives another type than in the graph; an island without weights shows in no other way."""
    types, there = element_types(graph.model), network.values()
    floats = {
        name: (node, ONNX_FLOATS[types[name]])
        for node in graph.model.graph.node
        for name in node.output
        if types.get(name) in ONNX_FLOATS
    }
    for name, (node, kind) in floats.items():
        if there.get(name, kind) != kind:
            raise BackendError(
                f"{library.title} reads {node.op_type} {node.name} as {there[name]}",
                f"{kind}, as in the {graph.role} graph",
                REPORT,
            )
    seen = len(floats.keys() & there)
    return f"network: {seen} of {len(floats)} values found by name, all of the graph's types"


def same_tensors(library: Library, found: tuple[TensorInfo, ...], graph: EngineGraph) -> None:
    """Refuse inputs and outputs of other types than the graph's.

    Raises:
        BackendError: Naming the first that differs.
    """
    expected = {tensor.name: replace(tensor, shape=()) for tensor in graph.tensors()}
    there = {tensor.name: replace(tensor, shape=()) for tensor in found}
    for name in {**expected, **there}:
        if there.get(name) != expected.get(name):
            here, wanted = (_told(tensors.get(name)) for tensors in (there, expected))
            raise BackendError(
                f"{library.title} made {name} {here}",
                f"{wanted}, as in the {graph.role} graph",
                REPORT,
            )


def prove_weights(
    graph: EngineGraph,
    reported: int | None,
    source: str,
    precision: str,
    layers: Mapping[str, int],
    plan: PlanWeights,
) -> list[str]:
    """Check how much the engine keeps of weights: nearer to the graph's typed weights than to FP32's.

    Args:
        graph: What was built.
        reported: Bytes; None proves nothing, and is said.
        source: Library or report that they come from.
        precision: What was asked for.
        layers: How many of the engine's layers give which type, from :func:`prove_engine`; empty if it was not asked.
        plan: What was seen of them in the plan.

    Raises:
        BackendError: FP16 was asked for, the weights take the room of FP32, and nothing else says that they are FP16.
    """
    weights = graph.weights()
    typed, single = sum(each.nbytes for each in weights), sum(4 * each.size for each in weights)
    if reported is None:
        return ["weights: not reported, so the network's types are all there is"]
    limit = (typed + single) // 2 + ALIGNMENT * len(weights)
    told = f"{source}: {reported:,} bytes of weights; the graph has {typed:,}, in FP32 they would be {single:,}"
    if precision != REFERENCE and typed < single and reported > limit:
        # A kernel may want its weights transformed or padded, and each profile may have its own copy of them.
        if plan.convincing:
            return [f"{told}; more than the graph's, and most layers' are in the plan in the graph's types"]
        reduced = sum(number for kind, number in layers.items() if kind != "FP32")
        if reduced > layers.get("FP32", 0):
            return [f"{told}; more than the graph's, in an engine most of whose layers are in reduced precision"]
        raise BackendError(
            f"{precision} was asked for, and the engine keeps {reported:,} bytes of weights",
            f"about {typed:,} bytes, as in the graph; {single:,} would be FP32",
            REPORT,
        )
    return [told]


def prove_engine(library: Library, engine: trt.ICudaEngine, graph: EngineGraph) -> tuple[list[str], Counter[str], int]:
    """Ask a deserialised engine for the types of its inputs, outputs and layers.

    Returns:
        What was proven, how many layers give which type, and the device memory that a context of the engine takes.

    Raises:
        BackendError: See :func:`same_tensors`.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    tensors = tuple(
        TensorInfo(
            name,
            numpy_name(engine.get_tensor_dtype(name)),
            "input" if engine.get_tensor_mode(name) == library.api.TensorIOMode.INPUT else "output",
            plain_shape(engine.get_tensor_shape(name)),
        )
        for name in names
    )
    same_tensors(library, tensors, graph)
    proof = ["engine: inputs and outputs have the graph's types"]
    inspector = engine.create_engine_inspector()
    layers = layer_types(inspector.get_engine_information(library.api.LayerInformationFormat.JSON))
    if layers:
        proof.append(
            "engine: layers by type of output: " + ", ".join(f"{n} {kind}" for kind, n in sorted(layers.items()))
        )
    return proof, layers, engine.device_memory_size_v2


def weight_bytes(engine: trt.ICudaEngine) -> int | None:
    """What a deserialised engine keeps of weights; None before TensorRT 10.14, which does not tell."""
    ask = getattr(engine, "get_engine_stat", None)
    return None if ask is None else int(ask())


def layer_types(information: str) -> Counter[str]:
    """How many layers give which type, from the engine inspector's JSON; empty where it holds no layer details."""
    found: Counter[str] = Counter()
    try:
        layers = json.loads(information).get("Layers", [])
    except (ValueError, AttributeError):
        return found
    for layer in layers:
        outputs = layer.get("Outputs", []) if isinstance(layer, dict) else []
        for text in {str(output.get("Format/Datatype", "")) for output in outputs if isinstance(output, dict)}:
            found[_kind_of(text)] += 1
    return found


def convolution_types(graph: EngineGraph) -> dict[str, str]:
    """What every convolution of the ONNX graph computes in, by node name; ``"int8"`` behind a DequantizeLinear."""
    types = element_types(graph.model)
    dequantised = {node.output[0] for node in graph.model.graph.node if node.op_type == "DequantizeLinear"}
    return {
        node.name: "int8"
        if dequantised.issuperset(node.input[:2])
        else ONNX_FLOATS.get(types.get(node.output[0], 0), "another type")
        for node in graph.model.graph.node
        if node.op_type in CONVOLUTIONS
    }


def _kind_of(text: str) -> str:
    if re.search(r"fp16|half", text, re.IGNORECASE):
        return "FP16"
    if re.search(r"fp32|float", text, re.IGNORECASE):
        return "FP32"
    return text.rpartition(" ")[2] or "other"


def _told(tensor: TensorInfo | None) -> str:
    return "no tensor" if tensor is None else f"an {tensor.mode} of {tensor.dtype}"
