"""Which graph an engine is built from, and what its inputs may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from verdiff.bundle import Bundle, Manifest
from verdiff.bundle.objects import stated
from verdiff.diffusion.step_graph import step_graph
from verdiff.engines import (
    STORED,
    Bucket,
    ProfileShape,
    TensorInfo,
    TensorRange,
    engine_roles,
    missing_graph,
    stored_hash,
)
from verdiff.engines.build.islands import keep_islands
from verdiff.errors import BackendError, BundleError
from verdiff.export.builder import OPSET
from verdiff.export.pipeline import build_pipeline
from verdiff.export.precision.graphs import plain_weights

Shape = tuple[int, ...]

WEIGHTS = ("float32", "float16", "bfloat16", "int8")
# Slices of the pipeline come in the scan's own pixels.
LEAST_SCAN_PIXELS, MOST_SCAN_PIXELS = 16, 1024


@dataclass(frozen=True)
class EngineGraph:
    """What TensorRT is given.

    Attributes:
        role: ``"prior"``, ``"step"`` or ``"pipeline"``.
        model: The graph, its weights plain initializers in the types they compute in, every node named.
        sha256: Hash of what it was made from, as the engine's key has it.
    """

    role: str
    model: onnx.ModelProto
    sha256: str

    def tensors(self) -> tuple[TensorInfo, ...]:
        """Its inputs and outputs; -1 where a shape is dynamic."""
        graph = self.model.graph
        return tuple(
            TensorInfo(
                value.name,
                helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                mode,
                tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim),
            )
            for mode, values in (("input", graph.input), ("output", graph.output))
            for value in values
        )

    def weights(self) -> list[NDArray[np.generic]]:
        """Its weights as they are stored: float32, a half precision or INT8; indices and shapes are none."""
        arrays = (numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer)
        return [array for array in arrays if array.dtype.name in WEIGHTS]


def engine_graph(bundle: Bundle, role: str, precision: str) -> EngineGraph:
    """The graph of a role in a precision: as the bundle holds it, or made of what it holds.

    Raises:
        BackendError: The bundle does not carry the precision, or the graph cannot run in an engine.
        BundleError: The model has no such role.
    """
    stored = STORED[role]
    digest = stored_hash(bundle, role, precision)
    if digest is not None:
        model = onnx.load_from_string(bundle.graph(stored, precision))
    elif role == "pipeline":
        model, digest = _pipeline(bundle, precision), bundle.manifest_sha256
    else:
        raise missing_graph(bundle, stored, precision)
    check_engine_graph(model, role)
    if role == "step":
        model = build_step(model)
    return EngineGraph(role, keep_islands(plain_weights(model)), digest)


def check_engine_graph(model: onnx.ModelProto, role: str) -> None:
    """Refuse what TensorRT would take and run otherwise than the graph says.

    Raises:
        BackendError: Control flow, which no CUDA graph can hold, or unsigned quantisation, which TensorRT reads as
            signed; with the node's name.
    """
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
            raise BackendError(
                f"the {role} graph has control flow: {node.op_type} {node.name or node.output[0]}",
                "a graph without If, Loop and Scan, since a CUDA graph cannot hold them",
                "build the roles prior and step, whose loop is the runtime's, or the unrolled pipeline",
            )
        quantises = node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2
        if quantises and types.get(node.input[2]) == TensorProto.UINT8:
            raise BackendError(
                f"the {role} graph quantises to unsigned numbers: {node.op_type} {node.name or node.output[0]}",
                "symmetric signed INT8, which is what TensorRT runs, whatever such a node says",
                "build from the graph that was quantised for TensorRT",
            )


def build_step(denoiser: onnx.ModelProto) -> onnx.ModelProto:
    """The denoiser with the sampler's update behind it (:mod:`verdiff.diffusion.step_graph`).

    What the update takes and gives is declared as x is: TensorRT tunes kernels for a number of channels that it knows.

    Raises:
        BundleError: See :func:`check_denoiser`.
    """
    check_denoiser(denoiser)
    step = onnx.load_from_string(step_graph(denoiser.SerializeToString()))
    x = next(value for value in step.graph.input if value.name == "x")
    for value in (*step.graph.input, *step.graph.output):
        if value.name in ("noise", "previous", "x_next"):
            value.type.CopyFrom(x.type)
    return step


def check_denoiser(model: onnx.ModelProto) -> None:
    """Refuse a graph that the sampler's update does not fit behind.

    Raises:
        BundleError: An input or output is missing, unknown, or not of its type.
    """
    values = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    needed = ("x", "timestep", "prior", "x0hat")
    missing = [f"without {name}" for name in needed if name not in values]
    others = [f"with the input {name}" for name in values if name not in needed and not name.startswith("feature_")]
    single = [name for name in needed if values.get(name) != TensorProto.FLOAT]
    if found := [*missing, *others, *(f"whose {name} is not float32" for name in single)]:
        raise BundleError(
            f"a denoiser graph {found[0]}",
            "x, timestep and prior in float32, feature_0, feature_1, ...; x0hat in float32",
            "export the model again with 'verdiff export'",
        )


def profile_of(graph: EngineGraph, bucket: Bucket, manifest: Manifest) -> ProfileShape:
    """The optimisation profile of a bucket: the range of every input of dynamic shape."""
    return ProfileShape(tuple(_ranges(graph, bucket, manifest)))


def _ranges(graph: EngineGraph, bucket: Bucket, manifest: Manifest) -> Iterator[TensorRange]:
    strides = {feature.name: feature.stride for feature in manifest.features}
    step = manifest.multiple
    samples = max(1, manifest.defaults.samples)  # a model of one pass has none: an image a slice
    batches = (bucket.batch_min, bucket.batch_opt, bucket.batch_max)
    slices = [max(1, batch // samples) for batch in batches]
    # A slice is not padded to its bucket: that would change the statistics its features are normalised with.
    sizes = ((step, step), (bucket.rows, bucket.cols), (bucket.rows, bucket.cols))
    scans = ((LEAST_SCAN_PIXELS,) * 2, sizes[1], [max(MOST_SCAN_PIXELS, length) for length in sizes[2]])
    for tensor in graph.tensors():
        if tensor.mode == "output" or (-1 not in tensor.shape and tensor.name != "size"):
            continue
        if tensor.name == "size":
            yield TensorRange("size", *_three([(1, 1), *sizes[1:]]), values=True)
        elif tensor.name == "slices":
            yield TensorRange("slices", *_three((n, *scan) for n, scan in zip(slices, scans, strict=True)))
        elif tensor.name == "noise" and graph.role == "pipeline":
            counts = zip((1, samples, samples), slices, sizes, strict=True)
            yield TensorRange("noise", *_three((m, n, tensor.shape[2], *size) for m, n, size in counts))
        else:
            stride = strides.get(tensor.name, 1)
            shapes: list[Shape] = [(batch,) for batch in batches]
            if len(tensor.shape) == 4:
                planes = ((tensor.shape[1], rows // stride, cols // stride) for rows, cols in sizes)
                shapes = [(*batch, *plane) for batch, plane in zip(shapes, planes, strict=True)]
            yield TensorRange(tensor.name, *_three(shapes))


def _three(shapes: Iterable[Shape]) -> tuple[Shape, Shape, Shape]:
    least, best, most = shapes
    return least, best, most


def _pipeline(bundle: Bundle, precision: str) -> onnx.ModelProto:
    manifest, instead = bundle.manifest, f"build the roles {' and '.join(engine_roles(bundle))}"
    if precision == "bf16":
        raise BackendError(
            "the pipeline in bf16",
            f"another precision: the pipeline is written in operator set {OPSET}, whose convolutions know no BF16",
            f"{instead}, or another --precision",
        )

    def part(role: str) -> onnx.ModelProto:
        if not bundle.has(role, precision):
            raise missing_graph(bundle, role, precision)
        return plain_weights(onnx.load_from_string(bundle.graph(role, precision)))

    ids = tuple(label.id for label in manifest.labels)
    if not bundle.has("denoiser"):
        return build_pipeline(part("prior"), None, None, ids, model_id=manifest.model_id, multiple=manifest.multiple)
    table = stated(manifest.table, "table")
    if not table.deterministic:
        raise BundleError(
            f"{manifest.model_id} samples with noise at every step",
            "a sampler table with eta = 0 for a pipeline of one graph",
            instead,
        )
    return build_pipeline(part("prior"), part("denoiser"), table, ids, model_id=manifest.model_id, unrolled=True)
