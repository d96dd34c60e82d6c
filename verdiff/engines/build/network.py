"""An ONNX graph as TensorRT's strongly typed network, and the parser's complaints with the nodes' names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verdiff.engines import ProfileShape, TensorInfo
from verdiff.engines.build.graphs import EngineGraph
from verdiff.engines.library import Library, numpy_name
from verdiff.errors import BackendError

if TYPE_CHECKING:
    import tensorrt as trt

MIXED_TYPES = "must have same input types"
ASYMMETRIC = "Non-zero zero point"
INTEGER_BIAS = "input has type Int32 but must have type"
# Where TensorRT's own source stands in its messages.
_PLACES = re.compile(r"^[\w:]+: Error Code \d+: [\w ]+ \(|\s*In \w+ at /_src/\S+\)?|^Assertion failed: ")


@dataclass(frozen=True)
class ParsedNetwork:
    """A parsed network. The parser owns the weights, so it lives as long.

    Attributes:
        builder: What made it.
        definition: The layers.
        parser: Parser of its ONNX file.
    """

    builder: trt.Builder
    definition: trt.INetworkDefinition
    parser: trt.OnnxParser

    def types(self, kind: trt.LayerType) -> dict[str, str]:
        """The type (``"float32"``, ``"float16"``) that every layer of a kind gives, by its ONNX node's name."""
        layers = (self.definition.get_layer(index) for index in range(self.definition.num_layers))
        return {layer.name: numpy_name(layer.get_output(0).dtype) for layer in layers if layer.type == kind}

    def values(self) -> dict[str, str]:
        """The type of every value between the layers, by its name; those of the ONNX graph keep theirs."""
        layers = (self.definition.get_layer(index) for index in range(self.definition.num_layers))
        made = (layer.get_output(index) for layer in layers for index in range(layer.num_outputs))
        return {value.name: numpy_name(value.dtype) for value in made}

    def tensors(self) -> tuple[TensorInfo, ...]:
        """Its inputs and outputs; -1 where a shape is dynamic."""
        network = self.definition
        inputs = [(network.get_input(index), "input") for index in range(network.num_inputs)]
        outputs = [(network.get_output(index), "output") for index in range(network.num_outputs)]
        return tuple(
            TensorInfo(tensor.name, numpy_name(tensor.dtype), mode, plain_shape(tensor.shape))
            for tensor, mode in (*inputs, *outputs)
        )

    def add_profile(self, config: trt.IBuilderConfig, profile: ProfileShape) -> None:
        """Tell ``config`` what the inputs may be.

        Raises:
            BackendError: The ranges do not fit the network.
        """
        ranges = self.builder.create_optimization_profile()
        try:
            for each in profile.ranges:
                set_range = ranges.set_shape_input if each.values else ranges.set_shape
                set_range(each.name, list(each.minimum), list(each.optimum), list(each.maximum))  # type: ignore[arg-type]
            added = config.add_optimization_profile(ranges)
        except (ValueError, RuntimeError) as error:
            raise _no_profile(profile, str(error)) from error
        if added < 0:
            raise _no_profile(profile, "TensorRT refused it")


def plain_shape(shape: trt.Dims) -> tuple[int, ...]:
    """TensorRT's shape as a tuple; -1 is a dynamic length."""
    return tuple(shape[axis] for axis in range(len(shape)))


def parse(library: Library, graph: EngineGraph) -> ParsedNetwork:
    """Read a graph into a strongly typed network.

    Raises:
        BackendError: TensorRT cannot make a builder, or refuses the graph; names every node it refuses.
    """
    try:
        builder = library.api.Builder(library.logger)
    except (TypeError, RuntimeError) as error:
        raise BackendError(
            f"{library.title} cannot start ({'; '.join(library.messages.errors()) or error})",
            "a working NVIDIA driver",
            "run 'verdiff doctor'",
        ) from error
    definition = builder.create_network(library.network_flags())
    parser = library.api.OnnxParser(definition, library.logger)
    accepted = parser.parse(graph.model.SerializeToString())
    if not accepted or parser.num_errors:
        raise _refused(library, graph.role, [parser.get_error(index) for index in range(parser.num_errors)])
    if not definition.num_outputs:
        # Bytes that are no graph at all are accepted as an empty one.
        raise BackendError(
            f"{library.title} reads no output in the {graph.role} graph",
            "a graph with outputs",
            "export the model again with 'verdiff export'",
        )
    return ParsedNetwork(builder, definition, parser)


def _refused(library: Library, role: str, errors: list[trt.ParserError]) -> BackendError:
    lines = [f"{_node(error)}: {plain_reason(error.desc())}" for error in errors] or ["no reason given"]
    text = " ".join(error.desc() for error in errors)
    remedy = "export the model again, or report this message"
    if MIXED_TYPES in text:
        remedy = "convert it with 'verdiff export --fp16', which puts a Cast wherever two precisions meet"
    elif ASYMMETRIC in text or INTEGER_BIAS in text:
        remedy = "quantise symmetrically to signed INT8 and leave every bias in floating point"
    return BackendError(
        f"{library.title} refuses the {role} graph at {'; '.join(lines)}",
        "a strongly typed graph of operators that TensorRT has, in which the inputs of a node have one type",
        remedy,
    )


def _node(error: trt.ParserError) -> str:
    name, operator = error.node_name(), error.node_operator()
    return f"node {name} ({operator})" if name or operator else "the graph"


def plain_reason(text: str) -> str:
    """What a message of TensorRT's says, without where in its source it was said and without repeating the node."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [_PLACES.sub("", line).rstrip(")") for line in lines if "cudaError" not in line]
    # "false" is the check that says no and nothing else.
    kept = [line for line in lines if line not in ("", "false") and not line.startswith("Invalid Node")]
    return " ".join(kept) or "not supported"


def _no_profile(profile: ProfileShape, reason: str) -> BackendError:
    return BackendError(
        f"the shapes of {profile.bucket.size} do not fit the graph ({reason})",
        "ranges within the graph's own shapes",
        "choose another --size",
    )
