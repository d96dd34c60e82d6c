"""A prior and a denoiser of a few layers with random weights, and where faults can be planted in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from tests.runtime.tiny_bundle import tiny_manifest
from verdiff.bundle import Feature, Manifest
from verdiff.diffusion import noise_source
from verdiff.export.builder import GraphBuilder, make_model, tensor_info
from verdiff.export.precision.networks import NetworkPair, PatientSlices

WIDTH, CLASSES, ROWS, COLS = 6, 3, 24, 16


def _weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def _norm(b: GraphBuilder, value: str) -> str:
    ones, zeros = b.const(np.ones(WIDTH), np.float32), b.const(np.zeros(WIDTH), np.float32)
    return b.op("InstanceNormalization", value, ones, zeros)


def _answer(b: GraphBuilder, logits: str, name: str) -> None:
    two, one = b.const(2.0, np.float32), b.const(1.0, np.float32)
    b.op("Sub", b.op("Mul", b.op("Sigmoid", logits), two), one, out=name)


def prior_graph(*, gain: float = 1.0, offset: float = 0.0) -> onnx.ModelProto:
    """image -> prior, feature_0.

    Args:
        gain: Between two layers, in two factors, undone before the second layer: at 1e6 the values there leave
            FP16's range and no weight does.
        offset: Added and taken away again before the last layer: at 1000 nothing but FP32 keeps the digits.
    """
    rng, b = np.random.default_rng(0), GraphBuilder()
    enter = b.op("Conv", "image", b.const(_weights(rng, WIDTH, 1, 3, 3)), pads=[1, 1, 1, 1], out="entered")
    up = b.const(gain**0.5, np.float32)
    loud = b.op("Mul", b.op("Mul", b.op("Relu", _norm(b, enter)), up), up, out="loud")
    quiet = b.op("Mul", loud, b.const(1 / gain, np.float32), out="quiet")
    wide = b.op("Conv", quiet, b.const(_weights(rng, WIDTH, WIDTH, 3, 3)), pads=[1, 1, 1, 1], out="widened")
    b.op("Relu", _norm(b, wide), out="feature_0")
    high = b.op("Add", "feature_0", b.const(offset, np.float32), out="lifted")
    low = b.op("Sub", high, b.const(offset, np.float32), out="lowered")
    head = b.const(4 * _weights(rng, CLASSES, WIDTH, 1, 1))
    _answer(b, b.op("Conv", low, head, out="logits"), "prior")
    return _model(b, "prior", ["image"], ["prior", "feature_0"])


def denoiser_graph() -> onnx.ModelProto:
    """x, timestep, prior, feature_0 -> x0hat, the timestep through an embedding that scales the features."""
    rng, b = np.random.default_rng(1), GraphBuilder()
    column = b.op("Unsqueeze", "timestep", b.const([1], np.int64))
    angles = b.op("Mul", column, b.const(np.array([[1.0, 0.1, 0.01]], np.float32)))
    waves = b.op("Concat", b.op("Cos", angles), b.op("Sin", angles), axis=1)
    scale = b.op("Gemm", waves, b.const(_weights(rng, 6, WIDTH)), b.const(np.ones(WIDTH), np.float32), out="embedded")
    scale = b.op("Unsqueeze", scale, b.const([2, 3], np.int64))
    both = b.op("Concat", "x", "prior", axis=1)
    enter = b.op("Conv", both, b.const(_weights(rng, WIDTH, 2 * CLASSES, 3, 3)), pads=[1, 1, 1, 1], out="entered")
    mixed = b.op("Add", b.op("Mul", _norm(b, enter), scale), "feature_0", out="mixed")
    head = b.const(4 * _weights(rng, CLASSES, WIDTH, 3, 3))
    _answer(b, b.op("Conv", b.op("Relu", mixed), head, pads=[1, 1, 1, 1], out="logits"), "x0hat")
    return _model(b, "denoiser", ["x", "timestep", "prior", "feature_0"], ["x0hat"])


def _model(b: GraphBuilder, name: str, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    channels = {"image": 1, "feature_0": WIDTH}

    def info(value: str) -> onnx.ValueInfoProto:
        if value == "timestep":
            return tensor_info(value, ["N"])
        return tensor_info(value, ["N", channels.get(value, CLASSES), "H", "W"])

    graph = onnx.helper.make_graph(b.nodes, name, [*map(info, inputs)], [*map(info, outputs)], b.initializers)
    model = make_model(graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def networks(**faults: float) -> NetworkPair:
    """The two networks; ``faults`` go to :func:`prior_graph`."""
    return NetworkPair(prior_graph(**faults), denoiser_graph())


def manifest() -> Manifest:
    """A manifest that fits them."""
    return replace(tiny_manifest(), features=(Feature("feature_0", WIDTH, 1),))


def patients(count: int = 6) -> list[PatientSlices]:
    """Smooth random slices."""
    found = []
    for index in range(count):
        noise = noise_source(index, slices=[0], samples=[0], shape=(1, ROWS, COLS))(0)
        smooth = sum(np.roll(noise, shift, axis) for shift in (-1, 0, 1) for axis in (2, 3)) / 3
        found.append(PatientSlices(f"patient {index}", np.clip(smooth, -1, 1).astype(np.float32)))
    return found


def node_of(model: onnx.ModelProto, output: str) -> str:
    """Name of the node that makes ``output``."""
    return next(node.name for node in model.graph.node if output in node.output)


def scale_weight(model: onnx.ModelProto, name: str, factor: float) -> onnx.ModelProto:
    """A copy with one initializer multiplied."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = next(tensor for tensor in copy.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((values * factor).astype(values.dtype), name))
    return copy
