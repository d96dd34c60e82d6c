"""How much arithmetic a network asks for, and how much the machine can do: a time short of its aim comes with both.

Counted are the products of convolutions and matrix products, a multiplication and an addition each (2 FLOP). What goes
element by element (norms, activations, resizing) is left out: it moves memory and computes little.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.benchmarks.fresh import run_fresh
from verdiff.benchmarks.harness import measure
from verdiff.errors import BackendError, BundleError
from verdiff.extras import install

MATMUL_SIZE = 2048
# What sets the threads of the BLAS behind numpy, whichever it is; read once, when the process starts.
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

Shapes = dict[str, tuple[int, ...]]


def graph_gflop(model_bytes: bytes, rows: int, cols: int) -> float:
    """GFLOP of one run of a prior or denoiser graph on one image of ``rows`` x ``cols`` pixels.

    Args:
        model_bytes: An ONNX model whose first input is [N, C, H, W]; other inputs' sizes follow from its symbols
            (``H``, or ``16xrows`` and ``8xrows`` for a feature at half the rows).
        rows: Rows of the first input, a multiple of what the network needs.
        cols: Columns of it.

    Raises:
        BackendError: The onnx package is not installed.
        BundleError: Not such a graph, or a size in it cannot be told before it runs.
    """
    try:
        import onnx
    except ImportError as error:
        raise BackendError("onnx is not installed", "it, to count a network's arithmetic", install("export")) from error
    model = onnx.load_from_string(model_bytes)
    _fix_inputs(model.graph, {0: 1, 2: rows, 3: cols})
    shapes = _static_shapes(model)
    total = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            total += 2 * _products(node, shapes)
    return total / 1e9


def matmul_gflops(threads: int, *, size: int = MATMUL_SIZE, repeats: int = 9) -> float:
    """GFLOP/s of a float32 product of two ``size`` x ``size`` matrices in numpy on so many threads, the median.

    It runs in a fresh process, because a BLAS takes its threads once, and waits until it is done.
    """
    environment = dict.fromkeys(BLAS_THREADS, str(threads))
    task = {"size": size, "repeats": repeats}
    return float(run_fresh("verdiff.benchmarks.flops:time_matmul", task, environment=environment).result)


def time_matmul(size: int, repeats: int) -> float:
    """What the fresh process of :func:`matmul_gflops` runs."""
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    out = np.empty_like(first)
    timing = measure(lambda: np.matmul(first, second, out=out), repeats=repeats, between=lambda: None)
    return 2 * size**3 / timing.median / 1e9


def _fix_inputs(graph: Any, sizes: Mapping[int, int]) -> None:
    """Put numbers for the inputs' symbols; the first input's dimensions ``sizes`` say what each symbol is."""
    symbols: dict[str, float] = {}
    first = graph.input[0].type.tensor_type.shape.dim
    if len(first) != 4:
        raise _unknown(f"an input {graph.input[0].name} of {len(first)} dimensions")
    for axis, size in sizes.items():
        factor, symbol = _symbol(first[axis].dim_param)
        symbols.setdefault(symbol, size / factor)
    for value in graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value"):
                continue
            factor, symbol = _symbol(dim.dim_param)
            if symbol not in symbols:
                raise _unknown(f"an input {value.name} with a size {dim.dim_param!r} of its own")
            dim.dim_value = round(factor * symbols[symbol])
    # Declared sizes of everything else are symbols still, and would hide what is inferred from the numbers.
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    del graph.value_info[:]


def _symbol(text: str) -> tuple[int, str]:
    """``"16xrows"`` -> (16, "rows"), as the exporter writes sixteen times a symbol; ``"H"`` -> (1, "H")."""
    found = re.fullmatch(r"(\d+)x(\w+)", text)
    return (int(found[1]), found[2]) if found else (1, text)


def _static_shapes(model: Any) -> Shapes:
    """Every tensor's size. Sizes that a graph computes (Shape, Div, Concat, Reshape) are folded to numbers by turns."""
    from onnx import TensorProto, numpy_helper, shape_inference

    graph = model.graph
    constants = {
        each.name: numpy_helper.to_array(each) for each in graph.initializer if each.data_type == TensorProto.INT64
    }
    while True:
        inferred = shape_inference.infer_shapes(model).graph
        shapes: Shapes = {each.name: tuple(each.dims) for each in graph.initializer}
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            dims = value.type.tensor_type.shape.dim
            if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
                shapes[value.name] = tuple(dim.dim_value for dim in dims)
        folded = {name: value for node in graph.node for name, value in _fold(node, shapes, constants).items()}
        if not folded:
            return shapes
        for node in [node for node in graph.node if node.output[0] in folded]:
            graph.node.remove(node)
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in folded.items())


def _fold(node: Any, shapes: Shapes, constants: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The node's output if it is known integers, also put into ``constants``; else nothing."""
    from onnx.reference import ReferenceEvaluator

    if len(node.output) > 1:
        return {}
    if node.op_type == "Shape" and node.input[0] in shapes:
        bounds = {each.name: each.i for each in node.attribute}
        value = np.array(shapes[node.input[0]][bounds.get("start", 0) : bounds.get("end")], np.int64)
    elif node.op_type == "Constant" or (node.input and all(name in constants for name in node.input)):
        evaluated: Any = ReferenceEvaluator(node).run(None, {name: constants[name] for name in node.input})
        value = np.asarray(evaluated[0])
    else:
        return {}
    if value.dtype != np.int64:
        return {}
    constants[node.output[0]] = value
    return {node.output[0]: value}


def _products(node: Any, shapes: Shapes) -> int:
    """Multiplications of one node, from the sizes of what goes in and comes out."""
    missing = [name for name in (*node.input[:2], node.output[0]) if name not in shapes]
    if missing:
        raise _unknown(f"{node.op_type} {node.name} on {missing[0]}, whose size depends on its values")
    left, right, out = (shapes[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(right[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:])
    attributes = {each.name: each.i for each in node.attribute}
    return math.prod(out) * left[-2 if attributes.get("transA") else -1]


def _unknown(found: str) -> BundleError:
    return BundleError(
        found, "a graph whose sizes follow from its first input's", "export the model with 'verdiff export'"
    )
