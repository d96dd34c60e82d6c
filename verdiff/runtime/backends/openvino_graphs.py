"""A network as OpenVINO's CPU plugin runs it fastest: compiled for each slice size, norms in the convolutions' layout.

A group norm reaches OpenVINO as reshape, MVN, reshape, which wants each channel's pixels side by side, while the
convolutions want each pixel's channels side by side; every norm then costs two passes that only move memory. Written
as means over the pixels, a few numbers a channel and one multiplication and addition, nothing is moved. OpenVINO keeps
the layout only where it knows every size, so a network is compiled for each size of slice (docs/precision.md).
"""

from __future__ import annotations

import io
import math
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BackendError
from verdiff.runtime import silent

Shapes = dict[str, tuple[int, ...]]

# A program sees the slices of a few protocols; a compiled network holds its weights and one slice's maps.
KEPT = 4
PIXEL_AXES = [2, 3]


class SizedNetwork:
    """A graph, compiled for every size of input that comes; the last few are kept. Threads may share it.

    Args:
        graph: The ONNX file.
        role: ``"prior"`` or ``"denoiser"``, for messages.
        settings: Settings of ``compile_model``; with the precision hint ``"f32"`` the norms are rewritten. In bf16 they
            stay one operation, which computes in FP32 inside, where a difference of means would lose its digits.

    Raises:
        BackendError: OpenVINO cannot read the graph, or later cannot compile it.
    """

    def __init__(self, graph: bytes, role: str, settings: dict[str, Any]) -> None:
        self._openvino: Any = silent.openvino()
        self._core = self._openvino.Core()
        self._role, self._settings = role, settings
        try:
            self._model = self._core.read_model(io.BytesIO(graph))
        except Exception as error:
            raise self._refusal(error) from error
        self._compiled: dict[tuple[Any, ...], Any] = {}
        self._lock = Lock()
        self._compile_s = math.inf
        self.types: dict[str, Any] = {
            name: port.get_element_type().to_dtype() for port in self._model.inputs for name in port.names
        }

    def accepted(self, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What of ``feed`` the network takes, in its types.

        OpenVINO drops an input that nothing in the graph reads, such as the prior of a denoiser that starts from it.
        """
        return {
            name: np.ascontiguousarray(array, self.types[name]) for name, array in feed.items() if name in self.types
        }

    def compiled(self, shapes: Shapes) -> Any:
        """The network for inputs of these shapes, an ``openvino.CompiledModel``."""
        key = tuple(sorted(shapes.items()))
        with self._lock:
            found = self._compiled.pop(key, None)
            self._compiled[key] = self._compile(shapes) if found is None else found
            for oldest in list(self._compiled)[:-KEPT]:
                del self._compiled[oldest]
            return self._compiled[key]

    def waits_s(self, rows: int, cols: int) -> float:
        """Seconds until it can take slices of a size: 0 where it is compiled for them, else what one took so far."""
        # Of a network's inputs the image is the largest, or as large as any.
        kept = {max((shape[-2:] for _, shape in key if len(shape) == 4), key=math.prod) for key in self._compiled}
        return 0.0 if (rows, cols) in kept or math.isinf(self._compile_s) else self._compile_s

    def _compile(self, shapes: Shapes) -> Any:
        begun = perf_counter()
        compiled = self._compiled_for(shapes)
        self._compile_s = min(self._compile_s, perf_counter() - begun)
        return compiled

    def _compiled_for(self, shapes: Shapes) -> Any:
        model = self._model.clone()
        try:
            model.reshape({name: self._openvino.PartialShape(list(shape)) for name, shape in shapes.items()})
            if self._settings["INFERENCE_PRECISION_HINT"] == "f32":
                keep_layout(self._openvino, model)
            return self._core.compile_model(model, "CPU", self._settings)
        except Exception as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> BackendError:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        return BackendError(
            f"openvino {self._openvino.__version__} cannot load the {self._role} graph: {first_line}",
            "a graph this version can run",
            "run 'verdiff doctor', update openvino, or pass --backend onnxruntime",
        )


def computes_bf16() -> bool:
    """Whether the processor multiplies in bf16, as OpenVINO sees it."""
    openvino: Any = silent.openvino()
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def keep_layout(openvino: Any, model: Any) -> int:
    """Rewrite the group norms of ``model``, whose shapes are known; returns how many there were.

    The variance is the mean of squares less the square of the mean, in FP32.
    """
    count = 0
    for norm in [node for node in model.get_ordered_ops() if node.get_type_name() == "MVN"]:
        count += _rewrite(openvino.opset13, norm)
    return count


def _rewrite(ops: Any, norm: Any) -> bool:
    """One ``Reshape -> MVN -> Multiply -> Add -> Reshape``; anything else is left as it is."""
    grouping = norm.input_value(0).get_node()
    if grouping.get_type_name() != "Reshape":
        return False
    maps = grouping.input_value(0)
    shape, grouped = list(maps.get_shape()), list(grouping.output(0).get_shape())
    gain = _only(norm, "Multiply")
    bias = _only(gain, "Add")
    last = _only(bias, "Reshape")
    if len(shape) != 4 or len(grouped) != 3 or last is None or list(last.output(0).get_shape()) != shape:
        return False
    gains, biases = _constant(gain), _constant(bias)
    if gains is None or biases is None or not gains.size == biases.size == grouped[1]:
        return False
    channels, groups, pixels = shape[1], grouped[1], shape[2] * shape[3]
    gains, biases = np.repeat(gains, channels // groups), np.repeat(biases, channels // groups)

    # The affine part of a group norm, a gain and a bias a channel, follows as two nodes of its own.
    own_gain = _only(last, "Multiply")
    own_bias = _only(own_gain, "Add")
    own_gains, own_biases = _constant(own_gain), _constant(own_bias)
    if own_gains is not None and own_biases is not None and own_gains.size == own_biases.size == channels:
        gains, biases, last = gains * own_gains, biases * own_gains + own_biases, own_bias

    def const(values: Any, kind: type[np.generic] = np.float32) -> Any:
        return ops.constant(np.asarray(values, kind))

    axes, members = const(PIXEL_AXES, np.int64), const([2], np.int64)
    by_group, by_channel = (
        const([shape[0], groups, channels // groups], np.int64),
        const([shape[0], channels, 1, 1], np.int64),
    )
    # ReduceL2 reads the maps once and writes no squares.
    length = ops.reshape(ops.reduce_l2(maps, axes, True), by_group, False)
    mean = ops.reduce_mean(ops.reshape(ops.reduce_mean(maps, axes, True), by_group, False), members, True)
    squares = ops.multiply(ops.reduce_mean(ops.multiply(length, length), members, True), const(1 / pixels))
    variance = ops.subtract(squares, ops.multiply(mean, mean))
    deviation = ops.sqrt(ops.add(ops.relu(variance), const(norm.get_attributes()["eps"])))
    scale = ops.divide(const(gains.reshape(1, groups, -1)), deviation)
    shift = ops.subtract(const(biases.reshape(1, groups, -1)), ops.multiply(mean, scale))
    result = ops.add(ops.multiply(maps, ops.reshape(scale, by_channel, False)), ops.reshape(shift, by_channel, False))
    result.set_friendly_name(last.get_friendly_name())
    for reader in list(last.output(0).get_target_inputs()):
        reader.replace_source_output(result.output(0))
    return True


def _only(node: Any, kind: str) -> Any:
    """The one reader of ``node`` of this kind; None where there is none, or several, or a reader that wants values."""
    if node is None:
        return None
    readers = [reader.get_node() for reader in node.output(0).get_target_inputs()]
    wanted = [reader for reader in readers if reader.get_type_name() == kind]
    others = {reader.get_type_name() for reader in readers} - {kind, "ShapeOf"}
    return wanted[0] if len(wanted) == 1 and not others else None


def _constant(node: Any) -> NDArray[np.float32] | None:
    """The constant operand of a Multiply or Add, flat; None without one."""
    for value in () if node is None else node.input_values():
        source = value.get_node()
        while source.get_type_name() in ("Reshape", "Convert", "Unsqueeze"):
            source = source.input_value(0).get_node()
        if source.get_type_name() == "Constant":
            return np.asarray(source.get_data(), np.float32).ravel()
    return None
